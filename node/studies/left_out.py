"""Which images of a series are not part of its grid, in words for a radiologist."""

from __future__ import annotations

from node.translation import Sentence, in_every_language, ngettext, sentence


def left_out_text(count: int, reason: str) -> Sentence:
    """Say how many images are left out, and why."""
    return in_every_language(
        lambda: ngettext(
            "{number} image left out: {reason}", "{number} images left out: {reason}", count, reason=reason
        )
    )


def lacking_text(keyword: str, lacking: int, images: int) -> Sentence:
    """Say in how many images an attribute of the geometry cannot be used."""
    return sentence(
        "{keyword} is missing or unusable in {lacking} of {images} images",
        keyword=keyword,
        lacking=lacking,
        images=images,
    )


def several_volumes_text(several: int, places: int, most: int) -> Sentence:
    """Say that most positions occur up to ``most`` times."""
    return sentence(
        "{several} of {places} slice positions occur more than once (up to {most} times): several volumes in one "
        "series, such as time points, echoes or b-values",
        several=several,
        places=places,
        most=most,
    )


def repeated_text(several: int) -> Sentence:
    """Say how many positions occur more than once."""
    return in_every_language(
        lambda: ngettext(
            "{number} slice position occurs more than once; the last image of each was analysed",
            "{number} slice positions occur more than once; the last image of each was analysed",
            several,
        )
    )


def too_small_text(fault: str, part: int, images: int) -> Sentence:
    """Say that the regular part of a series is too small to be analysed."""
    return sentence(
        "{fault}; the largest regular part has {part} of {images} images", fault=fault, part=part, images=images
    )


def part_text(fault: str, part: int, images: int) -> Sentence:
    """Say that only the regular part of a series is analysed."""
    return sentence(
        "{fault}; only the largest regular part can be analysed, {part} of {images} images",
        fault=fault,
        part=part,
        images=images,
    )
