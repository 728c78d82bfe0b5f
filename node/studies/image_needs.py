"""Which images of a series a pipeline takes one by one (``Needs(images=True)``), and why not the others."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from pydicom import Dataset

from node.pipeline import Needs
from node.studies.source import SourceSeries
from node.studies.source_image import laterality_of, view_of
from node.studies.suitability import image_fault
from node.wording import count_of


def taken_images(needs: Needs, series: SourceSeries) -> tuple[SourceSeries, str]:
    """Return the series with the images that meet ``needs``, and which were not taken, in words for a radiologist.

    Without any that does it is the series as it was.
    """
    reasons = [_unmet(needs, header) for header in series.datasets]
    if not any(reasons) or all(reasons):
        return series, "" if not any(reasons) else _why(reasons)
    kept = [place for place, reason in enumerate(reasons) if not reason]
    taken = replace(
        series,
        paths=tuple(series.paths[place] for place in kept),
        datasets=tuple(series.datasets[place] for place in kept),
        grid=replace(series.grid, order=tuple(range(len(kept)))),
    )
    return taken, _why(reasons)


def _why(reasons: list[str]) -> str:
    counts = Counter(filter(None, reasons)).most_common()
    return "; ".join(f"{count_of(count, 'image')} not analysed: {reason}" for reason, count in counts)


def _unmet(needs: Needs, header: Dataset) -> str:
    if fault := image_fault(header):
        return fault
    for what, value, wanted in (
        ("view", view_of(header), needs.views),
        ("laterality", laterality_of(header), needs.lateralities),
    ):
        if wanted and value not in wanted:
            return f"its {what} is {value or 'not stated'}, needed is {' or '.join(sorted(wanted))}"
    return ""
