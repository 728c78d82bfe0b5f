"""Reports and rejection notes of readers that come back: what they say of our lesions, and what is no verdict."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import sqlalchemy as sa
from pydicom import Dataset, FileDataset
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid
from reader_edits import cube, rejection_note, workstation_seg
from reader_site import Site

from node.ledger.tables import verdict
from node.reasons import ReasonCode
from node.results.predecessor import name_predecessor
from node.results.report_items import concept_value, measurement_groups

VOLUME = "118565006"
ENHANCED_SR = "1.2.840.10008.5.1.4.1.1.88.22"


def groups_of(report: Dataset, uid: str) -> list[Dataset]:
    return [
        group
        for group in measurement_groups(report)
        if any(concept_value(item) == "112040" and uid == item.UID for item in group.ContentSequence)
    ]


def without(item: Dataset, gone: list[Dataset]) -> None:
    """Remove content items wherever they are."""
    for child in list(item.get("ContentSequence") or ()):
        if any(child is part for part in gone):
            item.ContentSequence.remove(child)
        else:
            without(child, gone)


def container_of(item: Dataset, child: Dataset) -> Dataset | None:
    for part in item.get("ContentSequence") or ():
        container = item if part is child else container_of(part, child)
        if container is not None:
            return container
    return None


def successor(site: Site, *, verified: bool = True, named: bool = True) -> FileDataset:
    """The node's report as another program writes it again."""
    report = deepcopy(site.sr)
    report.SOPInstanceUID = report.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    report.SeriesInstanceUID = generate_uid()
    report.Manufacturer = "Reporting Inc."
    if verified:
        observer = Dataset()
        observer.VerifyingObserverName, observer.VerifyingOrganization = "Reader^Rita", "Hospital"
        observer.VerificationDateTime = "20260303101112"
        observer.VerifyingObserverIdentificationCodeSequence = []
        report.VerificationFlag, report.VerifyingObserverSequence = "VERIFIED", [observer]
    if named:
        name_predecessor(report, site.sr)
    return report


def edit(site: Site, report: Dataset) -> None:
    """Nodule 1 is twice as large, Nodule 2 is gone, and there is another lesion."""
    first, second = (groups_of(report, site.tracking[label]) for label in ("Nodule 1", "Nodule 2"))
    added = deepcopy(first)
    where = container_of(report, first[0])
    assert where is not None
    for group in added:
        for item in group.ContentSequence:
            if concept_value(item) == "112040":
                item.UID = "1.2.3.4"
        where.ContentSequence.append(group)
    for group in first:
        for item in group.ContentSequence:
            if concept_value(item) == VOLUME:
                item.MeasuredValueSequence[0].NumericValue *= 2
    without(report, second)


def verdicts_of(found: dict[str, Any]) -> dict[str, str]:
    return {name: row.verdict for name, row in found.items()}


def test_a_verified_successor_says_what_was_kept_changed_left_out_and_added(site: Site):
    report = successor(site)
    edit(site, report)
    verdicts = site.collect(report)
    assert verdicts_of(verdicts) == {"Nodule 1": "edited", "Nodule 2": "rejected", "1.2.3.4": "added"}
    row = verdicts["Nodule 1"]
    assert row.reader_volume_mm3 == pytest.approx(2 * row.volume_mm3)
    assert (row.kind, row.matched_by, row.dice) == ("report", "Tracking UID", None)
    assert len(row.reader) == 16


def test_our_report_verified_accepts_every_lesion(site: Site):
    report = successor(site)
    report.Manufacturer = site.sr.Manufacturer
    assert verdicts_of(site.collect(report)) == {"Nodule 1": "accepted", "Nodule 2": "accepted"}


def test_a_report_that_only_refers_to_ours_says_nothing_of_what_it_leaves_out(site: Site):
    report = successor(site, named=False)
    name_predecessor(report, site.sr)
    report.PertinentOtherEvidenceSequence = report.PredecessorDocumentsSequence
    del report.PredecessorDocumentsSequence
    edit(site, report)
    assert verdicts_of(site.collect(report)) == {"Nodule 1": "edited", "1.2.3.4": "added"}


