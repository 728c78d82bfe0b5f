"""A synthetic brain FLAIR: head, skull, folded cortex, ventricles, one bright lesion, shading and Rician noise.

Positions are LPS mm with the origin between the thalami. It is asymmetric on purpose: the lesion and the narrowed
ventricle are on the left, eyes and nose in front, the cerebellum behind and below.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from node.demo.shapes import Array, Point, blend, capsule, cover, ellipsoid, mottle

Place = tuple[Array, Array, Array]
"""x, y, z in LPS mm, broadcast to one shape."""
SCALE = 360.0
"""Stored value of white matter; the other tissues are stated in parts of it."""
WHITE, GREY, FLUID, FAT, SKULL, MUSCLE, AIR = 0.96, 1.16, 0.22, 2.9, 0.12, 0.62, 0.02
LESION, LESION_CENTRE, LESION_RADIUS_MM = 2.05, (34.0, 24.0, 26.0), 19.0


def _brain_mask(x: Array, y: Array, z: Array, inside: Array) -> Array:
    """Signed distance to the brain within the skull: whole above, lobes and cerebellum below."""
    below = np.maximum.reduce(
        [
            ellipsoid(x, y, z, (0, 44, -34), (54, 38, 34)),  # cerebellum
            ellipsoid(x, y, z, (42, -14, -26), (25, 40, 26)),  # temporal lobes
            ellipsoid(x, y, z, (-42, -14, -26), (25, 40, 26)),
            capsule(x, y, z, ((0, 6, -4), (0, 20, -75)), (17, 10)),  # brain stem
            z + 14,
        ]
    )
    return np.minimum(inside, below)


def _face(image: Array, place: Place, head: Array, grain: Array) -> None:
    """Skull base, orbits and nose, in front of and below the brain."""
    x, y, z = place
    low = cover(np.minimum(-14 - z, head - 10))
    blend(image, np.clip(MUSCLE - 0.25 + 0.3 * grain, AIR, 2.0), low)
    for side in (-1.0, 1.0):
        blend(image, FAT * 0.7, cover(ellipsoid(x, y, z, (side * 31, -66, -34), (19, 24, 17))))
        blend(image, FLUID, cover(ellipsoid(x, y, z, (side * 32, -76, -34), (12, 12, 12))))
        blend(image, MUSCLE, cover(capsule(x, y, z, ((side * 30, -64, -34), (side * 14, -42, -34)), (3, 3))))
        blend(image, SKULL + 0.1 * np.abs(grain), cover(ellipsoid(x, y, z, (side * 44, 22, -36), (22, 12, 12))))
    blend(image, AIR + 0.25 * np.clip(grain, 0, 2), cover(ellipsoid(x, y, z, (0, -70, -46), (12, 26, 20))))


def _ventricles(x: Array, y: Array, z: Array) -> Array:
    """Signed distance to the fluid spaces inside the brain; those on the left are narrowed by the lesion."""
    way: tuple[Point, ...] = ((6, -36, 6), (8, -14, 16), (12, 12, 18), (22, 34, 8), (26, 54, 2))
    size = (4.5, 4.5, 5.5, 6.5, 3.0)
    parts = [ellipsoid(x, y, z, (0, 4, 0), (2.5, 12, 10)), ellipsoid(x, y, z, (0, 28, -34), (6, 5, 9))]
    for side, width in ((-1.0, 1.0), (1.0, 0.6)):
        for a, b, ra, rb in zip(way, way[1:], size, size[1:], strict=False):
            rod = ((side * a[0], a[1], a[2]), (side * b[0], b[1], b[2]))
            parts.append(capsule(x, y, z, rod, (ra * width, rb * width)))
    return np.maximum.reduce(parts)


def lesion_distance(x: Array, y: Array, z: Array, bumps: Array) -> Array:
    """Signed distance to the lesion's uneven border; ``bumps``: smooth noise, standard deviation 1."""
    stretch = ellipsoid(x, y, z, LESION_CENTRE, (LESION_RADIUS_MM, LESION_RADIUS_MM * 1.25, LESION_RADIUS_MM))
    return stretch + 2.4 * bumps


