"""A synthetic chest CT: anatomy from soft shapes, vessel trees, nodules of known place, scanner blur and noise.

Positions are LPS mm (x to the patient's left, y to the back, z to the head). The chest is not symmetric on
purpose: heart, descending aorta and stomach bubble on the left, liver and the higher diaphragm on the right.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from node.demo.shapes import Array, Point, Rod, blend, capsule, cover, ellipse, ellipsoid, mottle
from node.demo.vessels import draw, grow

Window = tuple[slice, slice]
AIR, LUNG, FAT, MUSCLE, BLOOD, LIVER = -1000.0, -865.0, -100.0, 52.0, 42.0, 60.0


@dataclass(frozen=True)
class Nodule:
    """A solid nodule: ``centre`` LPS mm, ``diameter_mm`` of the sphere of the same volume, ``hu`` of its matter."""

    name: str
    centre: Point
    diameter_mm: float
    hu: float
    lobes: float
    """Height of the bumps on its surface, in parts of the radius."""


NODULES = (
    Nodule("right upper lobe", (-72.0, -18.0, 78.0), 12.0, 35.0, 0.10),
    Nodule("left upper lobe", (70.0, -35.0, 60.0), 9.0, 25.0, 0.06),
    Nodule("right lower lobe", (-88.0, 40.0, -22.0), 19.0, 45.0, 0.14),
    Nodule("left lower lobe", (92.0, 32.0, -20.0), 8.0, 30.0, 0.06),
)


def _at(z: float, *steps: tuple[float, float]) -> float:
    """Linear interpolation of a length over the height ``z``."""
    return float(np.interp(z, [s[0] for s in steps], [s[1] for s in steps]))


@dataclass(frozen=True, eq=False)
class _Section:
    """Fields of one axial section that several organs share."""

    z: float
    x: Array
    y: Array
    cage: Array
    """Signed distance to the surface in the middle of the ribs."""
    front: float
    """Half depth of the rib cage at this height."""
    lungs: Array
    below: Array
    """Distance below the diaphragm."""
    grain: Array
    """Smooth noise, standard deviation 1."""

    def crop(self, low: tuple[float, float], high: tuple[float, float]) -> tuple[Window, _Section]:
        """The part between two corners ``(x, y)``: most organs are small, and drawing them there is fast."""
        columns = slice(*np.searchsorted(self.x[0], [low[0], high[0]]))
        rows = slice(*np.searchsorted(self.y[:, 0], [low[1], high[1]]))
        at = (rows, columns)
        fields = {f: getattr(self, f)[at] for f in ("x", "y", "cage", "lungs", "below", "grain")}
        return at, replace(self, **fields)


def _section(z: float, x: Array, y: Array, grain: Array) -> _Section:
    wide = _at(z, (-150, 127), (-60, 136), (0, 133), (60, 117), (105, 88), (138, 56), (165, 36))
    deep = _at(z, (-150, 92), (-60, 99), (0, 98), (60, 89), (105, 71), (138, 50), (165, 34))
    shift = _at(z, (60, 0), (140, 14))
    cage = ellipse(x, y - shift, (0, 0), (wide, deep))
    right = -30 - 36 * ((x + 70) / 75) ** 2 - np.where(y > 0, 78, 30) * (y / 92) ** 2
    left = -47 - 32 * ((x - 74) / 75) ** 2 - np.where(y > 0, 72, 26) * (y / 92) ** 2
    dome = (right + (left - right) * cover(x, 30.0)).astype(np.float32) + 0.8 * grain
    middle = np.maximum.reduce(
        [
            ellipse(x, y, (-2, 4), (_at(z, (20, 20), (50, 30), (90, 28), (130, 24)), 50)),
            ellipsoid(x, y, z, (27, -28, -26), (59, 47, 49)),
            ellipse(x, y, (0, 66), (27, 30)),
            ellipse(x, y, (24, 46), (15, 16)) if z < 82 else np.full_like(x, -99),
            capsule(x, y, z, ((-10, 8, 36), (-44, 19, 12)), (17, 2)),  # the hila, thinner along the bronchi
            capsule(x, y, z, ((12, 8, 36), (43, 23, 14)), (17, 2)),
            2.2 - np.abs(x - 3),
        ]
    )
    apex = np.full_like(x, 139 - z)
    lungs = np.minimum.reduce([cage - 7, -middle + 0.8 * grain, (z - dome) * 0.75, apex])
    return _Section(z, x, y, cage, deep - shift, lungs, dome - z, grain)


def _wall(s: _Section) -> Array:
    """Air, table, skin, fat and muscle."""
    x, y, z = s.x, s.y, s.z
    hu = np.full_like(x, AIR)
    wide = _at(z, (-150, 156), (-20, 166), (60, 174), (105, 187), (150, 190))
    deep = _at(z, (-150, 114), (0, 119), (60, 112), (105, 100), (150, 90))
    body = (1 - (np.abs(x / wide) ** 2.5 + np.abs((y - 2) / deep) ** 2.5) ** (1 / 2.5)) * deep
    blend(hu, FAT + 6 * s.grain, cover(body))
    muscle = _at(z, (-150, 15), (0, 17), (90, 50), (140, 110)) + 14 * np.clip(y / 90, 0, 1) ** 2 + 3 * s.grain
    blend(hu, MUSCLE + 5 * s.grain, cover(np.minimum(s.cage + muscle, body - _at(z, (0, 8), (100, 13)))))
    # Fat planes between the muscles.
    seam = np.abs(s.cage + 13 + 2.5 * s.grain)
    blend(hu, FAT, 0.8 * cover(np.minimum(1.6 - seam, body - 6), 2.0))
    blend(hu, -30.0, cover(np.minimum(body, 1.8 - body)))
    couch = np.abs(y - 136 + (x / 60) ** 2)
    blend(hu, 180.0, cover(np.minimum(1.2 - couch, 170 - np.abs(x))))
    return hu


def _draw_rod(hu: Array, s: _Section, value: float, rod: Rod, radii: tuple[float, float]) -> None:
    margin = max(radii) + 1
    low, high = np.min(rod, 0) - margin, np.max(rod, 0) + margin
    if low[2] <= s.z <= high[2]:
        at, part = s.crop((low[0], low[1]), (high[0], high[1]))
        blend(hu[at], value, cover(capsule(part.x, part.y, s.z, rod, radii)))


def _abdomen(hu: Array, s: _Section) -> None:
    x, y, z, inside = s.x, s.y, s.z, np.minimum(s.cage - 6, s.below - 2)
    blend(hu, FAT + 5 * s.grain, cover(np.minimum(s.cage - 5, s.below - 1)))
    liver = np.minimum(inside, 30 - x - 0.35 * (y + 60) + 4 * s.grain)
    blend(hu, LIVER + 3 * s.grain, cover(np.minimum(liver, 75 - y)))
    at, s = s.crop((15, -75), (130, 90))
    hu, x, y, inside = hu[at], s.x, s.y, inside[at]
    stomach = np.minimum(inside - 1, ellipsoid(x, y, z, (66, -24, -108), (43, 46, 58)))
    blend(hu, 42.0, cover(stomach))
    blend(hu, 12 + 8 * s.grain, cover(stomach - 4))
    # Supine: gas rises to the front and the fluid stands level.
    blend(hu, AIR, cover(np.minimum(stomach - 4, -38 - y)))
    blend(hu, 50.0, cover(np.minimum(inside - 2, ellipsoid(x, y, z, (96, 42, -108), (27, 38, 48)))))
    blend(hu, 34.0, cover(ellipsoid(x, y, z, (56, 58, -160), (27, 24, 42))))


def _mediastinum(hu: Array, s: _Section) -> None:
    space = np.minimum.reduce([-s.lungs - 1, s.cage - 5, -s.below])
    blend(hu, FAT + 25 + 14 * s.grain, cover(space))
    if -80 < s.z < 25:
        at, part = s.crop((-45, -80), (95, 30))
        heart, x, y, z = hu[at], part.x, part.y, s.z
        blend(heart, MUSCLE - 4, cover(ellipsoid(x, y, z, (28, -27, -26), (55, 43, 46))))
        blend(heart, BLOOD - 3, cover(ellipsoid(x, y, z, (48, -26, -34), (26, 23, 30)), 3.0))
        blend(heart, BLOOD - 3, cover(ellipsoid(x, y, z, (-4, -30, -16), (20, 22, 28)), 3.0))
        blend(heart, -70.0, 0.35 * cover(2.2 - np.abs(ellipsoid(x, y, z, (26, -27, 4), (34, 30, 9))), 2.0))
    rods: tuple[tuple[Point, Point, tuple[float, float]], ...] = (
        ((24, 44, -170), (23, 42, 66), (12, 13)),  # descending aorta
        ((23, 42, 66), (8, 8, 78), (13, 13)),  # arch
        ((8, 8, 78), (-12, -20, 60), (13, 15)),
        ((-12, -20, 60), (-4, -26, 8), (15, 16)),  # ascending aorta
        ((-30, -12, 150), (-28, -10, 4), (8, 9)),  # superior vena cava
        ((14, -22, 12), (20, -4, 36), (14, 13)),  # pulmonary trunk
        ((20, -4, 36), (40, 18, 30), (11, 9)),
        ((16, 0, 30), (-36, 14, 26), (11, 9)),
        ((-8, -14, 80), (-20, -12, 150), (6, 5)),  # vessels to neck and arms
        ((2, 0, 84), (10, -6, 150), (4, 4)),
        ((16, 14, 82), (26, 6, 150), (5, 5)),
        ((6, 26, 150), (12, 28, -70), (6, 6)),  # oesophagus
    )
    for start, end, radii in rods:
        _draw_rod(hu, s, BLOOD, (start, end), radii)
    airways: tuple[tuple[Point, Point, float], ...] = (
        ((-3, 6, 170), (-1, 10, 46), 9.0),
        ((-1, 10, 46), (-40, 18, 20), 6.5),
        ((-1, 10, 46), (38, 22, 24), 6.0),
        ((-40, 18, 20), (-52, 24, -8), 4.0),
        ((38, 22, 24), (50, 28, -6), 3.8),
    )
    for start, end, radius in airways:
        _draw_rod(hu, s, 35.0, (start, end), (radius + 1.8, radius + 1.2))
    for start, end, radius in airways:
        _draw_rod(hu, s, AIR + 10, (start, end), (radius, radius))


def _bone(hu: Array, s: _Section, distance: Array, shell: float = 2.0, marrow: float = 210.0) -> None:
    blend(hu, 680 + 40 * s.grain, cover(distance))
    blend(hu, marrow + 35 * s.grain, cover(distance - shell))


def _ribs(hu: Array, s: _Section) -> None:
    # Ribs run down from back to front; the angle is 0 at the spine and 1 at the sternum.
    at, s = s.crop((-145, -108), (145, 108))
    hu, x, y, z = hu[at], s.x, s.y, s.z
    turn = np.arctan2(np.abs(x), y) / np.float32(np.pi)
    step = 25.0
    phase = (z + 78 * turn + np.where(x > 0, np.float32(3), np.float32(0))) / step
    height = (phase - np.round(phase)) * step
    ribs = (1 - np.sqrt((s.cage / 4.2) ** 2 + (height / 6.4) ** 2)) * 4.2
    reach = (0.86 - turn) * 120
    _bone(hu, s, np.minimum.reduce([ribs, reach, np.abs(x) - 22]), 1.6, 190.0)
    blend(hu, 95.0, cover(np.minimum.reduce([ribs, -reach, np.abs(x) - 18])))  # costal cartilage


def _spine(hu: Array, s: _Section) -> None:
    at, s = s.crop((-45, 40), (45, 112))
    hu, x, y = hu[at], s.x, s.y
    along = (s.z % 24.0) - 12.0  # one vertebra with its disc in 24 mm
    _bone(hu, s, ellipse(x, y, (0, 60), (17, 14)), 1.4)
    if abs(along) > 9.5:
        blend(hu, 85.0, cover(ellipse(x, y, (0, 60), (16, 13))))
    _bone(hu, s, ellipse(x, y, (0, 82), (14, 12)), 2.5)
    if abs(along) < 8:
        for side in (-1.0, 1.0):
            _bone(hu, s, capsule(x, y, 0.0, ((side * 12, 84, 0), (side * 38, 92, 0)), (5, 4)))
        _bone(hu, s, capsule(x, y, 0.0, ((0, 92, 0), (0, 106 + along / 3, 0)), (4, 3)))
    blend(hu, 32.0, cover(ellipse(x, y, (0, 82), (9.5, 8))))


def _bones(hu: Array, s: _Section) -> None:
    if s.z < 128:
        _ribs(hu, s)
    _spine(hu, s)
    z = s.z
    if -75 < z < 105:
        at, part = s.crop((-35, -115), (35, -50))
        sternum = ellipse(part.x, part.y, (0, -s.front), (_at(z, (-75, 9), (60, 17), (100, 26)), 6))
        _bone(hu[at], part, sternum)
    for side in (-1.0, 1.0):
        if z > 5:  # scapula
            tip = _at(z, (5, 96), (120, 150))
            ends = ((side * 78, 94 - z / 16, 0.0), (side * tip, 70 - z / 5, 0.0))
            at, part = s.crop((min(ends[0][0], ends[1][0]) - 6, 35), (max(ends[0][0], ends[1][0]) + 6, 100))
            _bone(hu[at], part, capsule(part.x, part.y, 0.0, ends, (3, 4)), 1.5)
        if z > 100:  # clavicle and head of the humerus
            at, part = s.crop((min(side * 15, side * 182), -80), (max(side * 15, side * 182), 45))
            rod = capsule(part.x, part.y, z, ((side * 20, -66, 112), (side * 118, -30, 143)), (7, 6))
            _bone(hu[at], part, rod)
            _bone(hu[at], part, ellipsoid(part.x, part.y, z, (side * 158, 20, 140), (20, 18, 24)))


def _add_nodule(hu: Array, grid: tuple[Array, Array, Array], nodule: Nodule, rng: np.random.Generator) -> None:
    zs, ys, xs = grid
    step = float(zs[1] - zs[0])
    half = nodule.diameter_mm * 0.8 + 3
    box = tuple(
        slice(*np.searchsorted(axis, [centre - half, centre + half]))
        for axis, centre in zip(grid, nodule.centre[::-1], strict=True)
    )
    parts = 5
    fine = (zs[box[0]][:, None] + (np.arange(parts) - parts // 2) * step / parts).ravel()
    away = np.stack(
        np.broadcast_arrays(
            xs[box[2]] - nodule.centre[0],
            ys[box[1]][:, None] - nodule.centre[1],
            (fine - nodule.centre[2])[:, None, None],
        ),
        -1,
    ).astype(np.float32)
    distance = np.linalg.norm(away, axis=-1) + np.float32(1e-3)
    bumps = np.zeros_like(distance)
    for _ in range(5):
        wave = rng.normal(size=3) * 2.2
        bumps += np.cos((away / distance[..., None]) @ wave.astype(np.float32) + rng.uniform(0, 6.28)) / 5**0.5
    inside = cover(nodule.diameter_mm / 2 * (1 + nodule.lobes * (bumps - bumps.mean())) - distance, 1.4)
    inside = inside.reshape(-1, parts, *inside.shape[1:]).mean(1)
    matter = nodule.hu + 12 * mottle(rng, inside.shape, (1, 3, 3))
    here = hu[box]
    np.maximum(here, here + (matter - here) * inside, out=here)


def _noise(rng: np.random.Generator, shape: tuple[int, int]) -> Array:
    """Texture of filtered back-projection: ramp times a soft roll-off, standard deviation 1."""
    fy, fx = np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])
    radius = np.hypot(fy, fx)
    spectrum = np.fft.rfft2(rng.standard_normal(shape)) * radius * np.exp(-((radius / 0.28) ** 2))
    noise = np.fft.irfft2(spectrum, shape).astype(np.float32)
    return noise / noise.std()


def chest_hu(zs: Array, ys: Array, xs: Array, seed: int) -> Array:
    """Hounsfield units ``[slice, row, column]`` at the LPS positions ``zs``, ``ys``, ``xs`` (mm, each increasing)."""
    rng = np.random.default_rng(seed)
    shape = (len(zs), len(ys), len(xs))
    hu, lungs = np.empty(shape, np.float32), np.empty(shape, np.float32)
    coarse = mottle(rng, (len(zs), 96, 96), (1.6, 1.6, 1.6))
    y, x = np.meshgrid(ys, xs, indexing="ij")
    for k, z in enumerate(zs):
        grain = ndimage.zoom(coarse[k], (shape[1] / 96, shape[2] / 96), order=1, prefilter=False)
        s = _section(float(z), x, y, grain)
        plane = _wall(s)
        _abdomen(plane, s)
        _mediastinum(plane, s)
        lungs[k] = cover(s.lungs)
        # Supine: the dependent (posterior) lung is denser.
        blend(plane, LUNG + 0.35 * y + 9 * grain, lungs[k])
        _bones(plane, s)
        hu[k] = plane
    grid = (zs, ys, xs)
    for branches in grow(rng, lungs > 0.99, grid):
        draw(hu, lungs, grid, branches, BLOOD)
    for nodule in NODULES:
        _add_nodule(hu, grid, nodule, rng)
    blur = 0.55 / float(xs[1] - xs[0])
    reach = np.exp(-((np.hypot(x / 150, y / 100)) ** 4))
    for k in range(len(zs)):
        hu[k] = ndimage.gaussian_filter(hu[k], blur) + _noise(rng, (shape[1], shape[2])) * (12 + 10 * reach)
    return hu
