"""Every kind of object on every kind of grid before tools that others wrote: no error, no warning, the same voxels."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from analyses import analysis, halved, source_of
from dicom_files import ct_series
from every_object import EVERY, SYNTHETIC, every_object, everything
from pydicom import dcmread
from volume_series import points, same_places

from node.pipeline import Volume
from node.results.analysis import EncodedObject
from node.results.encode import encode
from node.results.gate.check import check
from node.studies.source import SourceSeries

LIMITS = {
    "sr on labelmap": "Shall not be present for Referenced SOP Class that is not segmentation"
    " - attribute <ReferencedSegmentNumber>",
}
"""What dciodvfy says of what it does not know yet: the Label Map Segmentation class."""
QUIRKS = (
    "Different information entities for attribute - Element=<AccessionNumber>",  # of an SR, taken for the series
    "(0x0018,0x1002) UI Device UID",  # of Contributing Equipment, where PS3.3 C.12.1 has it
    "this is a Standard Extended SOP Class",  # the sum of the others of its kind
)
"""What dcentvfy and dciodvfy say of objects that are right."""
Encoded = tuple[str, SourceSeries, dict[str, tuple[EncodedObject, ...]]]


def tool(name: str, *arguments: object) -> list[str]:
    """Lines that a program of this environment says."""
    done = subprocess.run(
        [Path(sys.executable).with_name(name), *map(str, arguments)],
        capture_output=True, text=True, errors="replace", check=False,
    )  # fmt: skip
    return (done.stdout + done.stderr).splitlines()


def complaints(lines: Iterable[str]) -> list[str]:
    said = [line for line in lines if line.startswith(("Error", "Warning"))]
    return [line for line in said if not any(quirk in line for quirk in QUIRKS)]


@pytest.fixture(scope="module", params=SYNTHETIC)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Encoded:
    source = source_of(tmp_path_factory.mktemp("series"), SYNTHETIC[request.param]())
    outcomes = every_object(source) if request.param == "axial" else islice(every_object(source), 1)
    return request.param, source, dict(outcomes)


def kept(objects: Iterable[EncodedObject], folder: Path) -> Iterator[tuple[EncodedObject, Path]]:
    for number, encoded in enumerate(objects):
        path = folder / f"{number}.dcm"
        path.write_bytes(encoded.data)
        yield encoded, path


def test_dciodvfy_and_dcentvfy_have_nothing_to_say(made: Encoded, tmp_path: Path) -> None:
    _, source, outcomes = made
    assert {o.kind for o in outcomes["findings"]} == set(EVERY)
    files = list(kept((o for objects in outcomes.values() for o in objects), tmp_path))
    own = {line.split(" - ", 1)[1] for line in complaints(tool("dciodvfy", source.paths[0]))}
    for encoded, path in files:
        said = [line for line in complaints(tool("dciodvfy", path)) if line.split(" - ", 1)[1] not in own]
        assert [line for line in said if LIMITS.get(encoded.kind, "?") not in line] == [], encoded.kind
    known = complaints(tool("dcentvfy", *source.paths))
    said = [x for x in complaints(tool("dcentvfy", *source.paths, *(p for _, p in files))) if x not in known]
    # A structure set refers to its study as to an instance (RT Referenced Study Sequence, PS3.3 C.8.8.5).
    assert [x for x in said if f"was referenced - {source.study_instance_uid} " not in x] == []


def image_of(path: Path) -> Volume:
    """What dcmqi wrote, as a volume in LPS."""
    image = SimpleITK.ReadImage(str(path))
    directions = np.reshape(image.GetDirection(), (3, 3)) @ np.diag(image.GetSpacing())
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = directions[:, ::-1], image.GetOrigin()
    return Volume(SimpleITK.GetArrayFromImage(image), affine, coordinate_system="PATIENT")


def test_dcmqi_reads_every_voxel_of_segmentation_and_map_where_it_was_drawn(made: Encoded, tmp_path: Path) -> None:
    name, source, outcomes = made
    if name == "tilted":
        pytest.skip("what dcmqi writes is a regular volume, which a tilted series is not")
    files = {encoded.kind: path for encoded, path in kept(outcomes["findings"], tmp_path)}
    tool("segimage2itkimage", "--inputDICOM", files["seg"], "--outputDirectory", tmp_path, "-t", "nrrd", "-p", "seg")
    read = [image_of(path) for path in sorted(tmp_path.glob("seg-*.nrrd"))]
    for number, drawn in enumerate(everything(source).all_segments, 1):
        places = np.concatenate([points(volume.with_array(volume.array == number)) for volume in read])
        assert same_places(places, points(drawn.mask)), drawn.label
    tool(
        "paramap2itkimage",
        "--inputDICOM",
        files["parametric map"],
        "--outputDirectory",
        tmp_path,
        "-t",
        "nrrd",
        "-n",
        "map",
    )
    heat = image_of(tmp_path / "map-pmap.nrrd")
    stored = dcmread(files["parametric map"])
    assert np.array_equal(heat.array.ravel(), np.frombuffer(stored.FloatPixelData, np.float32))
    first = stored.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence[0].ImagePositionPatient
    assert np.allclose(heat.affine[:3, 3], first, atol=1e-4)


@pytest.mark.parametrize("size", [16, 48])
def test_derived_images_in_jpeg_2000_have_the_pixels_of_the_others(tmp_path: Path, size: int):
    source = source_of(tmp_path, ct_series(3, size))
    objects = encode(analysis(halved(source)), source, ["derived", "derived j2k"])
    check(objects, source)
    plain, packed = ([o.dataset for o in objects if o.kind == kind] for kind in ("derived", "derived j2k"))
    assert all(np.array_equal(a.pixel_array, b.pixel_array) for a, b in zip(plain, packed, strict=True))
    assert not {d.SOPInstanceUID for d in plain} & {d.SOPInstanceUID for d in packed}
    assert {d.file_meta.TransferSyntaxUID.is_compressed for d in packed} == {size >= 32}
