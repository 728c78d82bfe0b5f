"""The files of a series are read while its pipeline runs: for one encoding, and whatever becomes of them is said."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from dicom_files import ct_series, write
from pydicom import DataElement, dcmread

from node.errors import InputError
from node.inference import encode_process
from node.inference.encode_process import EncodeProcess
from node.inference.encode_sources import read_ahead, take
from node.inference.encode_task import EncodeTask, ImageFile
from node.results.header_repairs import drop_unreadable
from node.spool import Spool
from node.studies.source import SourceSeries


@pytest.fixture
def images(tmp_path: Path) -> tuple[Path, ...]:
    return tuple(write(ct_series(n=3, size=8), tmp_path / "images"))


@pytest.fixture(scope="module")
def spool(tmp_path_factory: pytest.TempPathFactory) -> Spool:
    return Spool(tmp_path_factory.mktemp("node"))


@pytest.fixture(scope="module")
def encoder(spool: Spool) -> Iterator[EncodeProcess]:
    encoder = EncodeProcess(spool, 60.0)
    yield encoder
    encoder.close()


def uids(paths: tuple[Path, ...]) -> set[str]:
    return {str(image.SOPInstanceUID) for image in take(paths).series.datasets}


def test_a_series_that_was_read_ahead_is_taken_once(images: tuple[Path, ...]) -> None:
    expected = {str(dcmread(path).SOPInstanceUID) for path in images}
    read_ahead(images)
    for path in images:
        path.unlink()
    assert uids(images) == expected
    with pytest.raises(InputError):
        take(images)


def test_of_series_that_nobody_takes_the_oldest_is_dropped(tmp_path: Path) -> None:
    several = [tuple(write(ct_series(n=1, size=8), tmp_path / str(number))) for number in range(3)]
    for paths in several:
        read_ahead(paths)
        paths[0].unlink()
    assert uids(several[1])
    assert uids(several[2])
    with pytest.raises(InputError):
        take(several[0])


def prepare(encoder: EncodeProcess, images: tuple[Path, ...]) -> None:
    encoder.prepare("job", images)
    for thread in threading.enumerate():
        if thread.name == "read ahead":
            thread.join()


def encoded(encoder: EncodeProcess, spool: Spool, images: tuple[Path, ...], uid_of: dict[Path, str]) -> str:
    """Encode the report of a failure, and return it as text."""
    first = dcmread(images[0])
    work = spool.work("job")
    task = EncodeTask(
        job_id="job", study_instance_uid=first.StudyInstanceUID, series_instance_uid=first.SeriesInstanceUID,
        images=tuple(
            ImageFile(path=path, sop_class_uid=first.SOPClassUID, sop_instance_uid=uid_of[path], modality="CT")
            for path in images
        ),
        pipeline="chest", title="Chest", generation=1, outcome="failed", reason="It broke.", incomplete="", caveat="",
        created_at=1.0, salt="salt", kinds=frozenset({"sr"}), profiles=(), languages=("en",), previous=(),
        handover=work, out=work,
    )  # fmt: skip
    encoding, [row] = encoder.analysis(task)
    assert encoding.refused is None
    return str(dcmread(spool.absolute(str(row["path"]))))


def test_what_was_read_ahead_is_encoded_and_a_damaged_file_is_met_without_it(
    encoder: EncodeProcess, spool: Spool, images: tuple[Path, ...]
) -> None:
    uid_of = {path: str(dcmread(path).SOPInstanceUID) for path in images}
    prepare(encoder, images)
    images[-1].write_bytes(b"damaged")
    report = encoded(encoder, spool, images, uid_of)
    assert all(uid in report for uid in uid_of.values())
    report = encoded(encoder, spool, images, uid_of)
    assert uid_of[images[-1]] not in report
    assert all(uid_of[path] in report for path in images[:-1])


def test_a_series_that_cannot_be_read_ahead_fails_when_it_is_encoded(
    encoder: EncodeProcess, spool: Spool, images: tuple[Path, ...]
) -> None:
    uid_of = {path: str(dcmread(path).SOPInstanceUID) for path in images}
    gone = tuple(path.with_name(f"gone {path.name}") for path in images)
    prepare(encoder, gone)
    assert uid_of[images[0]] in encoded(encoder, spool, images, uid_of)


def test_a_series_of_very_many_images_is_not_read_ahead(
    encoder: EncodeProcess, spool: Spool, images: tuple[Path, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encode_process, "_MOST_AHEAD", len(images) - 1)
    uid_of = {path: str(dcmread(path).SOPInstanceUID) for path in images}
    prepare(encoder, images)
    images[-1].write_bytes(b"damaged")
    assert uid_of[images[-1]] not in encoded(encoder, spool, images, uid_of)


@pytest.mark.thorough
def test_reading_ahead_is_part_of_the_task_that_it_is_for(
    spool: Spool, images: tuple[Path, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encode_process, "_TASKS", 1)
    uid_of = {path: str(dcmread(path).SOPInstanceUID) for path in images}
    with closing(EncodeProcess(spool, 60.0)) as own:
        prepare(own, images)
        images[-1].write_bytes(b"damaged")
        assert uid_of[images[-1]] in encoded(own, spool, images, uid_of)
        prepare(own, images)
        assert uid_of[images[-1]] not in encoded(own, spool, images, uid_of)


@pytest.mark.filterwarnings("ignore:Invalid value for VR DS")
def test_an_attribute_that_cannot_be_read_counts_as_missing_in_each_image_that_has_it(tmp_path: Path):
    """Most images say the same, which is parsed once: what another one says is parsed as well."""
    images = ct_series(n=6, size=16)
    for number, image in enumerate(images):
        image.WindowCenter, image.WindowWidth, image.SeriesNumber = "40", "400", "7"
        if number in (2, 4):
            image["WindowWidth"] = DataElement("WindowWidth", "DS", "inf")
    paths = write(images, tmp_path)
    for path in (paths[3], paths[5]):
        data = path.read_bytes()
        assert data.count(b"\x28\x00\x50\x10DS\x02\x0040") == 1
        path.write_bytes(data.replace(b"\x28\x00\x50\x10DS\x02\x0040", b"\x28\x00\x50\x10DS\x02\x00x0"))
    source = SourceSeries.read(paths)
    assert set(drop_unreadable(source)) == {
        "WindowCenter cannot be read: taken for missing",
        "WindowWidth cannot be read: taken for missing",
    }
    by_path = dict(zip(source.paths, source.datasets, strict=True))
    assert [number for number, path in enumerate(paths) if "WindowCenter" not in by_path[path]] == [3, 5]
    assert [number for number, path in enumerate(paths) if "WindowWidth" not in by_path[path]] == [2, 4]
    assert {image.SeriesNumber for image in source.datasets} == {7}