@pytest.mark.thorough
def test_a_report_beside_a_segmentation_takes_nothing_from_it_and_adds_no_lesion_twice(site: Site):
    masks = {**site.masks, "New": cube(site.masks["Nodule 1"].shape, (0, 24, 24), (3, 28, 29))}
    masks["Nodule 1"] = masks["Nodule 1"].copy()
    masks["Nodule 1"][:, 10, :] = 0
    before = site.collect(workstation_seg(site.source, masks))
    report = successor(site)
    report.PertinentOtherEvidenceSequence = report.PredecessorDocumentsSequence
    del report.PredecessorDocumentsSequence
    edit(site, report)
    after = site.collect(report, at=6000.0)
    assert verdicts_of(after) == {"Nodule 1": "edited", "Nodule 2": "accepted", "segment 3": "added"}
    assert after["Nodule 1"].dice == before["Nodule 1"].dice
    assert {row.kind for row in after.values()} == {"segmentation"}
    with site.engine.connect() as connection:
        assert connection.scalar(sa.select(sa.func.count()).where(verdict.c.kind == "report")) == 2


def test_a_report_with_tracking_uids_of_its_own_is_no_verdict(site: Site):
    report = successor(site)
    for group in measurement_groups(report):
        for item in group.ContentSequence:
            if concept_value(item) == "112040":
                item.UID = generate_uid()
    assert site.refusal(report) == ReasonCode.OF_OTHER_FINDINGS


def viewer_report(site: Site, *uids: str) -> FileDataset:
    """A report as OHIF makes it when its user chooses ours as the one to follow: measurements of its own alone.

    An Enhanced SR in the series of ours, by "unknown^unknown"; its groups, of these Tracking UIDs, hold a length whose
    coordinates are in the measurement; ours is named as the predecessor, without its SOP class.
    """
    report = successor(site, verified=False)
    report.SOPClassUID = report.file_meta.MediaStorageSOPClassUID = ENHANCED_SR
    report.SeriesInstanceUID, report.Manufacturer = site.sr.SeriesInstanceUID, "Unspecified"
    del (
        report.PredecessorDocumentsSequence[0]
        .ReferencedSeriesSequence[0]
        .ReferencedSOPSequence[0]
        .ReferencedSOPClassUID
    )
    observer = content_item("HAS OBS CONTEXT", "PNAME", "121008", PersonName="unknown^unknown")
    measurements = next(item for item in report.ContentSequence if concept_value(item) == "126010")
    measurements.ContentSequence = [length_group(uid) for uid in uids]
    report.ContentSequence = [observer, measurements]
    return report


def coded(value: str, scheme: str) -> Dataset:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, scheme, value
    return code


def content_item(relationship: str, kind: str, concept: str = "", **values: Any) -> Dataset:
    item = Dataset()
    item.RelationshipType, item.ValueType = relationship, kind
    if concept:
        item.ConceptNameCodeSequence = [coded(concept, "DCM")]
    for keyword, value in values.items():
        setattr(item, keyword, value)
    return item


def length_group(uid: str) -> Dataset:
    line = content_item("INFERRED FROM", "SCOORD", GraphicType="POLYLINE", GraphicData=[10.0, 10.0, 40.0, 10.0])
    value = Dataset()
    value.NumericValue, value.MeasurementUnitsCodeSequence = 28.9, [coded("mm", "UCUM")]
    length = content_item("CONTAINS", "NUM", "410668003", MeasuredValueSequence=[value], ContentSequence=[line])
    tracked = content_item("HAS OBS CONTEXT", "UIDREF", "112040", UID=uid)
    return content_item("CONTAINS", "CONTAINER", "125007", ContentSequence=[tracked, length])


