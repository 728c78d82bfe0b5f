"""What a pipeline receives: a series, its companions, and the prior report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Protocol

from highdicom import Volume
from pydicom.sr.coding import Code

from node.pipeline.series_image import SeriesImage
from node.translation import marked

VOLUME_KEYS: Mapping[str, str] = {
    "b_value": marked("b-value (s/mm2)"),
    "echo_time_ms": marked("echo time (ms)"),
    "inversion_time_ms": marked("inversion time (ms)"),
    "temporal_position": marked("temporal position"),
    "cardiac_phase_percent": marked("cardiac phase (%)"),
    "acquisition": marked("acquisition number"),
}
"""What tells the volumes of one series apart, with its name in reports."""


class Unsuitable(Exception):  # noqa: N818 - an outcome, not an error
    """Raised by ``run`` when the images cannot be analysed; the text is the reason the radiologist reads."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SeriesVolume:
    """One of several volumes of a series."""

    key: Mapping[str, float]
    """What tells it from the others, by names of ``VOLUME_KEYS``: ``{"b_value": 1000.0}``; empty of the only one."""
    volume: Volume


@dataclass(frozen=True, kw_only=True)
class PriorFinding:
    """One finding of an earlier analysis."""

    finding: Code
    """What it was, for example ``codes.SCT.Nodule``."""
    volume_mm3: float
    tracking_uid: str = ""
    """Its name through all studies: the same lesion keeps it."""
    place_mm: tuple[float, float, float] | None = None
    """Its middle on the image where its area was greatest, LPS mm in the earlier study; ``None``: not known."""
    mask: Volume | None = None
    """What was outlined, non-zero inside, cropped to it; LPS mm in the prior study. ``None``: not available."""
    probability: float | None = None
    """As it was reported then, 0 to 1."""


@dataclass(frozen=True, kw_only=True)
class Prior:
    """The report of this pipeline on an earlier study of the same patient."""

    study_date: date
    version: str
    """Of the algorithm then."""
    findings: tuple[PriorFinding, ...]
    """Empty: nothing was found then."""
    series: Series | None = None
    """The images of that study, if they are still available."""
    partial: bool = False
    """Only a part of them was analysed."""
    parameters: Mapping[str, str] = field(default_factory=dict)
    """Of the algorithm then, with ``weights_sha256``; empty: not known."""


class Result(Protocol):
    """What another pipeline has found on the same series (``[pipelines.NAME] after``), as it was reported."""

    @property
    def algorithm(self) -> str:
        """Name of its algorithm."""

    @property
    def version(self) -> str: ...

    @property
    def weights_sha256(self) -> str:
        """``""``: not stated."""

    @property
    def sop_instance_uid(self) -> str:
        """Of the object that it is read from."""

    @property
    def partial(self) -> str:
        """Why it is partial, in words for a radiologist; the node repeats that. Empty: it is not."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels of what it has outlined; a structure of which it has seen nothing is not among them."""

    def mask(self, label: str, orientation: str | None = None) -> Volume | None:
        """What it has outlined under a label; ``None``: nothing.

        uint8 ``[slice, row, column]``, 1 inside, on the grid of ``Series.volume(orientation)``: of a series of several
        volumes on that of the first.
        """


class Series(Protocol):
    """One complete image series as a pipeline sees it."""

    @property
    def modality(self) -> str: ...

    def attribute(self, keyword: str) -> Any:
        """Value of a DICOM attribute of the first image by keyword (``"ConvolutionKernel"``), ``None`` when absent."""

    @property
    def prior(self) -> Prior | None:
        """The latest earlier analysis, where the rule asks for one (``[rules.prior]``) and one was found.

        The node itself says which lesion is which, and how each has changed.
        """

    def companion(self, name: str) -> Series | None:
        """Another series of the same study, by the name that the rule gives it (``[rules.companions.NAME]``).

        ``None`` when the rule names none, or when it did not come in time and is not required. It has a grid of its
        own; where the frame of reference is the same, both lie in the same LPS space.
        """

    def result(self, pipeline: str) -> Result | None:
        """What another pipeline has found on this series, by its name in the configuration.

        There is one of each pipeline that this one runs ``after``, at first or at second hand: without its result
        this pipeline does not run. ``None`` for all others.
        """

    def images(self) -> tuple[SeriesImage, ...]:
        """The images one by one, by Instance Number, and frame by frame, for ``Needs(images=True)``.

        Pixels are decoded when they are asked for. Each finding names the image that it is on: ``on=image``.
        """

    def volume(self, orientation: str | None = None) -> Volume:
        """The series as one volume.

        ``array`` is C-contiguous float32 ``[slice, row, column]`` with the Modality LUT applied (CT: HU; Real World
        Value Map off). ``orientation``: the patient direction in which each of the three axes grows, of L R A P H F:
        ``"HPL"`` is axial slices from foot to head, rows to posterior, columns to the patient's left.
        ``None``: as acquired, slices sorted along the normal. Axes are permuted and flipped, never resampled.
        With a tilted gantry the images are shifted by whole pixels and the rest is filled with their least value.

        When most of the images form one regular grid it is of these, and the node makes the outcome *partial*.
        Raises ``Unsuitable`` when they do not, and for a series of several volumes.
        """

    def volumes(self, orientation: str | None = None) -> tuple[SeriesVolume, ...]:
        """The volumes of a series that holds several, on one grid, by ascending keys; ``orientation`` as above.

        Diffusion with several b-values, echoes, inversion times, time points, cardiac phases. Results lie on the images
        of the first one. ``Needs.volumes_by`` lets such a series through. One volume without a key for a plain series.
        Raises ``Unsuitable`` as ``volume`` does, and where the attributes do not account for every image.
        """
