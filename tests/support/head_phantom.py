"""A head of simple shapes in any pose, with a face that can be changed and things that lie on it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]
AIR, SKIN, BONE, BRAIN, PLASTIC = range(5)
CT = np.array([-1000, 30, 800, 35, 120])
MR = np.array([0, 400, 25, 300, 0])
TURNS = {
    "supine": np.eye(3),
    "prone": np.diag([-1.0, -1.0, 1.0]),
    "on the side": np.array([[0.0, 1, 0], [-1, 0, 0], [0, 0, 1]]),
    "feet first": np.diag([-1.0, 1.0, -1.0]),
}
"""From coordinates of the room to those of the head: left, posterior, up."""


@dataclass(frozen=True)
class Face:
    """What makes one face another, in mm."""

    nose: float = 20.0
    nose_width: float = 13.0
    lips: float = 6.0
    chin: float = 14.0
    ears: float = 10.0
    eyes: float = 32.0


@dataclass(frozen=True)
class Head:
    """A head; ``worn`` has "holder", "mask" (a sheet over the face), "oxygen" or "cushion"."""

    face: Face = field(default_factory=Face)
    worn: tuple[str, ...] = ()
    pose: str = "supine"

    def tissue(
        self, shape: tuple[int, int, int], spacing: tuple[float, float, float], origin: Points
    ) -> NDArray[np.int8]:
        """Return the kind of each voxel ``[z, y, x]``; ``origin``: of the first one, mm ``(x, y, z)``."""
        z, y, x = (np.arange(n) * step + first for n, step, first in zip(shape, spacing, origin[::-1], strict=True))
        room = np.stack(np.meshgrid(z, y, x, indexing="ij")[::-1], -1)
        return self._at(room @ TURNS[self.pose].T)

    def _at(self, p: Points) -> NDArray[np.int8]:
        f = self.face
        skull, block, neck = _ball(p, (0, 0, 0), (78, 98, 88)), _ball(p, (0, -38, -68), (60, 56, 72)), _neck(p)
        smooth = (skull <= 1) | (block <= 1) | neck
        features = (
            (_ball(p, (0, -96, -50), (f.nose_width, f.nose, 22)) <= 1)
            | (_ball(p, (0, -92, -82), (24, f.lips, 7)) <= 1)
            | (_ball(p, (0, -84, -115), (18, f.chin, 14)) <= 1)
            | (_ball(p, (80, 5, -30), (f.ears, 14, 30)) <= 1)
            | (_ball(p, (-80, 5, -30), (f.ears, 14, 30)) <= 1)
        )
        sockets = (_ball(p, (f.eyes, -98, -28), (17, 20, 12)) <= 1) | (_ball(p, (-f.eyes, -98, -28), (17, 20, 12)) <= 1)
        airway = _ball(p, (0, -55, -55), (12, 28, 14)) <= 1
        kind = np.where((smooth | features) & ~sockets & ~airway, SKIN, AIR).astype(np.int8)
        kind[_ball(p, (0, 0, 0), (71, 91, 81)) <= 1] = BONE
        kind[_ball(p, (0, 0, 0), (65, 85, 75)) <= 1] = BRAIN
        kind[(_ball(p, (0, -42, -95), (45, 36, 24)) <= 1) & ~airway] = BONE
        away = np.minimum(skull, block)
        if "mask" in self.worn:  # a sheet of 3 mm, 6 mm in front of cheeks and forehead
            kind[(kind == AIR) & (p[..., 1] < -30) & _shell(p, away, 6, 9)] = PLASTIC
        if "holder" in self.worn:
            kind[(kind == AIR) & (p[..., 1] > 20) & _shell(p, skull, 8, 12)] = PLASTIC
        if "cushion" in self.worn:  # lies on the skin; its foam is air in CT
            kind[(kind == AIR) & (p[..., 1] > 20) & _shell(p, skull, 2, 5)] = PLASTIC
        if "oxygen" in self.worn:  # a dome over nose and mouth, with nothing but air in it
            dome = _ball(p, (0, -80, -70), (46, 58, 56))
            kind[(kind == AIR) & (dome > 1) & (dome <= 1.1)] = PLASTIC
        return kind


def _ball(p: Points, middle: tuple[float, float, float], radii: tuple[float, float, float]) -> Points:
    """1 on an ellipsoid, less within it."""
    return np.sqrt((((p - np.array(middle)) / np.array(radii)) ** 2).sum(-1))


def _neck(p: Points) -> NDArray[np.bool_]:
    return (np.hypot(p[..., 0], p[..., 1] - 15) <= 55) & (p[..., 2] < -50)


def _shell(p: Points, ball: Points, inner: float, outer: float) -> NDArray[np.bool_]:
    """Between two distances from an ellipsoid of about 80 mm."""
    return np.asarray((ball > 1 + inner / 80) & (ball <= 1 + outer / 80))


def ct(kind: NDArray[np.int8], noise: float = 20.0) -> NDArray[np.int32]:
    """HU."""
    values = CT[kind] + np.random.default_rng(1).normal(0, noise, kind.shape)
    return np.rint(values.clip(-1024, 3071)).astype(np.int32)


def mr(kind: NDArray[np.int8], noise: float = 12.0, ghost: float = 0.0) -> NDArray[np.int32]:
    """Magnitudes, with the head once more at ``ghost`` of its brightness half the rows further."""
    random = np.random.default_rng(1)
    signal = MR[kind] + ghost * np.roll(MR[kind], kind.shape[1] // 2, 1)
    real, imaginary = random.normal(0, noise, (2, *kind.shape))
    return np.rint(np.hypot(signal + real, imaginary)).astype(np.int32)
