"""Which images of a series a pipeline takes one by one (``Needs(images=True)``), and why not the others."""

from __future__ import annotations

from collections import Counter

from pydicom import Dataset

from node.pipeline import Needs
from node.studies.source import SourceSeries
from node.studies.source_image import ImageName, laterality_of, view_of
from node.studies.suitability import image_fault
from node.translation import Sentence, in_every_language, joined, marked, ngettext, sentence


def taken_images(needs: Needs, series: SourceSeries) -> tuple[SourceSeries, str]:
    """Return the series with the images that meet ``needs``, and which were not taken, in words for a radiologist.

    Without any that does it is the series as it was.
    """
    reasons = [_unmet(needs, header) for header in series.datasets]
    if not any(reasons) or all(reasons):
        return series, "" if not any(reasons) else _why(reasons)
    taken = [image.name for image, reason in zip(series.images(), reasons, strict=True) if not reason]
    return series.of_images(taken), _why(reasons)


def part_taken(needs: Needs, series: SourceSeries) -> tuple[ImageName, ...]:
    """Return the names of the images that are taken, where others of the series are not; else none."""
    taken = taken_images(needs, series)[0] if needs.images else series
    return () if taken is series else tuple(image.name for image in taken.images())


def _why(reasons: list[str]) -> str:
    counts = Counter(filter(None, reasons)).most_common()
    return joined((_not_analysed(reason, count) for reason, count in counts), "; ")


def _not_analysed(reason: str, count: int) -> Sentence:
    return in_every_language(
        lambda: ngettext(
            "{number} image not analysed: {reason}", "{number} images not analysed: {reason}", count, reason=reason
        )
    )


def _unmet(needs: Needs, header: Dataset) -> str:
    if fault := image_fault(header, tomosynthesis=needs.tomosynthesis):
        return fault
    for text, value, wanted in (
        (marked("its view is {stated}, needed is {wanted}"), view_of(header), needs.views),
        (marked("its laterality is {stated}, needed is {wanted}"), laterality_of(header), needs.lateralities),
    ):
        if wanted and value not in wanted:
            stated, either = (
                value or sentence("not stated"),
                joined((sentence(need) for need in sorted(wanted)), " or "),
            )
            return sentence(text, stated=stated, wanted=either)
    return ""
