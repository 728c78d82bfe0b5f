"""Reports (TID 1500) that another program wrote on our segmentation: what the node reads in them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from pydicom import FileDataset, dcmread
from pydicom.uid import generate_uid
from reader_site import Site

from node.feedback.report_reader import measurements_in, volume_of
from node.reasons import ReasonCode

WRITER = Path(sys.executable).with_name("tid1500writer")
pytestmark = pytest.mark.skipif(not WRITER.exists(), reason="dcmqi is not installed")

PERSON = {"ObserverType": "PERSON", "PersonObserverName": "Reader^Rita"}
NODULE = {"CodeValue": "27925004", "CodingSchemeDesignator": "SCT", "CodeMeaning": "Nodule"}
VOLUME = {"CodeValue": "118565006", "CodingSchemeDesignator": "SCT", "CodeMeaning": "Volume"}
CUBIC_MM = {"CodeValue": "mm3", "CodingSchemeDesignator": "UCUM", "CodeMeaning": "cubic millimeter"}


def dcmqi_report(
    site: Site, folder: Path, volumes: Mapping[str, float], observer: Mapping[str, str] = PERSON
) -> FileDataset:
    """What tid1500writer of dcmqi makes of volumes (mm3) by Tracking UID, each of a segment of ours."""
    folder.mkdir()
    site.seg.save_as(folder / "seg.dcm", enforce_file_format=True)
    images = [f"image{number}.dcm" for number in range(len(site.source.paths))]
    for name, path in zip(images, site.source.paths, strict=True):
        dcmread(path).save_as(folder / name)
    groups = [
        {
            "TrackingIdentifier": f"Lesion {number}",
            "TrackingUniqueIdentifier": uid,
            "ReferencedSegment": min(number, len(site.seg.SegmentSequence)),
            "SourceSeriesForImageSegmentation": site.source.series_instance_uid,
            "segmentationSOPInstanceUID": str(site.seg.SOPInstanceUID),
            "Finding": NODULE,
            "measurementItems": [{"value": f"{volume:.1f}", "quantity": VOLUME, "units": CUBIC_MM}],
        }
        for number, (uid, volume) in enumerate(volumes.items(), 1)
    ]
    document = {
        "SeriesDescription": "Measurements",
        "SeriesNumber": "1001",
        "InstanceNumber": "1",
        "compositeContext": ["seg.dcm"],
        "imageLibrary": images,
        "observerContext": dict(observer),
        "VerificationFlag": "UNVERIFIED",
        "CompletionFlag": "COMPLETE",
        "activitySession": "1",
        "timePoint": "1",
        "Measurements": groups,
    }
    (folder / "report.json").write_text(json.dumps(document))
    options = {
        "--inputMetadata": folder / "report.json",
        "--inputImageLibraryDirectory": folder,
        "--inputCompositeContextDirectory": folder,
        "--outputDICOM": folder / "report.dcm",
    }
    command = [str(WRITER), *(str(word) for option in options.items() for word in option)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return dcmread(folder / "report.dcm")


def our_volumes(site: Site) -> dict[str, float]:
    """Volume (mm3) of each lesion of our report, by its label."""
    values = measurements_in(site.sr)
    return {label: volume_of(values[uid]) or 0.0 for label, uid in site.tracking.items()}


def test_lesions_of_a_report_by_dcmqi_are_kept_changed_and_new_and_what_it_leaves_out_is_not_judged(
    site: Site, tmp_path: Path
):
    volumes = our_volumes(site)
    new = generate_uid()
    report = dcmqi_report(site, tmp_path / "dcmqi", {site.tracking["Nodule 1"]: volumes["Nodule 1"] * 2, new: 100.0})
    verdicts = site.collect(report)
    assert {name: row.verdict for name, row in verdicts.items()} == {"Nodule 1": "edited", new: "added"}
    assert verdicts["Nodule 1"].reader_volume_mm3 == pytest.approx(2 * volumes["Nodule 1"], abs=0.1)
    assert len(verdicts["Nodule 1"].reader) == 16


def test_lesions_of_a_report_by_dcmqi_with_our_values_are_accepted(site: Site, tmp_path: Path):
    volumes = our_volumes(site)
    report = dcmqi_report(site, tmp_path / "dcmqi", {site.tracking[label]: volumes[label] for label in volumes})
    assert {name: row.verdict for name, row in site.collect(report).items()} == dict.fromkeys(volumes, "accepted")


def test_a_report_by_dcmqi_that_names_no_person_is_no_verdict(site: Site, tmp_path: Path):
    device = {"ObserverType": "DEVICE", "DeviceObserverUID": generate_uid(), "DeviceObserverName": "Another algorithm"}
    report = dcmqi_report(site, tmp_path / "dcmqi", {site.tracking["Nodule 1"]: 100.0}, observer=device)
    assert site.refusal(report) == ReasonCode.OF_NO_READER
