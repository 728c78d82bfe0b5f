"""Another program reads the contours of a structure set back as the voxels of the mask, with its hole and its parts."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from analyses import analysis, source_of
from dicom_files import ct_series
from odd_series import oblique
from pydicom import FileDataset
from real_peers import program

from node.pipeline import Findings, Segment, codes
from node.results.encode import encode

SERIES: dict[str, Callable[[], list[FileDataset]]] = {
    "axial": lambda: ct_series(4, 24),
    "oblique": lambda: ct_series(4, 24, orientation=oblique(30.0, 20.0), spacing=(3.0, 0.8, 0.6)),
}


@pytest.mark.parametrize("kind", SERIES)
def test_plastimatch_finds_the_voxels_of_the_mask(tmp_path: Path, kind: str) -> None:
    source = source_of(tmp_path / "ct", SERIES[kind]())
    grid = source.volume("HPL")
    mask = np.zeros(grid.spatial_shape, np.uint8)
    mask[:, 4:18, 5:20] = 1
    mask[:, 8:12, 9:13] = 0
    mask[1:3, 20:22, 2:4] = 1
    ring = Segment(
        label="Ring", mask=grid.with_array(mask), category=codes.SCT.AnatomicalStructure, type=codes.SCT.Lung
    )
    (structure_set,) = encode(analysis(Findings(segments=(ring,))), source, ["rtstruct"])
    (tmp_path / "contours.dcm").write_bytes(structure_set.data)
    arguments = ["--input", tmp_path / "contours.dcm", "--referenced-ct", tmp_path / "ct"]
    out = ["--output-prefix", tmp_path / "masks", "--prefix-format", "nrrd"]
    subprocess.run([program("plastimatch"), "convert", *arguments, *out], check=True, capture_output=True, timeout=120)
    read = SimpleITK.ReadImage(str(tmp_path / "masks" / "Ring.nrrd"))
    affine = np.asarray(grid.affine)
    ours = [affine @ [*index, 1.0] for index in np.argwhere(mask)]
    inside = [read[read.TransformPhysicalPointToIndex(point[:3].tolist())] for point in ours]
    assert all(inside), "every voxel of the mask is inside"
    assert np.count_nonzero(SimpleITK.GetArrayFromImage(read)) == len(ours), "and no other: Dice 1"
