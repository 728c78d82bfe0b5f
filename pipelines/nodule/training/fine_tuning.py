"""Fine-tuning with cases that readers have verified: the classifier and the outline network of existing weights."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import click
import numpy as np

from pipelines.nnunet_data_set import DESCRIPTION, DataSetError, NnunetDataSet, read_data_set
from pipelines.nodule.network import ClassifierNet, OutlineNet
from pipelines.nodule.search import Networks
from pipelines.nodule.training.classifier_examples import Example, classifier_batches, classifier_loss, from_stack
from pipelines.nodule.training.hard_negatives import HARD_SHARES
from pipelines.nodule.training.network_training import SEED, Part
from pipelines.nodule.training.outlines import outline_batches, outline_loss
from pipelines.nodule.training.patches import Stack
from pipelines.nodule.training.verified_cases import mistakes, read_cases, stacks_of

RATE = 2e-4
"""A tenth of that of training from chance."""
KEPT_START = 0.5
"""Of the weights to start from, in the mean of both: a site has few cases."""
STEPS = 1200
CLASSIFIER_BATCH, OUTLINE_BATCH = 48, 16
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
        return [*(one for stack in self.stacks for one in from_stack(rng, stack)), *self.mistaken]


def is_verified_set(data: Path) -> bool:
    """Return whether a folder is a data set of nnU-Net v2. Raises ``DataSetError`` when it is no data folder at all."""
    if (data / DESCRIPTION).is_file():
        return True
    if (data / "lidc_patches" / "index.csv").is_file():
        return False
    raise DataSetError(
        f"{data} holds neither {DESCRIPTION} (a data set of nnU-Net v2, as `ainode export` writes) nor "
        "lidc_patches/index.csv; give the folder of a data set"
    )


def tuned_parts(data: Path, networks: Networks, part: str, device: str) -> list[Part]:
    """The networks of ``part`` (or "all") on the first fold of a data set.

    Raises ``DataSetError`` when it cannot be trained on, ``FileNotFoundError`` when a file is missing.
    """
    if part not in (*TUNED, "all"):
        raise DataSetError(f"--part {part} is not trained on verified cases; give {', '.join(TUNED)} or all")
    found = read_data_set(data)
    learned, held_back = (_crops(found, split, networks) for split in ("train", "val"))
    makers = {"classifier": _classifier, "outline": _outline}
    return [makers[name](learned, held_back, device) for name in TUNED if part in (name, "all")]


def _crops(found: NnunetDataSet, split: str, networks: Networks) -> Crops:
    crops = Crops()
    for number, case in enumerate(read_cases(found, split), 1):
        stacks, mistaken = stacks_of(case), list(mistakes(networks, case))
        crops.stacks += stacks
        crops.mistaken += mistaken
        of = f"{number} of {len(found.splits[split])}"
        click.echo(f"{split} {of}: {case.name}, {len(stacks)} lesions, {len(mistaken)} candidates that are none")
    if not crops.stacks:
        raise DataSetError(f"no case of {split} in {found.folder} has a lesion; export more cases")
    return crops


def _classifier(learned: Crops, held_back: Crops, device: str) -> Part:
    examples = learned.examples()
    validation = classifier_batches(SEED + 1, held_back.examples(), 64, _SHARES)
    return Part(
        name="classifier",
        network=ClassifierNet(),
        batches=lambda seed: classifier_batches(seed, examples, CLASSIFIER_BATCH, _SHARES),
        validation=[next(validation) for _ in range(VALIDATION_BATCHES)],
        loss=classifier_loss,
        prepare=lambda images: images,
        steps=STEPS,
        device=device,
        rate=RATE,
    )


def _outline(learned: Crops, held_back: Crops, device: str) -> Part:
    validation = outline_batches(SEED + 1, held_back.stacks, 32)
    return Part(
        name="outline",
        network=OutlineNet(),
        batches=lambda seed: outline_batches(seed, learned.stacks, OUTLINE_BATCH),
        validation=[next(validation) for _ in range(VALIDATION_BATCHES)],
        loss=outline_loss,
        prepare=lambda images: images,
        steps=STEPS,
        device=device,
        rate=RATE,
    )
