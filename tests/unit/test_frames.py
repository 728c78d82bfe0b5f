"""Frames of Enhanced objects: what their functional groups may say, and what only the object itself says."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from dicom_files import ct_series
from enhanced_files import FOREIGN_UID, enhanced, with_private_groups
from pydicom import Dataset, dcmread
from pydicom.datadict import keyword_for_tag

from node.pipeline import Algorithm, Findings, Segment, codes
from node.results.analysis import Analysis
from node.results.encode import encode
from node.results.gate.check import check
from node.results.identity import identity_tags
from node.studies.frames import _MACROS, split_frames
from node.studies.source import SourceSeries

_PHILIPS_ENHANCED_MR = "dcm_qa_enh__In__Philips__IM_0027_fMAP.dcm"


def test_identity_never_comes_from_a_functional_group():
    whole = with_private_groups()
    frames = split_frames(whole)
    assert len(frames) == 4
    for frame in frames:
        for keyword in (
            "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "PatientID", "PatientName",
            "AccessionNumber", "FrameOfReferenceUID", "Modality", "Rows",
        ):  # fmt: skip
            assert frame.get(keyword) == whole.get(keyword), keyword


def test_no_known_macro_offers_an_attribute_of_patient_study_series_or_instance():
    taken = {keyword for keywords in _MACROS.values() for keyword in keywords}
    assert not taken & {keyword_for_tag(tag) for tag in identity_tags()}
    assert not {keyword for keyword in taken if keyword.endswith("UID")}


@pytest.mark.parametrize("stated", ["3", "5", "four"])
@pytest.mark.filterwarnings("ignore")
def test_an_object_of_another_number_of_frames_than_it_describes_is_not_taken_apart(tmp_path, stated):
    (whole,) = enhanced(ct_series(4, 16))
    del whole.NumberOfFrames
    whole.add_new(0x00280008, "LO", stated)
    whole.save_as(tmp_path / "whole.dcm")
    assert split_frames(whole) == (whole,)
    assert SourceSeries.read([tmp_path / "whole.dcm"]).grid.fault == (
        "multi-frame images without a position for every frame"
    )
    (report,) = results_on(tmp_path / "whole.dcm")
    assert named(report) == {whole.SOPInstanceUID}


def test_results_on_an_enhanced_object_with_a_private_group_name_only_what_was_received(tmp_path):
    whole = with_private_groups()
    whole.save_as(tmp_path / "whole.dcm")
    objects = results_on(tmp_path / "whole.dcm")
    assert whole.SOPInstanceUID in named(objects[-1])
    assert not [uid for dataset in objects for uid in named(dataset) if uid.startswith(FOREIGN_UID)]


@pytest.mark.skipif(
    "AINODE_DATA" not in os.environ, reason="AINODE_DATA is not set: see docs/development/validation.md"
)
def test_results_on_an_enhanced_mr_of_philips_name_only_what_was_received():
    path = Path(os.environ["AINODE_DATA"]) / "zoo" / _PHILIPS_ENHANCED_MR
    uid = str(dcmread(path, stop_before_pixels=True).SOPInstanceUID)
    assert {str(frame.SOPInstanceUID) for frame in SourceSeries.read([path]).datasets} == {uid}
    objects = results_on(path)
    assert {u for dataset in objects for u in named(dataset)} <= {
        uid,
        *(str(dataset.SOPInstanceUID) for dataset in objects),
    }


def results_on(path: Path) -> list[Dataset]:
    """SEG and SR of one segment on the series of a file, or the SR that says why there is none."""
    source = SourceSeries.read([path])
    findings, outcome, reason = None, "not applicable", source.grid.fault
    if source.grid.affine is not None:
        mask = source.volume().with_array(np.ones(source.geometry.spatial_shape, np.uint8))
        segment = Segment(label="All", mask=mask, category=codes.SCT.Tissue, type=codes.SCT.Tissue)
        findings, outcome, reason = Findings(segments=(segment,)), "measured", ""
    analysis = Analysis(
        pipeline="p",
        algorithm=Algorithm(name="A", version="1"),
        generation=1,
        outcome=outcome,
        reason=reason,
        findings=findings,
        analysed_at=datetime(2026, 3, 1, tzinfo=UTC),
    )
    objects = encode(analysis, source)
    check(objects, source)
    return [dcmread(BytesIO(instance.data)) for instance in objects]


def named(dataset: Dataset) -> set[str]:
    """Every SOP Instance UID that an object refers to."""
    return {str(item.ReferencedSOPInstanceUID) for item in _items(dataset) if "ReferencedSOPInstanceUID" in item}


def _items(dataset: Dataset):
    yield dataset
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                yield from _items(item)