def test_measurements_that_a_viewer_stores_as_the_successor_of_ours_reject_nothing(site: Site):
    assert site.refusal(viewer_report(site, generate_uid())) == ReasonCode.OF_OTHER_FINDINGS


def test_a_successor_with_no_measurements_at_all_rejects_every_lesion(site: Site):
    verdicts = site.collect(viewer_report(site))
    assert verdicts_of(verdicts) == {"Nodule 1": "rejected", "Nodule 2": "rejected"}


def test_a_line_under_our_tracking_uid_is_no_verdict(site: Site):
    """Nothing in the group is of the lesion as we reported it."""
    report = viewer_report(site, site.tracking["Nodule 1"], generate_uid())
    assert site.refusal(report) == ReasonCode.OF_OTHER_FINDINGS


def test_a_group_that_only_mentions_a_lesion_neither_keeps_nor_rejects_it(site: Site):
    report = successor(site)
    for group in groups_of(report, site.tracking["Nodule 1"]):
        group.ContentSequence = [item for item in group.ContentSequence if concept_value(item) == "112040"]
    assert verdicts_of(site.collect(report)) == {"Nodule 2": "accepted"}


def test_a_report_that_refers_to_ours_and_only_mentions_a_lesion_is_no_verdict(site: Site):
    report = successor(site, named=False)
    name_predecessor(report, site.sr)
    report.PertinentOtherEvidenceSequence = report.PredecessorDocumentsSequence
    del report.PredecessorDocumentsSequence
    for group in measurement_groups(report):
        remark = content_item("CONTAINS", "TEXT", "121106", TextValue="false positive")
        group.ContentSequence = [*(item for item in group.ContentSequence if concept_value(item) == "112040"), remark]
    assert site.refusal(report) == ReasonCode.OF_OTHER_FINDINGS


def test_a_measurement_of_ours_without_an_outline_is_of_the_lesion(site: Site):
    report = successor(site)
    for group in groups_of(report, site.tracking["Nodule 1"]):
        kept = ("112040", VOLUME)
        group.ContentSequence = [item for item in group.ContentSequence if concept_value(item) in kept]
    assert verdicts_of(site.collect(report)) == {"Nodule 1": "accepted", "Nodule 2": "accepted"}


def test_a_successor_with_nothing_but_a_comment_rejects_nothing(site: Site):
    report = viewer_report(site)
    comment = content_item("CONTAINS", "TEXT", "121106", TextValue="agree")
    report.ContentSequence = [report.ContentSequence[0], comment]
    assert site.refusal(report) == ReasonCode.OF_OTHER_FINDINGS


@pytest.mark.parametrize("concept", ["126010", "125007"], ids=["below the measurements", "in a group without a UID"])
def test_a_successor_with_a_length_of_its_own_rejects_nothing(site: Site, concept: str):
    report = viewer_report(site, generate_uid())
    (measurements,) = (item for item in report.ContentSequence if concept_value(item) == "126010")
    (group,) = measurements.ContentSequence
    lengths = [item for item in group.ContentSequence if item.ValueType == "NUM"]
    (measurements if concept == "126010" else group).ContentSequence = lengths
    assert site.refusal(report) == ReasonCode.OF_OTHER_FINDINGS


def without_number(value: Dataset) -> None:
    del value.NumericValue


def without_unit(value: Dataset) -> None:
    del value.MeasurementUnitsCodeSequence


def empty(value: Dataset) -> None:
    value.NumericValue = None


def several(value: Dataset) -> None:
    value.NumericValue = [1, 2]


UNREADABLE = pytest.mark.parametrize("spoil", [without_number, without_unit, empty, several])


