"""HL7 messages as a site wants them: character set, fields and codes; never another patient or another result."""

from __future__ import annotations

from pathlib import Path

import pytest
from analyses import analysis, one, source_of, two_lesions
from delivery_jobs import FinishedJob
from dicom_files import ct_series
from hl7apy.parser import parse_message
from pydicom import FileDataset
from ris_receiver import ris

from node.config import Hl7Message, parse
from node.errors import ConfigError, DeliveryError, EncodeError
from node.results.encode import encode
from node.results.hl7_report import Addressee, report_message

SITE = {
    "charset": "8859/1",
    "fields": {
        "MSH-11": "T",
        "PID-3": "{PID-3.1}^^^HOSP^MR",
        "PV1-2": "O",
        "ORC-1": "RE",
        "ORC-3": "{OBR-3}",
        "OBR-24": "CT",
        "OBX-15": "AINODE",
        "ZAI-1": "{OBR-18}-{NTE-3}-{PID-3.9}",
    },
    "codes": {"113014^DCM": "STUDY^Study^SITE"},
}


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> FileDataset:
    source = source_of(tmp_path_factory.mktemp("images"), ct_series(8, 48))
    made = one(encode(analysis(two_lesions(source)), source, ["sr alone"]), "sr alone")
    made.PatientID, made.IssuerOfPatientID, made.AccessionNumber = "P1", "OTHER", "A1"
    return made


def message(report: FileDataset, **site: object) -> list[list[str]]:
    made = report_message(report, Addressee(sender="AINODE", message=Hl7Message.model_validate(site)))
    return [segment.split("|") for segment in made.split("\r") if segment]


def test_a_site_gets_its_fields_segments_and_codes_and_the_same_results(report: FileDataset) -> None:
    usual, made = message(report), message(report, **SITE)
    assert [segment[0] for segment in made][:5] == ["MSH", "PID", "PV1", "ORC", "OBR"]
    assert made[-1] == ["ZAI", "A1--"]
    of = {segment[0]: segment for segment in made}
    assert (of["MSH"][10], of["MSH"][17]) == ("T", "8859/1")
    assert of["PID"][3] == "P1^^^HOSP^MR"
    assert (of["PV1"][2], of["ORC"][1], of["ORC"][3], of["OBR"][24]) == ("O", "RE", of["OBR"][3], "CT")
    before, after = ([segment for segment in whole if segment[0] == "OBX"] for whole in (usual, made))
    assert after[0][3] == "STUDY^Study^SITE^113014^DICOM Study^DCM"
    assert before[0][3] == "113014^DICOM Study^DCM"
    assert [segment[1:3] + segment[4:12] for segment in after] == [segment[1:3] + segment[4:12] for segment in before]
    assert {segment[15] for segment in after} == {"AINODE"}
    assert parse_message("\r".join("|".join(segment) for segment in made[:-1]), find_groups=True).validate()


def test_codes_of_findings_and_units_are_replaced_wherever_they_stand(report: FileDataset) -> None:
    usual = message(report)
    coded = next(segment for segment in usual if segment[0] == "OBX" and segment[2] == "CWE")
    number = next(segment for segment in usual if segment[0] == "OBX" and segment[2] == "NM" and segment[6])
    keys = {}
    for field in (coded[5], number[6]):
        value, meaning, scheme = field.split("^")
        keys[f"{value}^{scheme}"] = f"L{value}^{meaning}^SITE"
    made = message(report, codes=keys)
    for before, after in zip(usual, made, strict=True):
        for was, field in zip(before, after, strict=True):
            value, _, rest = was.partition("^")
            local = keys.get(f"{value}^{rest.rpartition('^')[2]}")
            assert field == (f"{local}^{was}" if local else was)


@pytest.mark.parametrize(
    ("name", "shown"),
    [("Müller^Eva", "Müller^Eva"), ("Wang^XiaoDong=王^小东", "Wang^XiaoDong")],
)
def test_a_character_set_leaves_out_writings_of_a_name_that_it_lacks(
    report: FileDataset, name: str, shown: str
) -> None:
    report.PatientName = name
    [patient] = [segment for segment in message(report, charset="8859/1") if segment[0] == "PID"]
    assert [writing.partition("^^^")[0] for writing in patient[5].split("~")] == [shown]


def test_a_name_that_it_cannot_write_at_all_is_refused(report: FileDataset) -> None:
    report.PatientName = "王^小东"
    with pytest.raises(EncodeError, match="PID-5 has '王', which 8859/1 lacks"):
        message(report, charset="8859/1")
    report.PatientName = "Doe^Jane"


def test_the_receiver_reads_the_character_set_and_a_refusal_says_why(tmp_path: Path, report: FileDataset) -> None:
    with ris(encoding="latin-1") as receiver:
        to = {"ris": {"hl7": f"127.0.0.1:{receiver.port}", "message": {"charset": "8859/1"}}}
        report.PatientName = "Müller^Eva"
        job = FinishedJob(tmp_path / "latin", [report], to)
        job.deliver("ris")
        assert job.status("ris").state == "STORED"
        assert "Müller^Eva" in receiver.messages[0]
        report.PatientName = "王^小东"
        job = FinishedJob(tmp_path / "refused", [report], to)
        with pytest.raises(DeliveryError):
            job.deliver("ris")
        status, why = job.answers()[report.SOPInstanceUID]
        assert status == 0xC000
        assert "which 8859/1 lacks" in why
        assert len(receiver.messages) == 1


@pytest.mark.parametrize(
    ("message", "why"),
    [
        ('fields.OBR24 = "CT"', "is no field"),
        ('fields.NTE-3 = "x"', "is no field"),
        ('fields.MSH-10 = "1"', "is made by the node"),
        ('fields.OBX-5 = "none"', "is made by the node"),
        ('fields.PID-3 = "P1"', "its content must remain"),
        ('fields.PID-5 = "{PID-5.1}"', "its content must remain"),
        ('fields.OBR-25 = "F"', "its content must remain"),
        ('fields.OBR-24 = "CT|F"', "give one field"),
        ('fields.OBR-24 = "CT\\r"', "give one field"),
        ('charset = "GB 18030-2000"', "charset"),
        ('codes."39607008" = "LUNG^Lung^LOCAL"', "codes"),
        ('codes."39607008^SCT" = "LUNG"', "codes"),
    ],
)
def test_what_would_change_patient_result_or_message_is_refused(message: str, why: str) -> None:
    text = f'[destinations.ris]\nhl7 = "127.0.0.1:1"\n[destinations.ris.message]\n{message}\n'
    with pytest.raises(ConfigError, match=why):
        parse(text)


def test_only_hl7_destinations_have_messages() -> None:
    text = '[destinations.x]\nfolder = "/tmp"\n[destinations.x.message]\ncharset = "ASCII"\n'
    with pytest.raises(ConfigError, match="application, facility and message are for hl7"):
        parse(text)
