"""Steps between slices: which missing image is bridged, and what is said of the others."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import pytest

from node.studies.slice_steps import Floats, irregularity, slices_of_images

NORMAL = np.array([0.0, 0.0, 1.0])


def stack(images: int, missing: Collection[int] = (), *, step: float = 1.0) -> Floats:
    """Vectors (LPS mm) from each of so many images to the next, without those that are missing between them."""
    present = [place for place in range(images + len(missing)) if place not in missing]
    return np.diff(present)[:, None] * step * NORMAL


def bridged(vectors: Floats) -> tuple[tuple[int, ...], str]:
    return slices_of_images(vectors @ NORMAL, vectors)


@pytest.mark.parametrize(
    ("images", "missing", "step", "slices", "text"),
    [
        (100, {40}, 1.0, (*range(40), *range(41, 101)), "1 image is missing and was interpolated"),
        (100, {1}, 1.6, (0, *range(2, 101)), "1 image is missing and was interpolated"),
        (
            200,
            {40, 140},
            0.5,
            (*range(40), *range(41, 140), *range(141, 202)),
            "2 images are missing and were interpolated",
        ),
    ],
)
def test_one_image_of_a_hundred_may_be_missing_from_steps_of_up_to_1_6_mm(
    images: int, missing: set[int], step: float, slices: tuple[int, ...], text: str
) -> None:
    places, told = bridged(stack(images, missing, step=step))
    assert places == slices
    assert {type(place) for place in places} == {int}, "they are indices"
    whole = images + len(missing)
    assert told == f"{text} between the neighbours, {images} of {whole} images were analysed"


@pytest.mark.parametrize(
    "vectors",
    [
        stack(1),
        stack(150),
        stack(150) * 0,
        stack(99, {40}),
        stack(199, {40, 140}),
        stack(150, {40}, step=1.61),
        stack(300, {40, 41}),
        np.vstack([stack(300, {40}), 3 * NORMAL]),
    ],
    ids=["one image", "none missing", "one place", "1 of 99", "2 of 199", "1.61 mm", "two in a row", "another step"],
)
def test_of_all_others_no_slice_and_no_word_is_made_up(vectors: Floats) -> None:
    assert bridged(vectors) == ((), "")


@pytest.mark.parametrize(("off", "is_bridged"), [(0.05, True), (0.06, False)])
@pytest.mark.parametrize("step", [0.5, 1.0, 1.5])
def test_an_image_may_lie_a_twentieth_of_a_step_beside_its_place(step: float, off: float, *, is_bridged: bool) -> None:
    vectors = stack(150, {40}, step=step)
    vectors[70, 1] = off * step
    slices, told = bridged(vectors)
    assert bool(slices) is bool(told) is is_bridged


def test_small_shifts_of_many_images_do_not_add_up() -> None:
    vectors = stack(150, {40})
    vectors[::4, 1], vectors[2::4, 1] = 0.04, -0.04
    assert bridged(vectors)[0]


def said(*steps: float) -> tuple[str, bool]:
    return irregularity(np.array(steps))


@pytest.mark.parametrize("steps", [(), (2.0,), (2.0, 2.0, 2.0), (2.0, 2.09, 1.91), (20.0, 20.0, 21.0)])
def test_equal_steps_within_a_twentieth_are_regular(steps: tuple[float, ...]) -> None:
    assert said(*steps) == ("", False)


@pytest.mark.parametrize(
    ("steps", "text"),
    [
        ((2, 2, 4), "slices are missing: 1 at 1 place (step 2 mm)"),
        ((2, 4), "slices are missing: 1 at 1 place (step 2 mm)"),
        ((2, 2, 2, 4, 8), "slices are missing: 4 at 2 places (step 2 mm)"),
        ((2, 2, 2, 4.15), "slices are missing: 1 at 1 place (step 2 mm)"),
        ((20, 20, 20, 21, 40), "slices are missing: 1 at 1 place (step 20 mm)"),
        ((1.5, 1.5, 1.5, 4.5, 1.5), "slices are missing: 2 at 1 place (step 1.5 mm)"),
    ],
)
def test_steps_that_are_multiples_of_the_usual_one_are_missing_slices(steps: tuple[float, ...], text: str) -> None:
    assert said(*steps) == (text, True)


@pytest.mark.parametrize(
    ("steps", "text"),
    [
        ((2, 2, 2, 3), "slice steps vary from 2 to 3 mm"),
        ((2, 2, 2, 4.3), "slice steps vary from 2 to 4.3 mm"),
        ((2, 2, 2, 4, 3), "slice steps vary from 2 to 4 mm"),
        ((2, 2, 2, 0.5), "slice steps vary from 0.5 to 2 mm"),
        ((2, 2, 2, 0.5, 4), "slice steps vary from 0.5 to 4 mm"),
        ((2, 2, 2, 2.15), "slice steps vary from 2 to 2.15 mm"),
        ((0.5, 0.5, 0.53), "slice steps vary from 0.5 to 0.53 mm"),
    ],
)
def test_other_steps_vary_and_no_image_is_said_to_be_missing(steps: tuple[float, ...], text: str) -> None:
    assert said(*steps) == (text, False)
