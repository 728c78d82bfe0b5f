"""The orientation phantom: left is left in images, SEG, report and key image, read without this node's geometry."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import real_peers
import SimpleITK
from click.testing import CliRunner
from pydicom import Dataset, dcmread

from node.__main__ import main
from node.cli import phantom
from node.demo.orientation_demo import PhantomStudy, make
from node.demo.orientation_phantom import COUNTS, DIRECTIONS, PATIENT_ID, PLANES
from node.demo.orientation_reader import NAMES, create
from node.pipeline import Unsuitable
from node.studies.source import SourceSeries

BY_COUNT = {count: np.array(DIRECTIONS[letter], float) for letter, count in COUNTS.items()}


@pytest.fixture(scope="module", params=PLANES)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> PhantomStudy:
    return make(tmp_path_factory.mktemp(request.param), request.param)


def balls(image: SimpleITK.Image, low: float, high: float) -> np.ndarray:
    """LPS mm of the centre of each blob, as ITK sees it."""
    shapes = SimpleITK.LabelShapeStatisticsImageFilter()
    shapes.Execute(SimpleITK.ConnectedComponent(SimpleITK.BinaryThreshold(image, low, high)))
    return np.array([shapes.GetCentroid(label) for label in shapes.GetLabels()])


def towards(places: np.ndarray) -> Counter[tuple[float, ...]]:
    """How many of ``places`` lie farthest out in each direction of the patient."""
    units = np.array(list(DIRECTIONS.values()), float)
    return Counter(tuple(units[i]) for i in (places @ units.T).argmax(axis=1))


def test_itk_sees_as_many_balls_in_each_direction_as_the_phantom_says(made: PhantomStudy):
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(made.images[0].parent)))
    seen = towards(balls(reader.Execute(), 150, 300))
    assert seen == {tuple(direction): count for count, direction in BY_COUNT.items()}


def results(made: PhantomStudy, kind: str) -> list[Dataset]:
    return [dcmread(path) for path in made.results if path.stem.endswith(f"-{kind}")]


def test_each_segment_lies_in_the_direction_that_it_is_named_after(made: PhantomStudy):
    (seg,) = results(made, "seg")
    bits = np.unpackbits(np.frombuffer(seg.PixelData, np.uint8), bitorder="little")
    frames = bits[: seg.NumberOfFrames * seg.Rows * seg.Columns].reshape(-1, seg.Rows, seg.Columns)
    shared = seg.SharedFunctionalGroupsSequence[0]
    right, down = np.reshape(shared.PlaneOrientationSequence[0].ImageOrientationPatient, (2, 3)).astype(float)
    spacing = [float(v) for v in shared.PixelMeasuresSequence[0].PixelSpacing]
    places: dict[int, list[np.ndarray]] = {}
    for frame, group in zip(frames, seg.PerFrameFunctionalGroupsSequence, strict=True):
        rows, columns = np.nonzero(frame)
        corner = np.array(group.PlanePositionSequence[0].ImagePositionPatient, float)
        points = corner + rows[:, None] * spacing[0] * down + columns[:, None] * spacing[1] * right
        places.setdefault(group.SegmentIdentificationSequence[0].ReferencedSegmentNumber, []).append(points)
    assert len(seg.SegmentSequence) == 6
    for segment in seg.SegmentSequence:
        letter = next(key for key, name in NAMES.items() if segment.SegmentLabel.startswith(f"{name}:"))
        centre = np.concatenate(places[segment.SegmentNumber]).mean(axis=0)
        assert np.linalg.norm(centre - 60 * np.array(DIRECTIONS[letter])) < 1.5, segment.SegmentLabel


def test_dcmqi_finds_the_segment_called_left_on_the_left(made: PhantomStudy, tmp_path: Path):
    program = shutil.which("segimage2itkimage")
    if program is None or made.plane == "sagittal":  # one plane less: its time is the tests' time
        pytest.skip("segimage2itkimage is not installed (PyPI package dcmqi), or it is the sagittal phantom")
    seg = next(path for path in made.results if path.stem.endswith("-seg"))
    options = ["--inputDICOM", seg, "--outputDirectory", tmp_path, "--outputType", "nrrd"]
    subprocess.run([program, *options], check=True, capture_output=True)
    left = SimpleITK.ReadImage(tmp_path / "1.nrrd")
    (centre,) = balls(left, 1, 255)
    assert centre == pytest.approx([60, 0, 0], abs=1.5)


def test_the_report_says_left_of_an_outline_on_the_left(made: PhantomStudy):
    (report,) = results(made, "sr")
    images = {d.SOPInstanceUID: d for d in map(dcmread, made.images)}
    (measured,) = [i for i in report.ContentSequence if i.ConceptNameCodeSequence[0].CodeValue == "126010"]
    sides: dict[str, str] = {}
    outlines: dict[str, float] = {}
    for group in measured.ContentSequence:
        (tracking,) = [str(i.UID) for i in group.ContentSequence if i.ValueType == "UIDREF"]
        for item in group.ContentSequence:
            if item.ConceptNameCodeSequence[0].CodeMeaning == "Laterality":
                sides[item.ConceptCodeSequence[0].CodeMeaning] = tracking
            if item.ValueType == "SCOORD":
                image = images[item.ContentSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID]
                right, down = np.reshape(image.ImageOrientationPatient, (2, 3)).astype(float)
                columns, rows = np.reshape(item.GraphicData, (-1, 2)).T - 0.5
                step = [float(v) for v in image.PixelSpacing]
                points = rows[:, None] * step[0] * down + columns[:, None] * step[1] * right
                outlines[tracking] = float((np.array(image.ImagePositionPatient, float) + points).mean(axis=0)[0])
    assert outlines[sides["Left"]] > 40
    assert outlines[sides["Right"]] < -40


def test_the_key_image_of_the_left_ball_has_its_box_beside_the_letter_of_the_left_edge(made: PhantomStudy):
    picture = next(d for d in results(made, "key images") if d.ImageComments.startswith("Left:"))
    pixels = picture.pixel_array[:, :768].astype(int)
    red = (pixels[..., 0] > 200) & (pixels[..., 1] < 120) & (pixels[..., 2] < 120)
    rows, columns = (np.flatnonzero(red.any(axis=axis)) for axis in (1, 0))
    middle = {"row": rows.mean() - 384, "column": columns.mean() - 384}
    across, down = (str(edge)[0] for edge in picture.PatientOrientation)
    if "L" in across or "R" in across:
        assert (middle["column"] > 100) == (across == "L")
    elif "L" in down or "R" in down:
        assert (middle["row"] > 100) == (down == "L")
    else:  # it lies towards the viewer
        assert max(map(abs, middle.values())) < 40


def test_every_image_and_result_says_that_it_is_no_patient(made: PhantomStudy):
    for path in (made.images[0], *made.results):
        header = dcmread(path, stop_before_pixels=True)
        assert header.PatientID == PATIENT_ID
        assert str(header.PatientName).startswith("SYNTHETIC^")
        assert header.StudyInstanceUID == made.study_instance_uid


def test_a_mirrored_phantom_is_read_as_what_is_seen_not_as_what_was_meant(made: PhantomStudy, tmp_path: Path):
    """The reader counts: nothing but the pixels tells it where left is."""
    for path in made.images:
        image = dcmread(path)
        image.PixelData = np.ascontiguousarray(image.pixel_array[:, ::-1]).tobytes()
        image.save_as(tmp_path / path.name)
    series = SourceSeries.read(tmp_path.iterdir())
    lesions = create(weights=None, device="cpu", options={}).run(series).lesions
    mask = lesions[0].segment.mask
    (centre,) = mask.map_indices_to_reference(np.argwhere(mask.array).mean(axis=0)[None])
    across = series.datasets[0].ImageOrientationPatient[0]
    if made.plane in ("axial", "coronal"):
        assert centre[0] == pytest.approx(-60 * across, abs=3)


def test_other_images_are_no_phantom(made: PhantomStudy, tmp_path: Path):
    for path in made.images[:40]:
        image = dcmread(path)
        image.PixelData = bytes(len(image.PixelData))
        image.save_as(tmp_path / path.name)
    with pytest.raises(Unsuitable, match="0 balls instead of 21"):
        create(weights=None, device="cpu", options={}).run(SourceSeries.read(tmp_path.iterdir()))


def test_the_verb_writes_a_plane_and_sends_its_images_to_the_node(tmp_path: Path):
    assert set(phantom.PLANES) == set(PLANES)
    with real_peers.storescp(tmp_path / "scp") as node:
        config = tmp_path / "config.toml"
        config.write_text(
            f'[ae]\ntitle = "{node.aet}"\naddress = "127.0.0.1"\nport = {node.port}\n[storage]\nfolder = "{tmp_path}"\n'
        )
        arguments = ["phantom", "--config", str(config), "--plane", "coronal", "--send", "--json"]
        done = CliRunner().invoke(main, [*arguments, str(tmp_path / "out")])
        assert done.exit_code == 0, done.output
        arrived = [dcmread(path, stop_before_pixels=True) for path in node.files()]
    (told,) = json.loads(done.stdout)
    assert told["plane"] == "coronal"
    assert {str(d.StudyInstanceUID) for d in arrived} == {told["study_instance_uid"]}
    assert len(arrived) == len(told["images"]) == 64
    assert all(Path(path).exists() for path in told["results"])
