"""The loaded model: its identification, its needs, and how the node calls it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from node.pipeline.findings import Findings
from node.pipeline.series import VOLUME_KEYS, Series


def content_digest(path: Path) -> str:
    """SHA-256 (lower-case hex) of a model: of the file, or of a folder's sorted list of digests and relative paths.

    The list has the form that ``sha256sum`` prints.
    """
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    names = sorted(member.relative_to(path).as_posix() for member in path.rglob("*") if member.is_file())
    listing = "".join(f"{content_digest(path / name)}  {name}\n" for name in names)
    return hashlib.sha256(listing.encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Algorithm:
    """Who made the result (TID 4019 Algorithm Identification)."""

    name: str
    version: str
    family: Code = codes.DCM.ArtificialIntelligence
    weights_sha256: str | None = None
    """Lower-case hex digest of the weights in use; part of the provenance of every object."""
    parameters: Mapping[str, str] = field(default_factory=dict)
    """What influences the output besides the weights, for example ``{"threshold": "0.5", "precision": "fp32"}``.

    Every option belongs here: results that differ must differ in this table, the version or the digest, because the
    UIDs of the results are derived from these.
    """
    scope: str = ""
    """One sentence for the report: what it finds and what it misses, both ends, as measured, for example
    ``"Finds nodules of 6 to 35 mm; larger masses are often missed."``"""

    def __post_init__(self) -> None:
        for name, value in (("name", self.name), ("version", self.version)):
            if not isinstance(value, str):
                raise ValueError(f"Algorithm.{name} is {value!r}; give a text")  # noqa: TRY004 - read as configuration


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What a series must offer; checked on headers before a device is touched. Unmet: outcome *not applicable*."""

    modalities: frozenset[str]
    """Modality (0008,0060) values, for example ``frozenset({"CT"})``."""
    body_parts: frozenset[str] = frozenset()
    """Body Part Examined (0018,0015) values; empty accepts all, and a source without the attribute is accepted."""
    min_slices: int = 1
    max_slice_spacing_mm: float | None = None
    max_pixel_spacing_mm: float | None = None
    planes: frozenset[str] = frozenset()
    """Of ``{"axial", "coronal", "sagittal", "oblique"}``; empty accepts all."""
    min_coverage_mm: float | None = None
    """From the first image to the last along their normal: less shows only a part of the organ."""
    min_field_mm: float | None = None
    """Shorter side of the images."""
    levels: Mapping[int, tuple[float, float]] = field(default_factory=dict)
    """Percentile of the grey levels (a sample of the images; CT: HU) -> least and greatest value that the pipeline
    was made for: ``{5: (-1100, -300)}`` wants air in a chest CT. Beyond lies what no model was trained or tested on.
    Padding does not count: Pixel Padding Value, and in CT what is darker than any air."""
    regular_grid: bool = True
    """Equal steps between slices, no gap, no repeated position."""
    images: bool = False
    """The pipeline takes the images one by one, from ``series.images()``: no volume and no geometry is needed."""
    views: frozenset[str] = frozenset()
    """Of such images, values of ``SeriesImage.view``: only these are analysed. Empty accepts all, and images that state
    no view."""
    lateralities: frozenset[str] = frozenset()
    """As ``views``, of ``{"L", "R", "B"}``."""
    tomosynthesis: bool = False
    """Of such images, only slices of a digital breast tomosynthesis (Breast Tomosynthesis Image Storage) are analysed,
    each frame as an image. Without it none are: they are no mammograms."""
    volumes_by: str = ""
    """Of ``VOLUME_KEYS``, for example ``"b_value"``: the series holds several volumes that differ in this alone, for
    ``series.volumes()``. Empty: one volume."""

    def __post_init__(self) -> None:
        for name in ("modalities", "body_parts", "planes", "views", "lateralities"):
            value = getattr(self, name)
            if isinstance(value, str):
                raise ValueError(f"Needs.{name} is {value!r}; give a set, such as frozenset({{{value!r}}})")  # noqa: TRY004
            object.__setattr__(self, name, frozenset(value))
        of_volumes = ("planes", "volumes_by", "max_slice_spacing_mm", "max_pixel_spacing_mm", "min_coverage_mm",
                      "min_field_mm")  # fmt: skip
        for name in of_volumes if self.images else ("views", "lateralities", "tomosynthesis"):
            if getattr(self, name):
                what = "with" if self.images else "without"
                raise ValueError(f"Needs.{name} has no meaning {what} images=True; leave it out")
        if self.volumes_by and self.volumes_by not in VOLUME_KEYS:
            raise ValueError(f"Needs.volumes_by is {self.volumes_by!r}; give one of {', '.join(VOLUME_KEYS)}")
        levels = {int(percent): (float(least), float(greatest)) for percent, (least, greatest) in self.levels.items()}
        object.__setattr__(self, "levels", levels)
        object.__setattr__(self, "min_slices", int(self.min_slices))


class Pipeline(Protocol):
    """A loaded model. ``run`` is called for one series at a time, from one thread, many times.

    A pipeline that always outlines the same structures may also have ``segment_labels``, a tuple of the labels of all
    segments that it can return: ``ainode check`` then compares the masks that other pipelines ask for with them.
    """

    @property
    def algorithm(self) -> Algorithm: ...

    @property
    def needs(self) -> Needs: ...

    def run(self, series: Series) -> Findings:
        """Analyse one series.

        Raises ``Unsuitable(reason)`` when the images cannot be analysed: that is an outcome, delivered as such.
        Any other exception is a failure: retried, then delivered as *failed*.
        """


class Factory(Protocol):
    """``[pipelines.NAME] factory = "module:factory"`` or an entry point of the group ``ainode.pipelines``."""

    def __call__(self, *, weights: Path | None, device: str, options: Mapping[str, Any]) -> Pipeline:
        """Load once.

        ``weights``: ``None`` for the packaged ones; ``device``: ``"cpu"`` or ``"cuda:0"``; ``options``: the table
        ``[pipelines.NAME.options]``. Raises ``WeightsError`` or ``ValueError`` with field, value and remedy.
        """