@UNREADABLE
def test_a_length_that_cannot_be_read_takes_nothing_from_the_verdicts_on_lesions(site: Site, spoil: Any):
    report = successor(site)
    edit(site, report)
    group = length_group(generate_uid())
    (length,) = (item for item in group.ContentSequence if item.ValueType == "NUM")
    spoil(length.MeasuredValueSequence[0])
    (measurements,) = (item for item in report.ContentSequence if concept_value(item) == "126010")
    measurements.ContentSequence.append(group)
    assert verdicts_of(site.collect(report)) == {"Nodule 1": "edited", "Nodule 2": "rejected", "1.2.3.4": "added"}


@UNREADABLE
def test_a_value_of_a_lesion_that_cannot_be_read_counts_as_not_stated(site: Site, spoil: Any):
    report = successor(site)
    for group in groups_of(report, site.tracking["Nodule 1"]):
        for item in group.ContentSequence:
            if concept_value(item) == VOLUME:
                spoil(item.MeasuredValueSequence[0])
    verdicts = site.collect(report)
    assert verdicts_of(verdicts) == {"Nodule 1": "accepted", "Nodule 2": "accepted"}
    assert verdicts["Nodule 1"].reader_volume_mm3 is None


def test_a_content_item_without_its_value_type_takes_nothing_from_the_rest(site: Site):
    report = successor(site)
    report.ContentSequence.append(content_item("CONTAINS", "TEXT", "121106", TextValue="agree"))
    del report.ContentSequence[-1].ValueType
    assert verdicts_of(site.collect(report)) == {"Nodule 1": "accepted", "Nodule 2": "accepted"}


def test_a_placeholder_for_the_name_of_the_reader_has_no_hash(site: Site):
    assert {row.reader for row in site.collect(viewer_report(site)).values()} == {""}


def test_a_report_that_no_person_verified_or_observed_is_no_verdict(site: Site):
    assert site.refusal(successor(site, verified=False)) == ReasonCode.OF_NO_READER


def test_an_unverified_copy_of_our_report_is_a_result(site: Site):
    report = successor(site, verified=False)
    report.Manufacturer = site.sr.Manufacturer
    assert site.refusal(report) == ReasonCode.OF_THIS_SOFTWARE


def test_a_report_of_another_patient_is_no_verdict(site: Site):
    report = successor(site)
    report.PatientID = "SOMEBODY-ELSE"
    assert site.refusal(report) == ReasonCode.OF_ANOTHER_PATIENT


def note_on(site: Site, title: Any, named: Dataset, manufacturer: str = "PACS Inc.") -> FileDataset:
    """A Key Object Selection of another program on one object."""
    return rejection_note(site.source.datasets[0], title, named, manufacturer)


@pytest.mark.parametrize("title", [codes.DCM.RejectedForQualityReasons, codes.DCM.RejectedForPatientSafetyReasons])
def test_a_rejection_note_rejects_every_lesion_of_the_result(site: Site, title: Any):
    verdicts = site.collect(note_on(site, title, site.seg))
    assert verdicts_of(verdicts) == {"Nodule 1": "rejected", "Nodule 2": "rejected"}
    assert {row.kind for row in verdicts.values()} == {"rejection note"}


@pytest.mark.parametrize(
    ("title", "manufacturer", "why"),
    [
        (codes.DCM.DataRetentionPolicyExpired, "PACS Inc.", ReasonCode.OF_OTHER_REASON),
        (codes.DCM.OfInterest, "PACS Inc.", ReasonCode.OF_OTHER_REASON),
        (codes.DCM.RejectedForQualityReasons, "", ReasonCode.OF_THIS_SOFTWARE),
    ],
)
def test_a_note_for_another_reason_or_of_this_software_is_no_verdict(
    site: Site, title: Any, manufacturer: str, why: ReasonCode
):
    assert site.refusal(note_on(site, title, site.seg, manufacturer or str(site.seg.Manufacturer))) == why


def test_a_note_on_an_image_is_no_verdict_on_a_result(site: Site):
    note = note_on(site, codes.DCM.RejectedForQualityReasons, site.source.datasets[0])
    assert site.refusal(note) == ReasonCode.OF_OTHER_FINDINGS