def _slab(place: Place, grain: Array, folds: Array, bumps: Array) -> tuple[Array, Array]:
    """Relative signal and share of lesion at ``place``; the three noises have its shape."""
    x, y, z = place
    up = np.maximum(z, 0)
    head = ellipsoid(x, y, up, (0, 0, 0), (75, 95, 84)) + 6 * y / 95 * (np.abs(x) / 75) ** 2 + 0.5 * bumps
    skull = head - 7.5
    inside = _brain_mask(x, y, z, skull - 7.5)
    image = np.full(z.shape, AIR, np.float32)
    blend(image, FAT + 0.3 * grain - 0.6 * cover(2 - head), cover(head))
    blend(image, SKULL, cover(skull, 1.5))
    blend(image, 0.5 + 0.1 * grain, cover(1.2 - np.abs(skull - 3.2), 1.5) * cover(z + 10))  # marrow
    _face(image, place, head, grain)
    blend(image, FLUID, cover(inside + 2.0))
    blend(image, WHITE + 0.03 * grain, cover(inside))
    # Folds: the zero surface of smooth noise, deep at the rim of the brain and gone 20 mm below it.
    depth = np.clip(1 - inside / 20, 0, 1)
    fold = np.abs(folds)
    ribbon = np.maximum(4.0 - inside, 5 * (0.62 * depth**0.5 - fold))
    blend(image, GREY + 0.04 * grain, cover(ribbon, 1.5) * cover(inside))
    blend(image, FLUID + 0.12, cover(6 * (0.22 * depth**0.7 - fold), 1.2) * cover(inside))
    for side in (-1.0, 1.0):
        for centre, axes in (((13, 6, 6), (9, 13, 10)), ((24, -8, 8), (7, 17, 11))):  # thalamus, basal ganglia
            at = (side * centre[0], float(centre[1]), float(centre[2]))
            blend(image, GREY, 0.7 * cover(ellipsoid(x, y, z, at, axes), 3.0))
        sylvian = capsule(x, y, z, ((side * 66, -18, -2), (side * 40, -8, 2)), (3.2, 1.6))
        blend(image, FLUID + 0.1, cover(sylvian, 1.5) * cover(inside))
    midline = 1.1 - np.abs(x + 1.2 * bumps)
    callosum = np.minimum(np.minimum(z + 30, 26 - z), 44 - np.abs(y - 4))
    blend(image, FLUID + 0.1, cover(np.minimum(midline, -callosum), 1.2) * cover(inside + 2))
    water = _ventricles(x, y, z)
    blend(image, GREY + 0.15, cover(water + 1.5, 1.5) * cover(inside))
    blend(image, FLUID - 0.04, cover(water) * cover(inside))
    lesion = cover(lesion_distance(x, y, z, bumps), 4.5) * cover(inside - 2) * (1 - cover(water))
    blend(image, LESION + 0.10 * bumps + 0.05 * grain, lesion * (0.9 - 0.3 * cover(ribbon - 1, 2.0)))
    # Receive coils see the rim better than the middle, one side a little better than the other, the vertex worst.
    image *= np.exp(0.10 * np.sin(x / 60) + 0.12 * np.cos(y / 55 + 0.6) - 0.9 * np.clip((z - 40) / 40, 0, 1) ** 2)
    return image, lesion


def flair(zs: Array, ys: Array, xs: Array, seed: int) -> tuple[Array, Array]:
    """Magnitude image and share of lesion, both ``[slice, row, column]``, at LPS positions (mm, each increasing).

    Each slice is the mean of three thin ones over its thickness, which is the distance between slices.
    """
    rng = np.random.default_rng(seed)
    step, pixel = float(zs[1] - zs[0]), float(xs[1] - xs[0])
    shape = (3 * len(zs), len(ys), len(xs))
    fields = [mottle(rng, shape, (size * 3 / step, size / pixel, size / pixel)) for size in (1.4, 5.0, 8.0)]
    signal, share = (np.empty((len(zs), *shape[1:]), np.float32) for _ in range(2))
    for k, middle in enumerate(zs):
        thin = middle + np.float32(step / 3) * np.arange(-1, 2, dtype=np.float32)
        z, y, x = np.meshgrid(thin, ys, xs, indexing="ij")
        image, lesion = _slab((x, y, z), *(field[3 * k : 3 * k + 3] for field in fields))
        signal[k], share[k] = image.mean(0), lesion.mean(0)
    signal = ndimage.gaussian_filter(signal, (0, 0.55 / pixel, 0.55 / pixel))
    real, imaginary = (rng.standard_normal(signal.shape, dtype=np.float32) * 0.035 for _ in range(2))
    return SCALE * np.hypot(signal + real, imaginary), share
