"""Every kind of unusual input has the outcome that docs/inputs.md gives it, and the node goes on."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bombs import deep, header
from bright_pipeline import Bright
from dicom_files import SAGITTAL, ct_series, secondary_capture, text_report, write
from enhanced_files import with_private_groups
from odd_series import with_other_frames_of_reference
from pydicom import Dataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage, generate_uid
from receivers import Node, associate, configuration, encode, send, until
from scanner import RULE, storescu

from node.config import parse
from node.jobs.engine import Jobs
from node.ledger.engine import now
from node.ledger.tables import association, conflict, decision, instance
from node.reasons import reason_text
from node.routing.conflicts import Conflicts
from node.routing.router import Router
from node.studies.preflight import unmet
from node.studies.source import SourceSeries

PAGE = (Path(__file__).parents[2] / "docs" / "inputs.md").read_text()
TOLD = dict(re.findall(r"^\| ([^|]+?) \| ([^|]+?) \|", PAGE, re.MULTILINE))


def changed(image: Dataset, **values: Any) -> Dataset:
    for keyword, value in values.items():
        if value is None:
            delattr(image, keyword)
        else:
            setattr(image, keyword, value)
    return image


def one(**values: Any) -> Dataset:
    return changed(ct_series(1, 16)[0], **values)


def _refused() -> dict[str, tuple[Dataset, bytes | None]]:
    """Input -> data set whose UIDs the request names, and what is sent in its place."""
    long = "1." + "2" * 64
    whole = one()
    other = one(SOPClassUID=MRImageStorage)
    return {
        "UID that is a path, or no UID": (one(SeriesInstanceUID="../../etc/passwd"), None),
        "UID of more than 64 characters": (one(StudyInstanceUID=long), None),
        "Study Instance UID empty": (one(StudyInstanceUID=""), None),
        "Study Instance UID missing": (one(StudyInstanceUID=None), None),
        "data set of zero length": (whole, b""),
        "data set cut off": (whole, encode(whole)[:-9]),
        "data set that is too costly to read": (whole, header(uid=whole.SOPInstanceUID) + deep(100, undefined=True)),
        "data set of another SOP Class than announced": (other, encode(other)),
    }


@pytest.mark.parametrize("name", _refused())
@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
@pytest.mark.filterwarnings("ignore:The value length")
def test_what_cannot_be_kept_is_refused_with_its_status(node: Node, name: str) -> None:
    dataset, content = _refused()[name]
    sender = associate(node, [(CTImageStorage, ExplicitVRLittleEndian)])
    data = encode(dataset) if content is None else content
    answer = send(sender, CTImageStorage, dataset.SOPInstanceUID, data or None)
    assert TOLD[name] == f"status {answer.Status:04X}"
    assert answer.ErrorComment
    assert node.files() == node.rows(instance) == []
    good = one()
    assert send(sender, CTImageStorage, good.SOPInstanceUID, encode(good)).Status == 0x0000
    sender.release()


def _again() -> dict[str, Callable[[Dataset], Dataset]]:
    """Input -> how the image is changed before it is sent again."""
    return {
        "SOP Instance UID used again in another study": lambda image: changed(image, StudyInstanceUID=generate_uid()),
        "the same image again": lambda image: image,
        "another patient, accession number or series under the same UID": lambda image: changed(image, PatientID="2"),
        "other content under the same UID": lambda image: changed(image, WindowCenter="7"),
    }


@pytest.mark.parametrize("name", _again())
def test_what_comes_again_is_nothing_or_a_conflict_with_a_name(node: Node, tmp_path: Path, name: str) -> None:
    image = one()
    storescu(node, tmp_path / "first", [image])
    storescu(node, tmp_path / "second", [_again()[name](image)])
    Conflicts(node.engine, node.spool).step()
    assert len(node.rows(instance)) == 1
    outcomes = [f"conflict: {row.kind} changed" for row in node.rows(conflict)] or ["nothing"]
    assert outcomes == [TOLD[name]]


def mixed(**values: Any) -> list[Dataset]:
    """Four slices, half of them changed."""
    images = ct_series(4, 16)
    return images[:2] + [changed(image, **values) for image in images[2:]]


def all_changed(**values: Any) -> list[Dataset]:
    images = [changed(image, **values) for image in ct_series(4, 16)]
    for image in images:
        image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID
    return images


def _series() -> dict[str, list[Dataset]]:
    uids = {"study": generate_uid(), "series": generate_uid()}
    orientations = [*ct_series(2, 16, **uids), *ct_series(2, 16, orientation=SAGITTAL, **uids)]
    for image in orientations:
        image.FrameOfReferenceUID = "1.2.3"
    volumes = [image for _ in range(2) for image in ct_series(4, 16, **uids)]
    for image in volumes:
        image.FrameOfReferenceUID = "1.2.3"
    cine = [
        changed(i, NumberOfFrames=2, PixelData=i.PixelData * 2, ImagePositionPatient=None) for i in ct_series(4, 16)
    ]
    some, devices = ct_series(5, 16), ct_series(4, 16)
    devices[1].DeviceSerialNumber = "2"
    return {
        "series with several orientations": orientations,
        "series with several frames of reference": mixed(FrameOfReferenceUID=generate_uid()),
        "images of several patients in one series": mixed(PatientID="2"),
        "another frame of reference in every image, all else agrees": with_other_frames_of_reference(ct_series(4, 16)),
        "another frame of reference in every image, of several devices": with_other_frames_of_reference(devices),
        "several volumes in one series (4D)": volumes,
        "multi-frame image without a position for every frame": cine,
        "functional groups that name another image, series or patient": [with_private_groups()],
        "images whose SOP Class is not that of their Modality": all_changed(SOPClassUID=MRImageStorage),
        "images in colour or with a palette": all_changed(PhotometricInterpretation="PALETTE COLOR"),
        "projections, renderings and screenshots among the derived images": all_changed(
            ImageType=["DERIVED", "SECONDARY", "MIP"]
        ),
        "rescale, bits or pixel spacing that no scanner has": all_changed(RescaleSlope="1e308"),
        "CT values that are no Hounsfield units": all_changed(RescaleType="EDW"),
        "some images of the above, or localizers, among slices": [
            *some[:1],
            changed(some[1], ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]),
            *some[2:],
        ],
        "single image": [one()],
        "secondary capture of any Modality": [changed(secondary_capture(), Modality="CT")],
        "structured report, waveform, any object without pixels": [changed(text_report(), Modality="CT")],
        "text in no valid encoding": list(ct_series(4, 16)),
        "headers that make no sense": mixed(NumberOfSeriesRelatedInstances=[4, 5]),
    }


def outcome(node: Node) -> str:
    """What the router decides and, when it routes, what the pipeline's needs say."""
    config = parse(configuration(node.spool.folder, node.port) + RULE)
    assert Router(config, node.engine, node.spool, Jobs(node.engine)).step(now() + 3600.0) == 1
    (row,) = node.rows(decision)
    if row.outcome != "routed":
        return f"{row.outcome}: {reason_text(row.reason)}"
    source = SourceSeries.read(node.spool.absolute(image.path) for image in node.rows(instance))
    reason = unmet(Bright.needs, source)
    return f"not applicable: {reason}" if reason else "analysed"


@pytest.mark.parametrize("name", _series())
def test_a_strange_series_has_its_named_outcome(node: Node, tmp_path: Path, name: str) -> None:
    datasets = _series()[name]
    if name == "text in no valid encoding":
        paths = write(datasets, tmp_path / "plain")
        sender = associate(node, [(CTImageStorage, ExplicitVRLittleEndian)])
        for dataset, path in zip(datasets, paths, strict=True):
            data = encode(dataset).replace(b"Test^Patient", b"T\xe9st\xff\xfe\x80^P123")
            assert b"\xff\xfe\x80" in data
            assert send(sender, CTImageStorage, path.stem, data).Status == 0x0000
        sender.release()
        until(lambda: all(row.closed_at for row in node.rows(association)))
    else:
        storescu(node, tmp_path / "out", datasets)
    kind, _, reason = TOLD[name].partition(": ")
    text = outcome(node)
    assert text.startswith(kind), text
    assert reason in text


def test_every_line_of_the_page_is_tested() -> None:
    loops = "result of an AI node (this one or another), also with other UIDs, patient or institution"  # test_loops.py
    elsewhere = {"Input", "---", "the same image in another transfer syntax", loops}
    assert set(TOLD) - elsewhere == {*_refused(), *_again(), *_series()}
