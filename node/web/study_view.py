"""What the dashboard shows of the files of one job: computed in a confined process, which alone opens them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from node.config import Language
from node.errors import NotFoundError
from node.web.report_table import Row, comments_in, findings_in, impressions_in

if TYPE_CHECKING:  # the confined process alone imports what reads pixels
    from node.web import slices


@dataclass(frozen=True, kw_only=True)
class JobFiles:
    """Files of one job."""

    source: tuple[Path, ...]
    """Of the series that was analysed."""
    segmentations: tuple[Path, ...]
    derived: tuple[Path, ...]
    """Of the first derived series."""
    reports: tuple[Path, ...]


@dataclass(frozen=True, kw_only=True)
class Key:
    """A key slice."""

    label: str
    index: int
    image: dict[str, str]
    """As the report calls it within a sentence, for example ``"image 57"``, by language."""
    colour: str


@dataclass(frozen=True, kw_only=True)
class View:
    """What the viewer of one job shows."""

    count: int
    start: int
    keys: tuple[Key, ...]
    derived: bool
    """Whether there is a derived series to compare with."""
    windows: tuple[str, ...]
    rows: tuple[Row, ...]
    columns: tuple[str, ...]
    """Names of the measurements, in the order of the report."""
    remarks: tuple[str, ...] = ()
    impressions: Mapping[str, str] = field(default_factory=dict)
    """By language."""

    def key_of(self, row: Row) -> Key | None:
        """The slice of a finding."""
        return next((key for key in self.keys if key.label == row.label), None)


def view_of(files: JobFiles, languages: Sequence[Language]) -> View:
    """Return what the viewer of a job shows. Raises ``InputError`` when a file cannot be read or decoded."""
    from node.web import slices

    shown, segments, derived = _opened(files)
    places = {place: index for index, place in enumerate(shown.places)}
    keys = tuple(_keys(segments, places, shown))
    table = tuple(row for report in files.reports for row in findings_in(report))
    columns = tuple(dict.fromkeys(name for row in table for name in row.measurements))
    return View(
        count=len(shown.places),
        start=keys[0].index if keys else len(shown.places) // 2,
        keys=keys,
        derived=derived is not None,
        windows=tuple(slices.WINDOWS) if shown.modality == "CT" else (),
        rows=table,
        columns=columns,
        remarks=comments_in(files.reports[0]) if files.reports else (),
        impressions=impressions_in(files.reports[0], languages) if files.reports else {},
    )


def slice_picture(files: JobFiles, index: int, window: str, *, outlined: bool, derived: bool) -> bytes:
    """Return one slice of the series, or of what was derived, as JPEG.

    Raises ``NotFoundError`` when the series has fewer images, ``InputError`` when a file cannot be read or decoded.
    """
    from node.web import slices

    shown, segments, after = _opened(files)
    base = after if derived and after is not None else shown
    if index >= len(base.places):
        raise NotFoundError(f"the series has {len(base.places)} images")
    chosen = slices.window_of(shown, window, segments[0] if segments else None)
    return slices.picture(base, index, chosen, segments if outlined else ())


def _opened(files: JobFiles) -> tuple[slices.Shown, tuple[slices.Segments, ...], slices.Shown | None]:
    from node.web import slices

    shown = slices.open_series(files.source)
    segments = tuple(map(slices.open_segments, files.segmentations))
    return shown, segments, slices.open_series(files.derived) if len(files.derived) == len(shown.places) else None


def _keys(segments: Sequence[slices.Segments], places: Mapping[tuple[str, int], int], shown: slices.Shown) -> list[Key]:
    from node.results.finding import image_name

    keys = []
    for seg in segments:
        for number, label in seg.labels.items():
            place = seg.largest(number)
            if place is not None and place in places:
                colour = "#{:02x}{:02x}{:02x}".format(*seg.colours[number])
                name = image_name(shown.series, places[place])
                image = {"en": name.lower(), **name.translations}
                keys.append(Key(label=label, index=places[place], image=image, colour=colour))
    return keys
