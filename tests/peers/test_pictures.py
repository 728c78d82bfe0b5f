"""Pictures and comparisons show what the DICOM objects in an archive say, in the right place."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import dicom_files
import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset

from node.demo import scanner
from node.demo.gallery import compare, draw_all, regions_of
from node.demo.images import TrueLesion, Truth
from node.demo.pacs import TITLE, OrthancPacs, Pacs, SmallPacs, make_pacs
from node.demo.pictures import LINE, PANEL, comparison, overlay
from node.demo.report import measurements
from node.errors import InputError, PlatformError
from node.pipeline import Algorithm, DerivedSeries, Findings, Lesion, Segment, Volume, codes
from node.process.loopback import HERE
from node.results.analysis import Analysis
from node.results.encode import encode
from node.results.rendering import FAINT, draw_lines
from node.studies.source import SourceSeries

RED, BLUE = (255, 32, 32), (64, 64, 255)
ORIGIN, SPACING, SHAPE = (-64.0, -64.0, -30.0), (3.0, 1.0, 1.0), (20, 128, 128)
"""LPS mm of the first voxel, mm, and voxels of the test series (slice, row, column)."""
LEFT_BACK, RIGHT_FRONT = (40.0, 30.0, 9.0), (-40.0, -36.0, -12.0)


def ball(volume: Volume, centre: tuple[float, float, float], radius_mm: float) -> Volume:
    index = np.indices(volume.array.shape).reshape(3, -1)
    places = volume.affine[:3, :3] @ index + volume.affine[:3, 3:]
    inside = np.linalg.norm(places - np.array(centre)[:, None], axis=0) < radius_mm
    return volume.with_array(inside.reshape(volume.array.shape).astype(np.uint8))


def lesion(volume: Volume, label: str, centre: tuple[float, float, float], colour: tuple[int, int, int]) -> Lesion:
    segment = Segment(
        label=label,
        mask=ball(volume, centre, 8.0),
        category=codes.SCT.MorphologicallyAbnormalStructure,
        type=codes.SCT.Nodule,
        colour=colour,
    )
    return Lesion(segment=segment, finding=codes.SCT.Nodule, site=codes.SCT.Lung, probability=0.9)


class Case:
    """A CT series, its files, and the objects of an analysis with two lesions and a derived series."""

    def __init__(self, folder: Path) -> None:
        hu = np.random.default_rng(3).normal(-850, 20, SHAPE)
        hu[:, 10:118, 10:118] += 200
        images = dicom_files.ct_series(volume=np.rint(hu).astype(np.int32), spacing=SPACING, origin=ORIGIN)
        self.paths = tuple(dicom_files.write(images, folder / "scan"))
        source = SourceSeries.read(self.paths)
        volume = source.volume("HPL")
        findings = Findings(
            lesions=(lesion(volume, "Nodule 1", LEFT_BACK, RED), lesion(volume, "Nodule 2", RIGHT_FRONT, BLUE)),
            derived=(
                DerivedSeries(
                    volume=volume.with_array(volume.array + 30), description="Brighter", derivation=codes.DCM.Smoothing
                ),
            ),
        )
        analysis = Analysis(
            pipeline="nodule",
            algorithm=Algorithm(name="test", version="1"),
            generation=1,
            outcome="findings",
            findings=findings,
            analysed_at=datetime.now(UTC),
        )
        self.objects = [entry.dataset for entry in encode(analysis, source)]
        self.images = [pydicom.dcmread(path) for path in self.paths]
        dicom_files.write(self.objects, folder / "results")
        self.truth = Truth(
            study_instance_uid=source.study_instance_uid,
            series_instance_uid=source.series_instance_uid,
            paths=self.paths,
            lesions=(
                TrueLesion("there", LEFT_BACK, 16.0),
                TrueLesion("there too", RIGHT_FRONT, 16.0),
                TrueLesion("not found", (0.0, 0.0, 0.0), 10.0),
            ),
        )

    def of(self, modality: str) -> list[Dataset]:
        return [dataset for dataset in self.objects if dataset.Modality == modality]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("case")


@pytest.fixture(scope="module")
def case(folder: Path) -> Case:
    return Case(folder)


@pytest.fixture(params=["installed", "small"])
def pacs(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Pacs]:
    archive = make_pacs(tmp_path / "pacs", {scanner.TITLE: (HERE, 1)})
    if request.param == "small":
        archive = SmallPacs(tmp_path / "small")
    elif not isinstance(archive, OrthancPacs):
        pytest.skip("Orthanc is not installed (Debian package orthanc)")
    archive.start()
    yield archive
    archive.stop()


def coloured(picture: Image.Image, colour: tuple[int, int, int], box: tuple[int, int, int, int]) -> np.ndarray:
    """Rows and columns of the pixels of nearly this colour in a part of the picture, relative to the part."""
    pixels = np.asarray(picture.crop(box).convert("RGB")).astype(int)
    return np.argwhere(np.abs(pixels - colour).max(-1) < 24)


def test_an_outline_lies_where_its_lesion_is_seen_from_the_feet(case: Case) -> None:
    picture = overlay(case.of("SEG")[0], case.images, {})
    top = picture.height - 26 - 8 - (PANEL + 3 * LINE + 8)
    panels = [(0, top, PANEL, top + PANEL), (PANEL + 8, top, 2 * PANEL + 8, top + PANEL)]
    outlines = {}
    for name, colour in (("left back", RED), ("right front", BLUE)):
        sets = [coloured(picture, colour, panel) for panel in panels]
        outlines[name] = max(sets, key=len)
    # The patient's left is on the right of the picture, the back below.
    assert np.median(outlines["left back"], axis=0).min() > 0.6 * PANEL
    assert np.median(outlines["right front"], axis=0).max() < 0.4 * PANEL


def test_pictures_of_real_images_do_not_claim_to_be_synthetic(case: Case) -> None:
    real = overlay(case.of("SEG")[0], case.images, {})
    marked = [Dataset(image) for image in case.images]
    for copy, image in zip(marked, case.images, strict=True):
        copy.file_meta = image.file_meta
    marked[0].ImageComments = "SYNTHETIC PHANTOM"
    synthetic = overlay(case.of("SEG")[0], marked, {})
    footers = [np.asarray(p.crop((0, p.height - 26, p.width, p.height))) for p in (real, synthetic)]
    assert (footers[1] > 60).sum() > (footers[0] > 60).sum() > 0


def test_measurements_are_read_from_the_report_by_tracking_uid(case: Case) -> None:
    lines_by_uid = measurements(case.of("SR"))
    uids = [str(segment.TrackingUID) for segment in case.of("SEG")[0].SegmentSequence]
    assert set(lines_by_uid) == set(uids) != set()
    for uid in uids:
        values = dict(line.rsplit(" ", 2)[0::2] for line in lines_by_uid[uid])
        assert {"Long axis", "Volume"} <= set(values)
        assert values["Volume"] == "ml"
        volume = next(float(line.split()[-2]) for line in lines_by_uid[uid] if line.startswith("Volume"))
        assert volume == pytest.approx(4 / 3 * np.pi * 0.8**3, rel=0.1)


def test_a_derived_series_is_shown_beside_its_source_and_their_difference(case: Case) -> None:
    picture = comparison(case.images, case.of("CT"))
    panels = [np.asarray(picture.crop((k * (PANEL + 8), 60, k * (PANEL + 8) + PANEL, 440))) for k in range(3)]
    assert np.median(panels[2]) == pytest.approx(255 * (0.5 + 30 / 120), abs=2), "30 HU brighter"


def test_regions_of_a_seg_are_in_patient_coordinates(case: Case) -> None:
    regions = {region.label: region for region in regions_of(case.of("SEG")[0])}
    assert regions["Nodule 1"].centre == pytest.approx(LEFT_BACK, abs=1.0)
    assert regions["Nodule 2"].centre == pytest.approx(RIGHT_FRONT, abs=1.0)
    assert regions["Nodule 1"].volume_ml == pytest.approx(4 / 3 * np.pi * 0.8**3, rel=0.1)


def test_what_a_scanner_sent_is_listed_drawn_and_compared(case: Case, folder: Path, pacs: Pacs, tmp_path: Path) -> None:
    files = scanner.find(folder)
    scanner.send(files, (HERE, pacs.port), TITLE)
    held = {(entry.modality, entry.description): entry for entry in pacs.series()}
    assert len(held[("CT", "Test CT series")].sop_instance_uids) == SHAPE[0]
    assert {modality for modality, _ in held} == {"CT", "SEG", "SR"}
    uid = held[("CT", "Test CT series")].sop_instance_uids[0]
    assert pacs.fetch(uid).SOPInstanceUID == uid
    drawn = draw_all(pacs, tmp_path / "pictures")
    assert sorted(path.name[:9] for path in drawn) == ["study1-ct", "study1-se"]
    for path in drawn:
        with Image.open(path) as picture:
            assert picture.width >= PANEL
    (first, second, third), others = compare(pacs, case.truth)
    assert first.found is not None
    assert second.found is not None
    assert first.distance_mm < 1
    assert third.found is None, "a lesion that no segment shows is not called found"
    assert others == []
    alone = dataclasses.replace(case.truth, lesions=case.truth.lesions[:1])
    assert [region.label for region in compare(pacs, alone)[1]] == ["Nodule 2"], "what no lesion explains is told"


def test_compressed_files_are_sent_as_they_are(folder: Path, case: Case, tmp_path: Path) -> None:
    image = pydicom.dcmread(case.paths[0])
    image.compress(pydicom.uid.RLELossless)
    (tmp_path / "scan").mkdir()
    image.save_as(tmp_path / "scan" / "rle", enforce_file_format=True)
    (tmp_path / "scan" / "notes.txt").write_text("not DICOM")
    pacs = SmallPacs(tmp_path / "pacs")
    pacs.start()
    try:
        scanner.send(scanner.find(tmp_path / "scan"), (HERE, pacs.port), TITLE)
        (held,) = pacs.series()
        stored = pacs.fetch(held.sop_instance_uids[0])
    finally:
        pacs.stop()
    assert stored.file_meta.TransferSyntaxUID == pydicom.uid.RLELossless
    assert stored.PixelData == image.PixelData


def test_a_folder_without_dicom_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no DICOM file"):
        scanner.find(tmp_path)


def test_sending_to_nobody_is_an_error(case: Case, folder: Path, free_port: int) -> None:
    with pytest.raises(PlatformError):
        scanner.send(scanner.find(folder)[:1], (HERE, free_port), TITLE)


def test_a_raised_three_is_drawn_as_a_three():
    def drawn(text: str) -> bytes:
        picture = Image.new("RGB", (200, 40))
        draw_lines(picture, (4, 4), [(text, FAINT)], 14)
        return picture.tobytes()

    assert drawn("Volume 494 mm\N{SUPERSCRIPT THREE}") == drawn("Volume 494 mm3")
    assert drawn("Volume 494 mm3") != drawn("Volume 494 mm")


def test_a_long_title_ends_within_the_picture(case: Case) -> None:
    titled = [Dataset(image) for image in case.images]
    for copy, image in zip(titled, case.images, strict=True):
        copy.file_meta = image.file_meta
    titled[0].SeriesDescription = "a description of 64 characters ".ljust(64, "W")
    seg = case.of("SEG")[0]
    seg.SeriesDescription = "a segmentation whose name has 64 letters ".ljust(64, "W")
    picture = overlay(seg, titled, {})
    edge = np.asarray(picture.crop((picture.width - 6, 0, picture.width, 34))).astype(int)
    assert np.ptp(edge, axis=(0, 1)).max() == 0
