"""The gate lets good objects pass and catches each single thing that can be wrong with them."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
from analyses import Change, analysis, encoded, put, spoiled, two_lesions
from pydicom import Dataset, FileDataset
from pydicom.uid import generate_uid

from node.errors import GateError
from node.results.analysis import EncodedObject
from node.results.encode import encode
from node.results.gate.check import check
from node.studies.source import SourceSeries


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> tuple[SourceSeries, tuple[EncodedObject, ...]]:
    return encoded(tmp_path_factory.mktemp("series"))


def drop(keyword: str) -> Change:
    return lambda dataset: dataset.__delattr__(keyword)


def frame(number: int, **values: Any) -> Change:
    """Change the functional groups of one frame: ``PlanePosition`` or ``DimensionIndexValues``."""

    def change(dataset: FileDataset) -> None:
        item = dataset.PerFrameFunctionalGroupsSequence[number]
        if "PlanePosition" in values:
            item.PlanePositionSequence[0].ImagePositionPatient = values["PlanePosition"]
        if "DimensionIndexValues" in values:
            item.FrameContentSequence[0].DimensionIndexValues = values["DimensionIndexValues"]
        if "Segment" in values:
            item.SegmentIdentificationSequence[0].ReferencedSegmentNumber = values["Segment"]

    return change


def swap_positions(dataset: FileDataset) -> None:
    first, second = dataset.PerFrameFunctionalGroupsSequence[:2]
    first.PlanePositionSequence, second.PlanePositionSequence = (
        second.PlanePositionSequence,
        first.PlanePositionSequence,
    )


def group_items(dataset: Dataset, number: int) -> list[Dataset]:
    (container,) = [i for i in dataset.ContentSequence if i.ConceptNameCodeSequence[0].CodeValue == "126010"]
    return container.ContentSequence[number].ContentSequence


def item_of(dataset: Dataset, group: int, code: str) -> Dataset:
    return next(i for i in group_items(dataset, group) if i.ConceptNameCodeSequence[0].CodeValue == code)


def in_group(group: int, code: str, **values: Any) -> Change:
    def change(dataset: FileDataset) -> None:
        for keyword, value in values.items():
            setattr(item_of(dataset, group, code), keyword, value)

    return change


def drop_from_group(group: int, code: str) -> Change:
    return lambda dataset: group_items(dataset, group).remove(item_of(dataset, group, code))


def drop_from_root(code: str) -> Change:
    def change(dataset: FileDataset) -> None:
        items = dataset.ContentSequence
        items.remove(next(i for i in items if i.ConceptNameCodeSequence[0].CodeValue == code))

    return change


def other_unit(dataset: FileDataset) -> None:
    item_of(dataset, 1, "118565006").MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0].CodeValue = "cubits"


def no_unit(dataset: FileDataset) -> None:
    item_of(dataset, 1, "118565006").MeasuredValueSequence[0].MeasurementUnitsCodeSequence = []


def other_segment(dataset: FileDataset) -> None:
    item_of(dataset, 1, "121191").ReferencedSOPSequence[0].ReferencedSegmentNumber = 2


def no_such_segment(dataset: FileDataset) -> None:
    item_of(dataset, 1, "121191").ReferencedSOPSequence[0].ReferencedSegmentNumber = 9


def outline_on_nothing(dataset: FileDataset) -> None:
    item_of(dataset, 0, "111030").ContentSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID = "1.2.3"


def outline_of_another_class(dataset: FileDataset) -> None:
    target = item_of(dataset, 0, "111030").ContentSequence[0].ReferencedSOPSequence[0]
    target.ReferencedSOPClassUID = "1.2.840.10008.5.1.4.1.1.4"


def evidence_of_another_study(dataset: FileDataset) -> None:
    dataset.CurrentRequestedProcedureEvidenceSequence[0].StudyInstanceUID = "1.2.3"


def evidence_of_another_series(dataset: FileDataset) -> None:
    listed = dataset.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
    listed[0].SeriesInstanceUID = "1.2.3"


def source_series_of_another(dataset: FileDataset) -> None:
    dataset.ReferencedSeriesSequence[0].SeriesInstanceUID = "1.2.3"


def frame_that_is_not_there(dataset: FileDataset) -> None:
    derivation = dataset.PerFrameFunctionalGroupsSequence[0].DerivationImageSequence[0]
    derivation.SourceImageSequence[0].ReferencedFrameNumber = 2


def invented_predecessor(dataset: FileDataset) -> None:
    instance, series, study = Dataset(), Dataset(), Dataset()
    instance.ReferencedSOPClassUID, instance.ReferencedSOPInstanceUID = dataset.SOPClassUID, "1.2.3"
    series.ReferencedSOPSequence, series.SeriesInstanceUID = [instance], "1.2.3.4"
    study.ReferencedSeriesSequence, study.StudyInstanceUID = [series], dataset.StudyInstanceUID
    dataset.PredecessorDocumentsSequence = [study]


def meaningless_code(dataset: FileDataset) -> None:
    item_of(dataset, 0, "121071").ConceptCodeSequence[0].CodeMeaning = ""


def another_scheme(dataset: FileDataset) -> None:
    item_of(dataset, 0, "121071").ConceptCodeSequence[0].CodingSchemeDesignator = "Sct"


def another_meaning(dataset: FileDataset) -> None:
    dataset.DerivationCodeSequence[0].CodeMeaning = "Sharpening"


def another_outline(dataset: FileDataset) -> None:
    group_items(dataset, 0).append(item_of(dataset, 0, "111030"))


def measured_twice(dataset: FileDataset) -> None:
    group_items(dataset, 1).append(item_of(dataset, 1, "118565006"))


def segment_renumbered(dataset: FileDataset) -> None:
    dataset.SegmentSequence[1].SegmentNumber = 3


def segment_unnamed(dataset: FileDataset) -> None:
    del dataset.SegmentSequence[0].SegmentLabel


def tracking_repeats(dataset: FileDataset) -> None:
    dataset.SegmentSequence[1].TrackingUID = dataset.SegmentSequence[0].TrackingUID


def turned(dataset: FileDataset) -> None:
    shared = dataset.SharedFunctionalGroupsSequence[0]
    shared.PlaneOrientationSequence[0].ImageOrientationPatient = [-1, 0, 0, 0, 1, 0]


def stretched(dataset: FileDataset) -> None:
    dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing = [0.7, 0.8]


def shifted_source(dataset: FileDataset) -> None:
    dataset.ImagePositionPatient = [float(v) + 0.5 for v in dataset.ImagePositionPatient]


def truncated(dataset: FileDataset) -> None:
    dataset.PixelData = dataset.PixelData[:-2]


FAULTS: dict[str, tuple[str, Change, str]] = {
    "another patient": ("sr", put(PatientID="TEST-2"), "PatientID is not the source's"),
    "another name": ("derived", put(PatientName="Other^Patient"), "PatientName is not the source's"),
    "another accession": ("seg", put(AccessionNumber="A2"), "AccessionNumber is not the source's"),
    "another study": ("seg", put(StudyInstanceUID=generate_uid()), "StudyInstanceUID is not the source's"),
    "another character set": ("sr", put(SpecificCharacterSet="ISO_IR 100"), "SpecificCharacterSet"),
    "an invented age": ("sr", put(PatientAge="050Y"), "PatientAge is not the source's"),
    "a UID too long": ("sr", put(SeriesInstanceUID="1." + "2" * 70), "is no UID"),
    "a UID with a leading zero": ("seg", put(SeriesInstanceUID="1.02.3"), "is no UID"),
    "type 1 missing": ("seg", drop("ContentLabel"), "ContentLabel is missing"),
    "type 1 empty": ("derived", put(ImageType=""), "ImageType is empty"),
    "type 2 missing": ("derived", drop("KVP"), "KVP is missing"),
    "nested type 1 missing": ("seg", segment_unnamed, "SegmentLabel is missing"),
    "no segments": ("seg", put(SegmentSequence=[]), "SegmentSequence is empty"),
    "a segment number with a gap": ("seg", segment_renumbered, "SegmentNumber runs"),
    "a tracking UID twice": ("seg", tracking_repeats, "TrackingUID is missing or repeats"),
    "other rows": ("seg", put(Rows=16), "Rows x Columns"),
    "another frame of reference": ("seg", put(FrameOfReferenceUID="1.2.3"), "FrameOfReferenceUID is not the source's"),
    "a frame count that is wrong": ("seg", put(NumberOfFrames=4), "NumberOfFrames is"),
    "pixels missing": ("seg", truncated, "PixelData has"),
    "frames mirrored": ("seg", turned, "ImageOrientationPatient is not the source's"),
    "pixels stretched": ("seg", stretched, "PixelSpacing is not the source's"),
    "a shifted frame": ("seg", frame(0, PlanePosition=[-10, -20, -29]), "does not lie on its source image"),
    "swapped frames": ("seg", swap_positions, "does not lie on its source image"),
    "a dimension index twice": ("seg", frame(1, DimensionIndexValues=[1, 2]), "DimensionIndexValues repeat"),
    "a dimension index that lies": ("seg", frame(0, DimensionIndexValues=[1, 9]), "do not follow the positions"),
    "a frame of no segment": ("seg", frame(0, Segment=7), "described or shown"),
    "no source of a frame": (
        "seg",
        lambda d: d.PerFrameFunctionalGroupsSequence[0].__delattr__("DerivationImageSequence"),
        "names no source image",
    ),
    "a derived image elsewhere": ("derived", shifted_source, "ImagePositionPatient is not the source's"),
    "another rescale": ("derived", put(RescaleSlope=2.0), "rescale"),
    "another type": ("derived", put(BitsStored=8), "neither in the source's type nor in 16 bits"),
    "not marked as derived": ("derived", put(ImageType=["ORIGINAL", "PRIMARY", "AXIAL"]), "ImageType begins"),
    "no derivation": ("derived", drop("DerivationCodeSequence"), "DerivationCodeSequence is missing"),
    "no source image": ("derived", drop("SourceImageSequence"), "names no source image"),
    "derived pixels missing": ("derived", truncated, "PixelData has"),
    "another template": ("sr", lambda d: put(TemplateIdentifier="1000")(d.ContentTemplateSequence[0]), "TID 1500"),
    "another title": (
        "sr",
        lambda d: put(CodeValue="126001", CodeMeaning="Oncology Measurement Report")(d.ConceptNameCodeSequence[0]),
        "title",
    ),
    "no procedure": ("sr", drop_from_root("121058"), "121058"),
    "no observer": ("sr", drop_from_root("121005"), "121005"),
    "no measurements": ("sr", drop_from_root("126010"), "no measurement group"),
    "no tracking identifier": ("sr", drop_from_group(0, "112039"), "112039"),
    "no tracking UID": ("sr", drop_from_group(1, "112040"), "112040"),
    "no finding": ("sr", drop_from_group(0, "121071"), "121071"),
    "a wrong relationship": ("sr", in_group(0, "112040", RelationshipType="CONTAINS"), "HAS OBS CONTEXT"),
    "no relationship": ("sr", in_group(0, "121071", RelationshipType=""), "RelationshipType"),
    "no unit": ("sr", no_unit, "no UCUM unit"),
    "an unknown unit": ("sr", other_unit, "cubits"),
    "no value": ("sr", in_group(1, "118565006", MeasuredValueSequence=[]), "118565006"),
    "the segment of another lesion": ("sr", other_segment, "tracking UID is not that of segment 2"),
    "a segment that is not there": ("sr", no_such_segment, "which the SEG has not"),
    "no outline": ("sr", drop_from_group(0, "111030"), "viewers would show none"),
    "an outline on nothing": ("sr", outline_on_nothing, "neither source nor result"),
    "an outline on another class": ("sr", outline_of_another_class, "another SOP Class"),
    "evidence of another study": ("sr", evidence_of_another_study, "another StudyInstanceUID"),
    "evidence of another series": ("sr", evidence_of_another_series, "another SeriesInstanceUID"),
    "source images of another series": ("seg", source_series_of_another, "another SeriesInstanceUID"),
    "a frame of a single image": ("seg", frame_that_is_not_there, "refers to a frame that"),
    "an invented predecessor": ("sr", invented_predecessor, "which is no predecessor"),
    "an outline without points": ("sr", in_group(0, "111030", GraphicData=[]), "GraphicData"),
    "a code without meaning": ("sr", meaningless_code, "no value, scheme or meaning"),
    "a coding scheme in other letters": ("sr", another_scheme, "the standard writes SCT"),
    "a code with the meaning of another": ("derived", another_meaning, "does not mean 'Sharpening'"),
    "no language": ("sr", drop_from_root("121049"), "121049"),
    "two outlines in a group": ("sr", another_outline, "2 outlines and segments"),
    "one measurement twice": ("sr", measured_twice, "is measured 2 times"),
    "a finding without text": ("sr", in_group(0, "112039", TextValue=""), "TextValue"),
}


def test_good_objects_pass(good):
    source, objects = good
    check(objects, source)


@pytest.mark.filterwarnings("ignore")  # pydicom warns about the values that some faults put in
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_caught_and_named(good, fault):
    source, objects = good
    kind, change, said = FAULTS[fault]
    with pytest.raises(GateError) as caught:
        check(spoiled(objects, kind, change), source)
    assert said in str(caught.value)


def test_an_instance_twice_is_caught(good):
    source, objects = good
    with pytest.raises(GateError, match="used twice"):
        check((*objects, objects[0]), source)


def test_file_meta_of_another_instance_is_caught(good):
    source, objects = good
    uid = objects[-1].dataset.SOPInstanceUID.encode()
    other = uid[:-1] + (b"1" if uid.endswith(b"2") else b"2")
    changed = replace(objects[-1], data=objects[-1].data.replace(uid, other, 1))
    with pytest.raises(GateError, match="MediaStorageSOPInstanceUID differs"):
        check((*objects[:-1], changed), source)


def test_a_result_in_the_series_of_the_source_is_caught(good):
    source, objects = good
    with pytest.raises(GateError, match="SeriesInstanceUID is the source's"):
        check(spoiled(objects, "sr", put(SeriesInstanceUID=source.series_instance_uid)), source)


def test_a_report_without_its_segmentation_is_caught(good):
    source, objects = good
    with pytest.raises(GateError, match="neither source nor result"):
        check([o for o in objects if o.kind != "seg"], source)


def test_results_on_images_that_were_never_received_are_caught(good):
    """Whatever a header was made into on its way: the files say what was received."""
    source, _ = good
    headers = [deepcopy(header) for header in source.datasets]
    for header in headers:
        header.SOPInstanceUID = generate_uid()
    believed = replace(source, datasets=tuple(headers))
    with pytest.raises(GateError, match="neither source nor result"):
        check(encode(analysis(two_lesions(believed)), believed), believed)


def test_all_faults_are_told_at_once(good):
    source, objects = good
    objects = spoiled(spoiled(objects, "sr", put(PatientID="X")), "seg", put(AccessionNumber="Y"))
    with pytest.raises(GateError, match=r"^2 faults, not sent: .*AccessionNumber.*PatientID"):
        check(objects, source)
