"""Shapes: where something lies, or was measured, without a mask (PS3.3 C.18.6.1.2, C.18.9.1.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

import numpy as np

GraphicType = Literal["POINT", "POLYLINE", "POLYGON", "ELLIPSE"]
Point = tuple[float, ...]
_FEWEST: dict[GraphicType, int] = {"POINT": 1, "POLYLINE": 2, "POLYGON": 4, "ELLIPSE": 4}
_EXACTLY: tuple[GraphicType, ...] = ("POINT", "ELLIPSE")
_COPLANAR_MM = 0.01
"""How far points of a polygon or ellipse in the patient may lie from its plane."""


class ImageReference(Protocol):
    """What a shape needs of the image that it lies on; each of ``Series.images()`` is one."""

    @property
    def sop_instance_uid(self) -> str: ...

    @property
    def frame(self) -> int | None: ...


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A point, line, polygon, box or ellipse, on one image or in the patient; make it with the class methods.

    On an image, points are (column, row) in pixels with fractions: (0, 0) is the upper left corner of the first pixel,
    (0.5, 0.5) its centre, (Columns, Rows) the lower right corner of the last one. The part ``array[2:5, 7:9]`` of an
    image is therefore the box from left 7 to right 9 and from top 2 to bottom 5.
    In the patient, points are (x, y, z) in LPS mm, in the frame of reference of the series.
    """

    graphic_type: GraphicType
    points: tuple[Point, ...]
    """A polygon ends with its first point; an ellipse is the ends of its major, then those of its minor axis."""
    sop_instance_uid: str = ""
    """The image; empty: in the patient."""
    frame: int | None = None
    """Of a multi-frame image, from 1."""

    @classmethod
    def point(cls, at: Sequence[float], *, on: ImageReference | None = None) -> Shape:
        """Return one point. ``on``: the image; ``None``: in the patient, here as below."""
        return cls._of("POINT", [at], on)

    @classmethod
    def polyline(cls, points: Sequence[Sequence[float]], *, on: ImageReference | None = None) -> Shape:
        """Return an open line through ``points``."""
        return cls._of("POLYLINE", points, on)

    @classmethod
    def polygon(cls, points: Sequence[Sequence[float]], *, on: ImageReference | None = None) -> Shape:
        """Return what the line through ``points`` encloses; in the patient they lie in one plane."""
        closed = len(points) > 0 and tuple(points[0]) == tuple(points[-1])
        return cls._of("POLYGON", points if closed else [*points, *points[:1]], on)

    @classmethod
    def box(cls, left: float, top: float, right: float, bottom: float, *, on: ImageReference) -> Shape:
        """Return an upright rectangle on an image."""
        if not (left < right and top < bottom):
            raise ValueError(f"Shape.box is left {left}, top {top}, right {right}, bottom {bottom}; it has no area")
        return cls.polygon([(left, top), (right, top), (right, bottom), (left, bottom)], on=on)

    @classmethod
    def ellipse(
        cls,
        major: tuple[Sequence[float], Sequence[float]],
        minor: tuple[Sequence[float], Sequence[float]],
        *,
        on: ImageReference | None = None,
    ) -> Shape:
        """Return an ellipse by the ends of its axes."""
        return cls._of("ELLIPSE", [*major, *minor], on)

    @classmethod
    def _of(cls, graphic_type: GraphicType, points: Sequence[Sequence[float]], on: ImageReference | None) -> Shape:
        place = {} if on is None else {"sop_instance_uid": on.sop_instance_uid, "frame": on.frame}
        numbers = tuple(tuple(float(value) for value in point) for point in points)
        return cls(graphic_type=graphic_type, points=numbers, **place)  # type: ignore[arg-type]

    def __post_init__(self) -> None:
        if self.graphic_type not in get_args(GraphicType):
            raise ValueError(f"Shape.graphic_type is {self.graphic_type!r}; use {', '.join(get_args(GraphicType))}")
        size, what = (2, "(column, row)") if self.sop_instance_uid else (3, "(x, y, z) in LPS mm")
        count, fewest = len(self.points), _FEWEST[self.graphic_type]
        if any(len(point) != size for point in self.points):
            raise ValueError(f"Shape.points of a {self.graphic_type} are {self.points[:4]}; give {what}")
        if not np.isfinite(self.points).all():
            raise ValueError(f"Shape.points of a {self.graphic_type} are no numbers: {self.points[:4]}")
        if count < fewest or (count > fewest and self.graphic_type in _EXACTLY):
            raise ValueError(f"Shape.points of a {self.graphic_type} are {count}; {fewest} are needed")
        if self.graphic_type == "POLYGON" and self.points[0] != self.points[-1]:
            raise ValueError("Shape.points of a POLYGON do not end with the first one")
        if self.frame is not None and (self.frame < 1 or not self.sop_instance_uid):
            raise ValueError(f"Shape.frame is {self.frame}; frames of an image count from 1")
        if self.graphic_type in ("POLYGON", "ELLIPSE") and len(set(self.points)) < _distinct(self.graphic_type):
            raise ValueError(f"Shape.points of a {self.graphic_type} enclose nothing: {self.points[:4]}")
        if self.graphic_type == "ELLIPSE":
            self._check_axes()
        if size == 3 and self.graphic_type in ("POLYGON", "ELLIPSE") and self._off_plane() > _COPLANAR_MM:
            raise ValueError(f"Shape.points of a {self.graphic_type} do not lie in one plane")

    def _check_axes(self) -> None:
        ends = np.array(self.points)
        major, minor = ends[1] - ends[0], ends[3] - ends[2]
        long, short = float(np.linalg.norm(major)), float(np.linalg.norm(minor))
        apart = float(np.linalg.norm(ends[:2].mean(axis=0) - ends[2:].mean(axis=0)))
        if long < short or abs(float(major @ minor)) > 0.01 * long * short or apart > 0.01 * long:
            raise ValueError(
                "Shape.ellipse: give the ends of the longer axis, then those of the shorter one, which crosses it in "
                "the middle at a right angle"
            )

    def _off_plane(self) -> float:
        points = np.array(self.points)
        centred = points - points.mean(axis=0)
        normal = np.linalg.svd(centred)[2][2]
        return float(np.abs(centred @ normal).max())


def _distinct(graphic_type: GraphicType) -> int:
    return 3 if graphic_type == "POLYGON" else 4
