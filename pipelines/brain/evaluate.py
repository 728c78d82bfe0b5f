"""Compare the outlines with reference labels of FreeSurfer: ``python -m pipelines.brain.evaluate FOLDER``.

FOLDER holds one folder for each head, with ``mri/T1.mgz`` (or ``orig.mgz``) and ``mri/aseg.mgz`` in it, as FreeSurfer
leaves them. Prints one table for all heads; heads that the pipeline refuses are named.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from highdicom import Volume
from numpy.typing import NDArray
from scipy import ndimage

from node.pipeline import Unsuitable
from pipelines.brain.anatomy import STRUCTURES, Structure
from pipelines.brain.pipeline import BrainPipeline, Outlines, asymmetry_index

REFERENCE: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "hippocampus": ((17,), (53,)),
    "amygdala": ((18,), (54,)),
    "thalamus": ((10,), (49,)),
    "caudate nucleus": ((11,), (50,)),
    "putamen": ((12,), (51,)),
    "brain stem": ((16,), ()),
    "cerebellum": ((7, 8), (46, 47)),
    "cerebral cortex": ((3,), (42,)),
    "cerebral white matter": ((2,), (41,)),
    "ventricles": ((4, 5, 14, 15), (43, 44)),
}
"""Labels of FreeSurferColorLUT.txt, left (or unpaired) and right."""
_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One structure of one head; sides are of paired structures only."""

    dice: float
    side_dice: tuple[float, float]
    volume_ml: float
    reference_ml: float
    asymmetry_points: float
    """Difference of the asymmetry indices, percentage points."""
    wrong_side: float
    """Share of the voxels of both outlines that are on the other side in the reference, per cent."""


def read_image(path: Path) -> Volume:
    """Read an image that nibabel knows, in LPS."""
    image: Any = nibabel.load(path)
    return Volume(np.asarray(image.dataobj, np.float32), _TO_LPS @ image.affine, coordinate_system="PATIENT")


def dice(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    """2 x common / sum of both."""
    return float(2 * (one & other).sum() / max(one.sum() + other.sum(), 1))


def compare(outlines: Outlines, reference: Volume, structure: Structure) -> Comparison:
    """Compare one structure on the network's grid; reference volumes are those of the whole reference image."""
    to_reference = np.linalg.inv(reference.affine) @ outlines.affine
    labels = ndimage.affine_transform(
        reference.array, to_reference[:3, :3], to_reference[:3, 3], outlines.labels.shape, order=0
    )
    left, right = (np.isin(labels, numbers) for numbers in REFERENCE[structure.name])
    ours = [outlines.mask(structure, side) for side in ("left", "right")]
    both, truth = ours[0] | ours[1], left | right
    common = both & truth
    numbers = [n for side in REFERENCE[structure.name] for n in side]
    voxel_ml = abs(float(np.linalg.det(reference.affine[:3, :3]))) / 1000
    wrong = (ours[0] & right) | (ours[1] & left)
    return Comparison(
        dice=dice(both, truth),
        side_dice=(dice(ours[0], left), dice(ours[1], right)),
        volume_ml=float(both.sum()) / 1000,
        reference_ml=float(np.isin(reference.array, numbers).sum()) * voxel_ml,
        asymmetry_points=asymmetry_index(float(ours[0].sum()), float(ours[1].sum()))
        - asymmetry_index(float(left.sum()), float(right.sum()))
        if structure.paired
        else 0.0,
        wrong_side=100 * float(wrong.sum()) / max(float(common.sum()), 1),
    )


def row(structure: Structure, heads: Sequence[Comparison]) -> str:
    """One line of the table, Markdown."""
    scores = [head.dice for head in heads]
    errors = [100 * (head.volume_ml / head.reference_ml - 1) for head in heads]
    cells = [
        structure.name,
        f"{np.mean(scores):.3f} ({min(scores):.3f})",
        f"{np.mean(errors):+.1f} %",
        f"{np.mean(np.abs(errors)):.1f} % ({np.abs(errors).max():.0f})",
    ]
    if structure.paired:
        sides = np.mean([head.side_dice for head in heads], axis=0)
        points = np.abs([head.asymmetry_points for head in heads])
        wrong = max(head.wrong_side for head in heads)
        cells += [f"{sides[0]:.3f}, {sides[1]:.3f}", f"{points.mean():.1f} ({points.max():.1f})", f"{wrong:.2f} %"]
    else:
        cells += ["", "", ""]
    return f"| {' | '.join(cells)} |"


def main(folder: Path) -> int:
    """Print the table; 1 when there is no head."""
    pipeline = BrainPipeline(weights=None, device="cpu")
    heads: list[dict[str, Comparison]] = []
    for reference in sorted(folder.glob("*/mri/aseg.mgz")):
        name = reference.parent.parent.name
        image = next(path for path in (reference.with_name(f) for f in ("T1.mgz", "orig.mgz")) if path.is_file())
        volume, began = read_image(image), time.process_time()
        try:
            outlines = pipeline.outline(volume)
            pipeline.measure(outlines, volume)
        except Unsuitable as reason:
            print(f"{name}: refused: {reason}")
            continue
        seconds = time.process_time() - began
        labels = read_image(reference)
        heads.append({structure.name: compare(outlines, labels, structure) for structure in STRUCTURES})
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(
            f"{name}: box {outlines.labels.shape}, confidence {outlines.confidence:.3f}, {seconds:.1f} CPU s, "
            f"peak {peak:.0f} MiB",
            flush=True,
        )
    if not heads:
        print(f"{folder}: no head with mri/T1.mgz and mri/aseg.mgz was measured")
        return 1
    print(f"\n{len(heads)} heads. Mean (worst)\n")
    print("| structure | Dice | volume, bias | volume, error | Dice left, right | asymmetry, points off | wrong side |")
    print("|---|---|---|---|---|---|---|")
    for structure in STRUCTURES:
        print(row(structure, [head[structure.name] for head in heads]))
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    raise SystemExit(main(parser.parse_args().folder))
