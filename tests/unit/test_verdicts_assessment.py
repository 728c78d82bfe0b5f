"""Assessments of our results by codes: codes that the site has explained count, all others are listed."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import sqlalchemy as sa
from highdicom.sr import CodedConcept
from pydicom import Dataset, FileDataset
from pydicom.uid import EnhancedSRStorage, generate_uid
from reader_site import Site

from node.config import parse
from node.config.feedback import AssessmentCode, Feedback
from node.errors import ConfigError
from node.feedback.collector import Collector
from node.ledger.tables import reader_object
from node.reasons import ReasonCode, reason_text

ACCEPT, MODIFY, REJECT = (CodedConcept(f"AIRA-{what}", "99PACS", what) for what in ("ACCEPT", "MODIFY", "REJECT"))
DECISION = CodedConcept("AIRA-010", "99PACS", "Assessment Decision")
KNOWN = Feedback(
    assessment_codes=(
        AssessmentCode(code="AIRA-ACCEPT", scheme="99PACS", verdict="accepted"),
        AssessmentCode(code="AIRA-MODIFY", scheme="99PACS", verdict="edited"),
        AssessmentCode(code="AIRA-REJECT", scheme="99PACS", verdict="rejected"),
    )
)


def item(kind: str, name: tuple[str, str, str] | CodedConcept, **values: Any) -> Dataset:
    made = Dataset()
    made.RelationshipType, made.ValueType = "CONTAINS", kind
    made.ConceptNameCodeSequence = [name if isinstance(name, CodedConcept) else CodedConcept(*name)]
    for keyword, value in values.items():
        setattr(made, keyword, value)
    return made


def decision(of: CodedConcept, *below: Dataset) -> Dataset:
    return item("CODE", DECISION, ConceptCodeSequence=[of], **({"ContentSequence": [*below]} if below else {}))


def about(uid: str, *content: Dataset) -> Dataset:
    """A container for one finding, by its Tracking UID."""
    tracked = item("UIDREF", ("112040", "DCM", "Tracking Unique Identifier"), UID=uid)
    return item("CONTAINER", ("121071", "DCM", "Finding"), ContentSequence=[tracked, *content])


def reference(to: Dataset, segment: int = 0) -> Dataset:
    named = Dataset()
    named.ReferencedSOPClassUID, named.ReferencedSOPInstanceUID = to.SOPClassUID, to.SOPInstanceUID
    if segment:
        named.ReferencedSegmentNumber = segment
    kind = "IMAGE" if "SegmentSequence" in to else "COMPOSITE"
    return item(kind, ("121191", "DCM", "Referenced Segment"), ReferencedSOPSequence=[named])


def assessment(site: Site, *content: Dataset, person: str = "Reader^Rita", evidence: bool = True) -> FileDataset:
    """An Enhanced SR of another program on the results of the node."""
    made = deepcopy(site.sr)
    made.SOPClassUID = made.file_meta.MediaStorageSOPClassUID = EnhancedSRStorage
    made.SOPInstanceUID = made.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    made.SeriesInstanceUID, made.Manufacturer = generate_uid(), "Reporting Inc."
    made.ConceptNameCodeSequence = [CodedConcept("AIRA-001", "99PACS", "AI Result Assessment")]
    made.VerificationFlag = "UNVERIFIED"
    for keyword in (
        "CurrentRequestedProcedureEvidenceSequence",
        "PredecessorDocumentsSequence",
        "ContentTemplateSequence",
    ):
        if keyword in made:
            delattr(made, keyword)
    if evidence:
        instance, series, study = Dataset(), Dataset(), Dataset()
        instance.ReferencedSOPClassUID, instance.ReferencedSOPInstanceUID = site.sr.SOPClassUID, site.sr.SOPInstanceUID
        series.SeriesInstanceUID, series.ReferencedSOPSequence = site.sr.SeriesInstanceUID, [instance]
        study.StudyInstanceUID, study.ReferencedSeriesSequence = site.study, [series]
        made.CurrentRequestedProcedureEvidenceSequence = [study]
    who = item("PNAME", ("AIRA-020", "99PACS", "Assessor"), PersonName=person)
    who.RelationshipType = "HAS OBS CONTEXT"
    made.ContentSequence = [*([who] if person else []), *content]
    return made


def read(site: Site, report: FileDataset, known: Feedback = KNOWN) -> dict[str, str]:
    """Verdict by label."""
    site.receive(report)
    assert Collector(site.engine, site.spool, known).step() == 1
    return {name: row.verdict for name, row in site.verdicts().items()}


def refusal(site: Site) -> dict[str, Any]:
    """Why the object holds no verdict."""
    with site.engine.connect() as connection:
        return dict(connection.scalars(sa.select(reader_object.c.reason)).one())


def test_a_code_beside_a_tracking_uid_is_the_verdict_on_that_lesion(site: Site):
    (first, uid), (second, other) = site.tracking.items()
    said = read(site, assessment(site, about(uid, decision(ACCEPT)), about(other, decision(REJECT))))
    assert said == {first: "accepted", second: "rejected"}
    assert {row.matched_by for row in site.verdicts().values()} == {"Tracking UID"}
    assert all(row.reader and "Rita" not in row.reader for row in site.verdicts().values())


def test_a_code_below_which_a_segment_is_named_is_the_verdict_on_its_lesion(site: Site):
    _, second = site.tracking
    numbers = {str(segment.SegmentLabel): int(segment.SegmentNumber) for segment in site.seg.SegmentSequence}
    said = read(site, assessment(site, decision(MODIFY, reference(site.seg, numbers[second]))))
    assert said == {second: "edited"}


@pytest.mark.parametrize("evidence", [True, False], ids=["evidence", "content"])
def test_a_code_on_the_whole_result_counts_for_lesions_of_which_nothing_else_is_said(site: Site, *, evidence: bool):
    (first, _), (second, other) = site.tracking.items()
    content = [reference(site.sr), decision(REJECT), about(other, decision(ACCEPT))]
    assert read(site, assessment(site, *content, evidence=evidence)) == {first: "rejected", second: "accepted"}


def test_opposite_verdicts_on_a_lesion_are_none(site: Site):
    (_, uid), (second, other) = site.tracking.items()
    report = assessment(site, about(uid, decision(ACCEPT), decision(REJECT)), about(other, decision(ACCEPT)))
    assert read(site, report) == {second: "accepted"}


def test_a_result_that_was_modified_somewhere_is_left_to_the_object_that_shows_where(site: Site):
    assert read(site, assessment(site, decision(MODIFY))) == {}
    assert refusal(site)["code"] == ReasonCode.OF_OTHER_FINDINGS


def test_unknown_codes_are_listed_and_taken_for_nothing(site: Site):
    assert read(site, assessment(site, decision(ACCEPT)), Feedback()) == {}
    assert refusal(site)["code"] == ReasonCode.UNKNOWN_ASSESSMENT
    assert "AIRA-ACCEPT 99PACS ACCEPT" in reason_text(refusal(site))


def test_an_assessment_of_nobody_is_no_verdict(site: Site):
    assert read(site, assessment(site, decision(ACCEPT), person="")) == {}
    assert refusal(site)["code"] == ReasonCode.OF_NO_READER


def test_a_code_has_one_meaning_and_a_verdict_that_a_code_can_give():
    code = '{ code = "A", scheme = "99X", verdict = "accepted" }'
    assert parse(f"[feedback]\nassessment_codes = [{code}]\n").feedback.assessment_codes[0].verdict == "accepted"
    with pytest.raises(ConfigError, match="assessment_codes has A 99X twice"):
        parse(f"[feedback]\nassessment_codes = [{code}, {code}]\n")
    with pytest.raises(ConfigError, match="verdict"):
        parse('[feedback]\nassessment_codes = [{ code = "A", scheme = "99X", verdict = "added" }]\n')


def group(*content: Dataset) -> Dataset:
    return item("CONTAINER", ("121071", "DCM", "Finding"), ContentSequence=[*content])


def test_a_verdict_on_the_result_of_another_vendor_is_none_on_ours(site: Site):
    """One report on two AI products: rejecting theirs rejects nothing of ours, and ours stays accepted."""
    theirs = deepcopy(site.sr)
    theirs.SOPInstanceUID = generate_uid()
    ours, other = group(reference(site.sr), decision(ACCEPT)), group(reference(theirs), decision(REJECT))
    assert read(site, assessment(site, ours, other)) == dict.fromkeys(site.tracking, "accepted")


def test_a_verdict_on_the_result_of_another_vendor_alone_says_nothing(site: Site):
    theirs = deepcopy(site.sr)
    theirs.SOPInstanceUID = generate_uid()
    assert read(site, assessment(site, group(reference(theirs), decision(REJECT)))) == {}
    assert refusal(site)["code"] == ReasonCode.OF_OTHER_FINDINGS


def test_a_verdict_on_a_segment_that_ours_does_not_have_says_nothing(site: Site):
    assert read(site, assessment(site, decision(REJECT, reference(site.seg, 99)))) == {}
