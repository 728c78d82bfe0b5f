"""Masks on images without a volume: a segmentation of each image, report, key image, and through the gate."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from analyses import analysis, source_of, spoiled
from dicom_files import ct_series
from projections import chest_xray, cine, mammogram
from pydicom import Dataset

from node.errors import EncodeError, GateError
from node.inference.findings_document import read_findings, write_findings
from node.pipeline import Findings, Region, Shape, codes
from node.results.analysis import EncodedObject, outcome_of
from node.results.encode import encode
from node.results.gate.check import check
from node.results.image_outline import outline_of
from node.results.report_items import measurement_groups
from node.studies.source import SourceSeries
from node.studies.source_result import SourceResult
from node.wording import NOTICE

KINDS = ("image seg", "sr", "key images", "pdf", "presentation state", "key object selection")
OPACITY = codes.DCM.Opacity


def xrays(folder: Path) -> SourceSeries:
    behind, side = chest_xray(80, 60), chest_xray(70, 50, view="LL")
    side.StudyInstanceUID, side.SeriesInstanceUID, side.InstanceNumber = (
        behind.StudyInstanceUID,
        behind.SeriesInstanceUID,
        2,
    )
    return source_of(folder, [behind, side])


def ring(rows: int, columns: int) -> np.ndarray:
    """A ring, and a smaller part that lies apart."""
    distance = np.hypot(*(np.indices((rows, columns)) - np.array([30, 25])[:, None, None]))
    mask = (distance < 12) & (distance > 5)
    mask[5:8, 40:45] = True
    return mask


def region(mask: np.ndarray, image: object, label: str = "Opacity 1", **more: object) -> Region:
    return Region.outlined(mask, on=image, label=label, finding=OPACITY, **more)  # type: ignore[arg-type]


def objects_of(findings: Findings, source: SourceSeries) -> list[EncodedObject]:
    objects = encode(analysis(findings), source, KINDS)
    check(objects, source)
    return list(objects)


def segs(objects: list[EncodedObject]) -> list[Dataset]:
    return [instance.dataset for instance in objects if instance.kind == "image seg"]


def test_masks_become_a_segmentation_of_each_image_without_an_invented_place(tmp_path):
    source = xrays(tmp_path)
    behind, side = source.images()
    left, heart, ball = ring(80, 60), np.zeros((80, 60), np.uint8), np.zeros((70, 50), bool)
    heart[30:50, 20:40], ball[3:9, 4:11] = 1, True
    findings = Findings(
        regions=(
            region(left, behind, site=codes.SCT.Lung, laterality=codes.SCT.Left, probability=0.9),
            region(ball, side, "Opacity 2"),
            Region.outlined(heart, on=behind, label="Heart", finding=codes.SCT.Heart, landmark=True),
        )
    )
    objects = objects_of(findings, source)
    first, second = segs(objects)
    by_label = {str(s.SegmentLabel): first.pixel_array[n] for n, s in enumerate(first.SegmentSequence)}
    np.testing.assert_array_equal(by_label["Opacity 1"], left)
    np.testing.assert_array_equal(by_label["Heart"], heart)
    np.testing.assert_array_equal(np.squeeze(second.pixel_array), ball)
    assert (first.SegmentsOverlap, second.SegmentsOverlap) == ("YES", "NO")
    assert first.SeriesInstanceUID == second.SeriesInstanceUID
    assert list(first.PatientOrientation) == ["L", "F"]
    for seg, image in ((first, behind), (second, side)):
        assert str(seg).count(image.sop_instance_uid) == 2 + len(seg.SegmentSequence)
        for keyword in ("FrameOfReferenceUID", "PlanePositionSequence", "PlaneOrientationSequence", "PixelSpacing"):
            assert keyword not in str([element.keyword for element in seg.iterall()])
    assert outcome_of(findings) == "findings"


def test_the_report_states_outline_and_segment_with_one_tracking_uid(tmp_path):
    source = xrays(tmp_path)
    image = source.images()[0]
    objects = objects_of(Findings(regions=(region(ring(80, 60), image, probability=0.75),)), source)
    (seg,) = segs(objects)
    (report,) = [instance.dataset for instance in objects if instance.kind == "sr"]
    outline, segment = measurement_groups(report)
    uids = {
        str(item.UID) for group in (outline, segment) for item in group.ContentSequence if item.ValueType == "UIDREF"
    }
    assert str(seg.SegmentSequence[0].TrackingUID) in uids
    (graphic,) = [item for item in outline.ContentSequence if item.ValueType == "SCOORD"]
    points = np.reshape(graphic.GraphicData, (-1, 2))
    assert (points.min(axis=0) >= [25 - 12, 30 - 12]).all()
    assert (points.max(axis=0) <= [25 + 13, 30 + 13]).all()
    (referenced,) = [item for item in segment.ContentSequence if item.ConceptNameCodeSequence[0].CodeValue == "121214"]
    target = referenced.ReferencedSOPSequence[0]
    assert (target.ReferencedSOPInstanceUID, target.ReferencedSegmentNumber) == (seg.SOPInstanceUID, 1)
    numbers = [item for group in (outline, segment) for item in group.ContentSequence if item.ValueType == "NUM"]
    assert len(numbers) == 1, "what is measured is stated once"


def test_only_destinations_that_want_it_get_it_and_reports_refer_to_it_where_it_goes(tmp_path):
    source = xrays(tmp_path)
    findings = Findings(regions=(region(ring(80, 60), source.images()[0]),))
    assert [instance.kind for instance in encode(analysis(findings), source)] == ["sr"], (
        "not sent unless it is asked for"
    )
    kinds, alone = {"sr", "image seg"}, {"sr"}
    for profiles, refers in (([kinds], True), ([kinds, alone], False)):
        seg, report = (instance.dataset for instance in encode(analysis(findings), source, kinds, profiles=profiles))
        assert (str(seg.SOPInstanceUID) in str(report)) is refers, profiles
        assert NOTICE in str(seg)


def test_frames_of_a_loop_are_named_in_one_segmentation(tmp_path):
    source = source_of(tmp_path, [cine(frames=3, rows=41, columns=61)])
    masks = [np.zeros((41, 61), bool) for _ in range(2)]
    masks[0][3:9, 5:9], masks[1][20:31, 50:61] = True, True
    regions = tuple(
        region(mask, source.images()[frame - 1], f"Opacity {frame}") for mask, frame in zip(masks, (3, 2), strict=True)
    )
    (seg,) = segs(objects_of(Findings(regions=regions), source))
    np.testing.assert_array_equal(seg.pixel_array, masks)
    items = [g.DerivationImageSequence[0].SourceImageSequence[0] for g in seg.PerFrameFunctionalGroupsSequence]
    assert [item.ReferencedFrameNumber for item in items] == [3, 2]
    assert {item.ReferencedSOPInstanceUID for item in items} == {source.images()[0].sop_instance_uid}


def test_the_handover_keeps_masks(tmp_path):
    image = xrays(tmp_path).images()[0]
    findings = Findings(regions=(region(ring(80, 60), image),))
    arrays: dict[str, np.ndarray] = {}
    document = write_findings(findings, arrays)
    (again,) = read_findings(document, arrays).regions
    np.testing.assert_array_equal(again.mask, findings.regions[0].mask)
    assert sum(array.size for array in arrays.values()) < 80 * 60
    for key, value in (("size", [1 << 20, 1 << 20]), ("first", [-1, 0]), ("size", [4, 4])):
        kept = document["regions"][0]["mask"][key]
        document["regions"][0]["mask"][key] = value
        with pytest.raises(ValueError, match=r"mask|broadcast"):
            read_findings(document, arrays)
        document["regions"][0]["mask"][key] = kept


def test_a_mask_that_is_none_of_its_image_is_refused(tmp_path):
    source = xrays(tmp_path)
    image = source.images()[0]
    with pytest.raises(EncodeError, match="has 60 rows and 80 columns, its image has 80 and 60"):
        objects_of(Findings(regions=(region(np.ones((60, 80)), image),)), source)
    with pytest.raises(ValueError, match="is empty"):
        region(np.zeros((80, 60)), image)
    with pytest.raises(ValueError, match="array of 3 axes"):
        region(np.ones((1, 80, 60)), image)
    with pytest.raises(ValueError, match=r"use Region\.outlined"):
        Region(label="x", finding=OPACITY, shape=Shape.point((1.0, 2.0, 3.0)), mask=np.ones((80, 60), bool))


def test_a_mask_on_an_image_with_a_place_belongs_in_a_volume(tmp_path):
    source = source_of(tmp_path, ct_series(4, 30))
    with pytest.raises(EncodeError, match="return a lesion or a segment with a mask as a Volume"):
        objects_of(Findings(regions=(region(np.ones((30, 30)), source.images()[0]),)), source)


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        (lambda seg: setattr(seg, "Rows", 60), "PixelData has"),
        (lambda seg: (setattr(seg, "Rows", 60), setattr(seg, "Columns", 80)), "Rows x Columns 60 x 80 are not"),
        (
            lambda seg: setattr(seg.SharedFunctionalGroupsSequence[0], "PixelMeasuresSequence", [Dataset()]),
            "a place",
        ),
        (lambda seg: setattr(seg.SegmentSequence[0], "SegmentNumber", 2), "SegmentNumber runs"),
    ],
)
def test_the_gate_refuses_a_segmentation_that_does_not_fit_its_image(tmp_path, spoil, fault):
    source = xrays(tmp_path)
    objects = objects_of(Findings(regions=(region(ring(80, 60), source.images()[0]),)), source)
    with pytest.raises(GateError, match=fault):
        check(spoiled(tuple(objects), "image seg", spoil), source)


def test_a_later_pipeline_gets_no_volume_of_it(tmp_path):
    source = xrays(tmp_path / "in")
    (seg,) = [
        instance
        for instance in objects_of(Findings(regions=(region(ring(80, 60), source.images()[0]),)), source)
        if instance.kind == "image seg"
    ]
    path = tmp_path / "seg.dcm"
    path.write_bytes(seg.data)
    result = SourceResult(path, path, source)
    assert (result.labels, result.mask("Opacity 1")) == ((), None)


def test_the_outline_of_the_largest_part_encloses_it_on_the_pixels_of_the_image():
    mask = np.zeros((20, 30), bool)
    mask[4:9, 10:17], mask[6, 12], mask[15:17, 2:4] = True, False, True
    points = outline_of(mask)
    np.testing.assert_array_equal(points.min(axis=0), [10.0, 4.0])
    np.testing.assert_array_equal(points.max(axis=0), [17.0, 9.0])


def test_a_mammogram_keeps_its_side(tmp_path):
    source = source_of(tmp_path, [mammogram()])
    image = source.images()[0]
    mask = np.zeros((image.rows, image.columns), bool)
    mask[10:20, 10:20] = True
    given = {"site": codes.SCT.Breast, "laterality": codes.SCT.Left}
    (seg,) = segs(objects_of(Findings(regions=(region(mask, image, **given),)), source))
    modifier = seg.SegmentSequence[0].AnatomicRegionSequence[0].AnatomicRegionModifierSequence[0]
    assert modifier.CodeMeaning == "Left"
