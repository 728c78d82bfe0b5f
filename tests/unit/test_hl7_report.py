"""Reports as HL7 messages: what the SR says, no more and no less, whatever the texts in it are."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from analyses import OUTCOMES, analysis, one, source_of, two_lesions
from dicom_files import ct_series
from hl7apy.parser import parse_message
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.valuerep import PersonName

from node.pipeline import Code, codes
from node.results.encode import encode
from node.results.hl7_report import Addressee, report_message, withdrawal_message, withdrawn_reports
from node.results.rejection import encode_rejection
from node.studies.source import SourceSeries

TO = Addressee(sender="AINODE", application="RIS", facility="ST MARY'S")
COMMENT = "121106"
ESCAPES = {"F": "|", "S": "^", "T": "&", "R": "~", "E": "\\"}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> SourceSeries:
    return source_of(tmp_path_factory.mktemp("images"), ct_series(8, 48))


@pytest.fixture(scope="module", params=["findings", *OUTCOMES])
def report(request: pytest.FixtureRequest, source: SourceSeries) -> Dataset:
    """The report of one outcome."""
    of = analysis(**OUTCOMES[request.param]) if request.param in OUTCOMES else analysis(two_lesions(source))
    return one(encode(of, source, ["sr alone"]), "sr alone")


def segments(message: str) -> list[list[str]]:
    """Fields as a receiver splits them; those of MSH are one further on."""
    return [segment.split("|") for segment in message.split("\r") if segment]


def observations(message: str) -> list[list[str]]:
    return [fields for fields in segments(message) if fields[0] == "OBX"]


def plain(field: str) -> str:
    return re.sub(r"\\([FSTRE])\\", lambda match: ESCAPES[match[1]], field)


def items(item: Dataset, kind: str) -> Iterator[Dataset]:
    """All items of a value type in a report."""
    for child in item.get("ContentSequence", ()):
        if child.ValueType == kind:
            yield child
        yield from items(child, kind)


def test_a_message_is_valid_and_the_same_each_time(report: Dataset) -> None:
    message = report_message(report, TO)
    assert message == report_message(report, TO)
    parsed = parse_message(message, find_groups=True)
    assert parsed.validate()
    assert parsed.version == "2.5.1"


def test_every_number_and_text_of_the_report_is_in_the_message(report: Dataset) -> None:
    lines = observations(report_message(report, TO))
    numbers = Counter(
        (
            item.ConceptNameCodeSequence[0].CodeValue,
            str(item.MeasuredValueSequence[0].NumericValue),
            item.MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0].CodeValue,
        )
        for item in items(report, "NUM")
    )
    sent = Counter((f[3].split("^")[0], f[5], plain(f[6].split("^")[0])) for f in lines if f[2] == "NM")
    assert sent == numbers
    texts = [item for item in items(report, "TEXT") if item.ConceptNameCodeSequence[0].CodeValue == COMMENT]
    assert {plain(f[5]) for f in lines if f[3].startswith(f"{COMMENT}^")} == {item.TextValue for item in texts}
    assert any(item.TextValue.startswith("Outcome: ") for item in texts)


def test_each_lesion_has_its_numbers_in_a_group_of_its_own(source: SourceSeries) -> None:
    report = one(encode(analysis(two_lesions(source)), source, ["sr alone"]), "sr alone")
    lines = observations(report_message(report, TO))
    names = {f[4]: f[5] for f in lines if f[3].startswith("112039^")}
    assert names == {"1": "Nodule 1", "2": "Nodule 2"}
    sides = {f[4]: f[5].split("^")[1] for f in lines if f[3].startswith("272741003^")}
    assert sides == {"1": "Left", "2": "Right"}
    assert {f[11] for f in lines} == {"P"}, "nobody has verified it"


def test_a_finding_is_said_of_each_lesion_although_the_whole_series_is_judged_alike(source: SourceSeries) -> None:
    judged = replace(two_lesions(source), evaluations={Code("29308-4", "LN", "Diagnosis"): codes.SCT.Nodule})
    lines = observations(report_message(one(encode(analysis(judged), source, ["sr alone"]), "sr alone"), TO))
    assert [f[4] for f in lines if f[3].startswith("121071^")] == ["1", "2"]


def test_patient_study_and_order_are_those_of_the_images(report: Dataset) -> None:
    head, patient, request = segments(report_message(report, TO))[:3]
    assert head[2:6] == ["AINODE", "", "RIS", "ST MARY'S"]
    assert patient[3] == report.PatientID
    assert patient[5].startswith("Test^Patient^^^^^L^A")
    assert (request[18], request[25]) == (report.AccessionNumber, "P")
    assert request[3].split("^")[0] == report.SOPInstanceUID
    study = next(f for f in observations(report_message(report, TO)) if f[3].startswith("113014^"))
    assert study[5] == report.StudyInstanceUID


@given(text=st.text(max_size=64), family=st.text(st.characters(exclude_characters="=^\\"), max_size=12))
def test_no_text_breaks_out_of_its_field(text: str, family: str) -> None:
    report = Dataset()
    report.PatientID = report.AccessionNumber = text
    report.PatientName = PersonName(f"{family}^Given")
    report.SOPInstanceUID = report.StudyInstanceUID = "1.2.3"
    message = report_message(report, TO)
    _, patient, request, study = segments(message)
    assert plain(patient[3]) == plain(request[18]) == shown(text)
    assert [plain(part) for part in patient[5].split("^")[:2]] == [shown(family), "Given"]
    assert study[5] == "1.2.3"


def shown(text: str) -> str:
    """Without control characters, and as UTF-8 can have it."""
    printable = "".join(c if c.isprintable() else " " for c in text).strip()
    return printable.encode("utf-8", "replace").decode("utf-8")


def test_a_name_keeps_its_writings_and_the_order_of_its_parts() -> None:
    report = Dataset()
    report.SOPInstanceUID = report.StudyInstanceUID = "1.2.3"
    report.PatientName = PersonName("Yamada^Tarou^X^Dr^Jr=山田^太郎=やまだ^たろう")
    patient = segments(report_message(report, TO))[1]
    assert patient[5] == "Yamada^Tarou^X^Jr^Dr^^L^A~山田^太郎^^^^^L^I~やまだ^たろう^^^^^L^P"


def test_a_note_withdraws_the_reports_that_it_names(source: SourceSeries, tmp_path: Path) -> None:
    objects = encode(analysis(two_lesions(source)), source, ["seg", "sr"])
    report = one(objects, "sr")
    files = [tmp_path / f"{number}.dcm" for number in range(len(objects))]
    for file, encoded in zip(files, objects, strict=True):
        file.write_bytes(encoded.data)
    note = encode_rejection(analysis(outcome="failed", reason="wrong | side\nof the body"), files, "quality").dataset
    assert withdrawn_reports(note) == (report.SOPInstanceUID,)
    message = withdrawal_message(note, report.SOPInstanceUID, TO)
    assert parse_message(message, find_groups=True).validate()
    sent, wrong = segments(report_message(report, TO)), segments(message)
    assert wrong[2][3] == sent[2][3], "the same filler order number"
    assert wrong[2][25] == "X"
    ((*_, text, _, _, _, _, _, status),) = observations(message)
    assert status == "W"
    assert text == r"AI results withdrawn (quality)~wrong \F\ side of the body. Research use only. Not for diagnosis."
    assert wrong[0][9] != sent[0][9], "another message"
