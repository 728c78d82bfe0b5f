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


def groups_of(report: Dataset, uid: str) -> list[Dataset]:
    return [
        group
        for group in measurement_groups(report)
        if any(concept_value(item) == "112040" and uid == item.UID for item in group.ContentSequence)
    ]


def without(item: Dataset, gone: list[Dataset]) -> None:
    """Remove content items wherever they are."""
    for child in list(item.get("ContentSequence") or ()):
        if any(child is one for one in gone):
            item.ContentSequence.remove(child)
        else:
            without(child, gone)


def container_of(item: Dataset, child: Dataset) -> Dataset | None:
    for one in item.get("ContentSequence") or ():
        found = item if one is child else container_of(one, child)
        if found is not None:
            return found
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
    found = site.collect(report)
    assert verdicts_of(found) == {"Nodule 1": "edited", "Nodule 2": "rejected", "1.2.3.4": "added"}
    row = found["Nodule 1"]
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
    found = site.collect(note_on(site, title, site.seg))
    assert verdicts_of(found) == {"Nodule 1": "rejected", "Nodule 2": "rejected"}
    assert {row.kind for row in found.values()} == {"rejection note"}


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
