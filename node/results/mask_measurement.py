"""Measurements of a mask on the source grid: outline, axes, volume, values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy
from contourpy import contour_generator
from highdicom import VolumeGeometry
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.pixels.processing import apply_modality_lut
from pydicom.sr.codedict import codes

from node.pipeline import Measurement
from node.results.analysis import Source
from node.results.report_codes import ATTENUATION
from node.results.source_grid import PlacedMask
from node.translation import sentence
from node.wording import digits

Floats = NDArray[np.float64]
_DERIVATIONS = (codes.SCT.Mean, codes.SCT.StandardDeviation, codes.SCT.Minimum, codes.SCT.Maximum)


@dataclass(frozen=True, kw_only=True, eq=False)
class Section:
    """A mask on the slice where its area is greatest."""

    slice_index: int
    """Index along the first axis of the source grid."""
    outline: Floats
    """Closed polyline, ``(n, 2)`` of (column, row); 0, 0 is the outer corner of the first pixel (PS3.3 C.18.6)."""
    long_axis: Floats
    """Its two ends, ``(2, 2)`` of (column, row): the two points of the outline that are farthest apart."""
    short_axis: Floats
    """The longest chord perpendicular to the long axis."""
    long_axis_mm: float
    short_axis_mm: float


def volume_mm3(mask: PlacedMask, geometry: VolumeGeometry) -> float:
    """Number of voxels times the volume of one."""
    return float(mask.areas.sum() * abs(np.linalg.det(geometry.affine[:3, :3])))


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """Of a set of values."""

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0
    """Sum of the squared distances from the mean."""
    least: float = np.inf
    greatest: float = -np.inf

    @property
    def deviation(self) -> float:
        """Standard deviation of the values as they are, not of what they may be a sample of."""
        return float(np.sqrt(self.squares / self.count))

    def with_values(self, values: Floats) -> Statistics:
        """Of the same and some more, at least one (Chan, Golub, LeVeque 1983)."""
        mean = float(values.mean())
        distances = values - mean
        count, apart = self.count + values.size, mean - self.mean
        return Statistics(
            count=count,
            mean=self.mean + apart * values.size / count,
            squares=self.squares + float(distances @ distances) + apart**2 * self.count * values.size / count,
            least=min(self.least, float(values.min())),
            greatest=max(self.greatest, float(values.max())),
        )


def values_in(masks: Sequence[PlacedMask], source: Source) -> list[Statistics]:
    """Of the source's voxels inside each mask; every image with one is read once and not kept."""
    statistics = [Statistics() for _ in masks]
    slices = sorted({index for mask in masks for index in mask.images})
    for index, stored in zip(slices, source.stored(slices), strict=True):
        for number, mask in enumerate(masks):
            at = index - mask.box[0].start
            if 0 <= at < len(mask.areas) and mask.areas[at]:
                inside = stored[mask.box[1:]][mask.plane(index)]  # their LUT alone: that of all takes ten times as long
                values = apply_modality_lut(inside, source.datasets[index])
                statistics[number] = statistics[number].with_values(values.astype(np.float64, copy=False))
    return statistics


def intensities(values: Statistics, image: Dataset) -> tuple[Measurement, ...]:
    """Mean, standard deviation, least and greatest of ``values`` of a CT in HU or of an MR; of others nothing.

    Attenuation has a code for each; the signal, in no unit, has one code with derivations (PS3.16 TID 1419, CID 7464).
    """
    four = (values.mean, values.deviation, values.least, values.greatest)
    if image.get("Modality") == "CT" and (image.get("RescaleType") or "HU") == "HU":
        return tuple(
            Measurement(name=name, value=value, unit=codes.UCUM.HounsfieldUnit)
            for name, value in zip(ATTENUATION, four, strict=True)
        )
    if image.get("Modality") == "MR":
        return tuple(
            Measurement(name=codes.DCM.MRSignalIntensity, value=value, unit=codes.UCUM.NoUnits, derivation=how)
            for how, value in zip(_DERIVATIONS, four, strict=True)
        )
    return ()


def largest_section(mask: PlacedMask, geometry: VolumeGeometry) -> Section:
    """Outline and axes on the slice of greatest area, of the largest connected part there.

    The outline runs half-way between the centres of inner and outer pixels (marching squares at one half): the
    centres of exactly the mask's pixels are inside.
    """
    index = int(mask.areas.argmax())
    padded = np.pad(mask.plane(mask.box[0].start + index).astype(np.float64), 1)
    lines: list[Floats] = [np.asarray(line) for line in contour_generator(z=padded).lines(0.5)]
    line = max(lines, key=_area)
    # centre of padded pixel (1, 1) = centre of the box's first pixel = half a pixel from its outer corner
    outline = line - 0.5 + [mask.box[2].start, mask.box[1].start]
    row_spacing, column_spacing = (float(np.linalg.norm(geometry.affine[:3, a])) for a in (1, 2))
    spacing = np.array([column_spacing, row_spacing])
    axes = _axes(outline * spacing)
    lengths = np.linalg.norm(axes[:, 1] - axes[:, 0], axis=1)
    return Section(
        slice_index=mask.box[0].start + index,
        outline=outline,
        long_axis=axes[0] / spacing,
        short_axis=axes[1] / spacing,
        long_axis_mm=float(lengths[0]),
        short_axis_mm=float(lengths[1]),
    )


def too_coarse(section: Section, geometry: VolumeGeometry) -> str:
    """Why ``section`` is small for such voxels, in words; empty when it is not.

    Measurable is what is at least twice as long as the slices are apart (RECIST 1.1, Eisenhauer 2009, section 3).
    """
    step = float(max(geometry.spacing))
    if section.long_axis_mm >= 2 * step:
        return ""
    return sentence("Shorter than two voxels of {step} mm: its size is a rough estimate", step=digits(step, ""))


def _area(line: Floats) -> float:
    """Of a line that ends where it begins; a noisy mask has a hundred thousand of them."""
    x, y = line.T
    return abs(float(x[:-1] @ y[1:] - y[:-1] @ x[1:])) / 2


def _axes(points: Floats) -> Floats:
    """Ends of the long and the short axis, ``[axis, end, xy]``, of points in mm."""
    hull = points[scipy.spatial.ConvexHull(points).vertices]
    distances = scipy.spatial.distance.squareform(scipy.spatial.distance.pdist(hull))
    first, second = np.unravel_index(distances.argmax(), distances.shape)
    along = (hull[second] - hull[first]) / distances[first, second]
    across = np.array([-along[1], along[0]])
    u, v = hull @ along, hull @ across
    # the width of a convex shape is linear between its corners, and so greatest at one of them
    chains = []
    for side in (v >= v[first], v <= v[first]):
        chain = np.flatnonzero(side)
        chain = chain[np.argsort(u[chain])]
        chains.append(np.interp(u, u[chain], v[chain]))
    widest = int((chains[0] - chains[1]).argmax())
    ends = [u[widest] * along + side[widest] * across for side in chains]
    return np.array([[hull[first], hull[second]], ends])
