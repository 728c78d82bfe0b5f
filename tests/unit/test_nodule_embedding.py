"""Embeddings of nodules: one for each outline, the same for a nodule wherever it lies, and figures that can fail."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipelines.nodule.embedding import DIMENSIONS, HEADS, Embedder
from pipelines.nodule.outline import Outline
from pipelines.nodule.training.embedding import contrast
from pipelines.nodule.training.embedding_figures import balanced, precisions, summary, within_strata

SPACING = (2.0, 0.7, 0.7)


def lungs(*centres: tuple[int, int, int], radius_mm: float = 6.0) -> tuple[np.ndarray, list[Outline]]:
    hu = np.full((40, 200, 200), -870.0, np.float32)
    outlines = []
    index = np.indices(hu.shape)
    for centre in centres:
        away = np.sqrt(sum(((index[i] - centre[i]) * SPACING[i]) ** 2 for i in range(3)))
        mask = away <= radius_mm
        hu[mask] = 40
        box = tuple(slice(int(where.min()), int(where.max()) + 1) for where in np.nonzero(mask))
        outlines.append(Outline(box=box, mask=mask[box], diameter_mm=2 * radius_mm, certainty=1.0))  # type: ignore[arg-type]
    return hu, outlines


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    torch.set_num_threads(1)
    return Embedder("cpu")


def test_the_same_nodule_elsewhere_has_nearly_the_same_embedding_and_a_larger_one_another(embedder: Embedder):
    hu, outlines = lungs((10, 60, 60), (30, 140, 140))
    first, second = map(np.array, embedder.embed(hu, SPACING, outlines))
    large = np.array(embedder.embed(*_of(lungs((20, 100, 100), radius_mm=14.0)))[0])
    assert len(first) == HEADS * DIMENSIONS == embedder.space.dimensions
    assert abs(np.linalg.norm(first) - 1) < 1e-4
    assert first @ second > 0.99
    assert first @ large < 0.9


def _of(made: tuple[np.ndarray, list[Outline]]) -> tuple[np.ndarray, tuple[float, float, float], list[Outline]]:
    return made[0], SPACING, made[1]


def test_without_nodules_there_is_nothing_to_embed(embedder: Embedder):
    assert embedder.embed(lungs()[0], SPACING, []) == []


def test_the_space_is_named_by_the_weights(embedder: Embedder):
    assert embedder.space.name.startswith("nodule-")
    assert len(embedder.space.name) == len("nodule-") + 12


def test_precision_counts_the_kind_of_the_five_nearest_and_never_a_nodule_itself():
    place = np.array([[0.0], [0.1], [0.2], [0.3], [0.4], [0.5], [9.0], [9.1], [9.2], [9.3], [9.4], [9.5]])
    kinds = np.array([0] * 6 + [1] * 6)
    assert precisions(place, place, (kinds, kinds), is_self=True).tolist() == [1.0] * 12
    mixed = np.array([1, *[0] * 5, *[1] * 6])
    values = precisions(place, place, (mixed, mixed), is_self=True)
    assert values[0] == 0.0
    assert values[1] == 0.8
    assert balanced(np.array([1.0, 1.0, 0.5]), np.array([0, 0, 1])) == 0.75
    figures = summary(np.ones(12), kinds, np.array([str(i) for i in range(12)]))
    assert (figures["balanced"], figures["interval"]) == (1.0, [1.0, 1.0])


def test_within_a_stratum_only_nodules_of_about_the_same_size_are_compared():
    size = np.array([3.0] * 6 + [6.0] * 6 + [20.0] * 6)
    kinds = np.array([0, 1] * 9)
    by_size = within_strata((np.log(size)[:, None], kinds, size), (np.log(size)[:, None], kinds, size))
    by_kind = within_strata((kinds[:, None] * 1.0, kinds, size), (kinds[:, None] * 1.0, kinds, size))
    assert by_size["queries"] == [6, 6, 6]
    assert by_size["balanced"] < by_kind["balanced"]


def test_the_contrast_is_less_where_kinds_lie_together():
    apart = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    kinds = torch.tensor([0, 0, 1, 1])
    assert contrast(apart, kinds) < contrast(apart, torch.tensor([0, 1, 0, 1]))
