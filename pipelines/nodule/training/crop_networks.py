"""The two networks that learn from crops round nodules, whoever has outlined these."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipelines.nodule.network import ClassifierNet, OutlineNet
from pipelines.nodule.training.attention import AttentionOutlineNet
from pipelines.nodule.training.classifier_examples import SHARES, Example, classifier_batches, classifier_loss
from pipelines.nodule.training.network_training import SEED, Part
from pipelines.nodule.training.outlines import outline_batches, outline_loss
from pipelines.nodule.training.patches import Stack

CLASSIFIER_BATCH, OUTLINE_BATCH = 48, 16


def classifier_on(
    examples: Sequence[Example],
    held_back: Sequence[Example],
    *,
    shares: Mapping[str, float],
    judged_by: Mapping[str, float] = SHARES,
    validations: int,
    steps: int,
    device: str,
) -> Part:
    """The classifier; ``shares``: how often each kind is drawn, ``judged_by``: the same for validation."""
    validation = classifier_batches(SEED + 1, held_back, 64, judged_by)
    return Part(
        name="classifier",
        network=ClassifierNet(),
        batches=lambda seed: classifier_batches(seed, examples, CLASSIFIER_BATCH, shares),
        validation=[next(validation) for _ in range(validations)],
        loss=classifier_loss,
        prepare=lambda images: images,
        steps=steps,
        device=device,
    )


def outline_on(
    stacks: Sequence[Stack],
    held_back: Sequence[Stack],
    *,
    validations: int,
    steps: int,
    device: str,
    attention: bool = False,
) -> Part:
    """The outline network; with ``attention`` its skips have gates, and the weights are not those that ship."""
    validation = outline_batches(SEED + 1, held_back, 32)
    return Part(
        name="outline",
        network=AttentionOutlineNet() if attention else OutlineNet(),
        batches=lambda seed: outline_batches(seed, stacks, OUTLINE_BATCH),
        validation=[next(validation) for _ in range(validations)],
        loss=outline_loss,
        prepare=lambda images: images,
        steps=steps,
        device=device,
    )
