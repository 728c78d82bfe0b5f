"""Fine-tuning with cases that readers have verified: the classifier and the outline network of existing weights."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import click
import numpy as np

from pipelines.nnunet_data_set import DataSetError, NnunetDataSet, read_data_set
from pipelines.nodule.search import Networks
from pipelines.nodule.training.classifier_examples import Example, from_stack
from pipelines.nodule.training.crop_networks import classifier_on, outline_on
from pipelines.nodule.training.hard_negatives import HARD_SHARES
from pipelines.nodule.training.network_training import SEED, Part
from pipelines.nodule.training.patches import Stack
from pipelines.nodule.training.verified_cases import mistakes, read_cases, stacks_of

RATE = 2e-4
"""A tenth of that of training from chance."""
KEPT_START = 0.5
"""Of the weights to start from, in the mean of both: a site has few cases."""
STEPS = 1200
VALIDATION_BATCHES = 8
TUNED = ("classifier", "outline")
_SHARES = HARD_SHARES | {"nodule": 0.4, "beside": 0.2, "candidate": 0.4}


@dataclass
class Crops:
    """What the cases of one part of a split hold."""

    stacks: list[Stack] = field(default_factory=list)
    mistaken: list[Example] = field(default_factory=list)

    def examples(self) -> list[Example]:
        """All of it for the classifier."""
        rng = np.random.default_rng(SEED)
        return [*(example for stack in self.stacks for example in from_stack(rng, stack)), *self.mistaken]


def tuned_parts(data: Path, networks: Networks, part: str, device: str) -> list[Part]:
    """The networks of ``part`` (or "all") on the first fold of a data set.

    Raises ``DataSetError`` when it cannot be trained on, ``FileNotFoundError`` when a file is missing.
    """
    if part not in (*TUNED, "all"):
        raise DataSetError(f"--part {part} is not trained on verified cases; give {', '.join(TUNED)} or all")
    data_set = read_data_set(data)
    learned, held_back = (_crops(data_set, split, networks) for split in ("train", "val"))
    makers = {"classifier": _classifier, "outline": _outline}
    parts = [makers[name](learned, held_back, device) for name in TUNED if part in (name, "all")]
    for tuned_part in parts:
        tuned_part.rate = RATE
    return parts


def _crops(data_set: NnunetDataSet, split: str, networks: Networks) -> Crops:
    crops = Crops()
    for number, case in enumerate(read_cases(data_set, split), 1):
        stacks, mistaken = stacks_of(case), list(mistakes(networks, case))
        crops.stacks += stacks
        crops.mistaken += mistaken
        of = f"{number} of {len(data_set.splits[split])}"
        click.echo(f"{split} {of}: {case.name}, {len(stacks)} lesions, {len(mistaken)} candidates that are none")
    if not crops.stacks:
        raise DataSetError(f"no case of {split} in {data_set.folder} has a lesion; export more cases")
    return crops


def _classifier(learned: Crops, held_back: Crops, device: str) -> Part:
    return classifier_on(
        learned.examples(),
        held_back.examples(),
        shares=_SHARES,
        judged_by=_SHARES,
        validations=VALIDATION_BATCHES,
        steps=STEPS,
        device=device,
    )


def _outline(learned: Crops, held_back: Crops, device: str) -> Part:
    return outline_on(learned.stacks, held_back.stacks, validations=VALIDATION_BATCHES, steps=STEPS, device=device)
