"""Each image states another Frame of Reference: analysed and reported when all else agrees, otherwise refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from analyses import analysis, halved, source_of, two_lesions
from dicom_files import ct_series
from odd_series import with_other_frames_of_reference
from pydicom import FileDataset

from node.inference.run_pipeline import analyse
from node.pipeline import Algorithm, Findings, Needs, Series, Unsuitable
from node.results.encode import encode
from node.results.gate.check import check
from node.studies.grid import describe
from node.studies.source import SourceSeries
from pipelines.channels import channels

EVERY = ("seg", "labelmap", "sr", "derived", "presentation state", "key images", "pdf", "parametric map")


class Looking:
    """Finds two lesions and makes a derived series."""

    algorithm = Algorithm(name="Looking", version="1")
    needs = Needs(modalities=frozenset({"CT"}))

    def run(self, series: Series) -> Findings:
        assert isinstance(series, SourceSeries)
        lesions = two_lesions(series).lesions
        return Findings(lesions=lesions, derived=halved(series).derived, remarks=("A remark.",))


def test_the_series_is_analysed_as_one_volume_and_the_report_says_what_was_assumed(tmp_path: Path) -> None:
    source = source_of(tmp_path, with_other_frames_of_reference(ct_series(5, 32)))
    outcome, _, findings = analyse(Looking(), source)
    assert outcome == "findings"
    assert findings.remarks[0].startswith("Each of the 5 images states another Frame of Reference")
    assert "A remark." in findings.remarks
    report = next(o for o in encode(analysis(findings), source, EVERY) if o.kind == "sr")
    assert b"They were assumed to lie in one" in report.data


@pytest.mark.thorough
def test_every_result_has_the_same_frame_of_reference_that_no_image_states(tmp_path: Path) -> None:
    images = with_other_frames_of_reference(ct_series(5, 32))
    source = source_of(tmp_path, images)
    _, _, findings = analyse(Looking(), source)
    objects = encode(analysis(findings), source, EVERY)
    check(objects, source)
    stated = {o.dataset.FrameOfReferenceUID for o in objects if "FrameOfReferenceUID" in o.dataset}
    assert {o.kind for o in objects if "FrameOfReferenceUID" in o.dataset} >= {"seg", "labelmap", "derived"}
    assert len(stated) == 1
    assert not stated & {image.FrameOfReferenceUID for image in images}
    again = SourceSeries.read(reversed(source.paths))
    assert again.geometry.frame_of_reference_uid in stated


def move(number: int, by: float) -> Callable[[list[FileDataset]], None]:
    def change(images: list[FileDataset]) -> None:
        x, y, z = images[number].ImagePositionPatient
        images[number].ImagePositionPatient = [x, y, float(z) + by]

    return change


def other_device(images: list[FileDataset]) -> None:
    images[2].DeviceSerialNumber = "2"


def turned(images: list[FileDataset]) -> None:
    images[2].ImageOrientationPatient = [0, 1, 0, 0, 0, -1]


def wider(images: list[FileDataset]) -> None:
    images[2].PixelSpacing = [3, 3]


def one_missing(images: list[FileDataset]) -> None:
    del images[2]


def two_left(images: list[FileDataset]) -> None:
    del images[2:]


@pytest.mark.parametrize(
    "change", [move(2, 0.7), move(0, 40.0), other_device, turned, wider, one_missing, two_left],
)  # fmt: skip
def test_the_series_is_refused_with_advice_when_geometry_or_equipment_does_not_agree(
    tmp_path: Path, change: Callable[[list[FileDataset]], None]
) -> None:
    images = with_other_frames_of_reference(ct_series(6, 16))
    change(images)
    source = source_of(tmp_path, images)
    assert source.grid.affine is None
    assert f"each of the {len(images)} images states another Frame of Reference UID" in source.grid.fault
    assert "To repair it, give all images of the series one Frame of Reference UID" in source.grid.fault
    assert source.grid.assumption == ""
    stated = [image.FrameOfReferenceUID for image in images]
    assert sorted(header.FrameOfReferenceUID for header in source.datasets) == sorted(stated)


def test_missing_images_of_such_a_series_are_waited_for() -> None:
    images = with_other_frames_of_reference(ct_series(6, 16))
    del images[2]
    grid = describe(images)
    assert grid.gap
    assert grid.fault.startswith("slices are missing: 1 at 1 place")


def test_frames_of_reference_that_only_some_images_share_stay_separate(tmp_path: Path) -> None:
    images = with_other_frames_of_reference(ct_series(6, 16))
    images[1].FrameOfReferenceUID = images[0].FrameOfReferenceUID
    grid = source_of(tmp_path, images).grid
    assert grid.affine is None
    assert grid.fault == "FrameOfReferenceUID differs within the series"


def test_two_such_series_are_not_taken_to_lie_in_the_same_space(tmp_path: Path) -> None:
    first, other = (
        source_of(tmp_path / name, with_other_frames_of_reference(ct_series(4, 16, study="1.2.3")))
        for name in ("one", "other")
    )
    object.__setattr__(first, "companions", {"t2": other})
    with pytest.raises(Unsuitable, match="lies in another frame of reference"):
        channels(first, ("this", "t2"))
