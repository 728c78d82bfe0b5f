"""Delivery of reports to a FHIR server: once, whatever happens; withdrawn; with a token; what it holds."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from analyses import analysis, source_of, two_lesions
from delivery_jobs import FinishedJob
from dicom_files import ct_series
from fhir_server import CLIENT, SCOPE, SECRET, FhirServer, fhir_server
from pydicom import FileDataset

from node.config import parse
from node.deliver.echo import echo
from node.errors import ConfigError, DeliveryError, UnreachableError
from node.ledger.engine import begin_immediate
from node.ledger.tables import result
from node.results.analysis import EncodedObject
from node.results.encode import encode
from node.results.impression.sentences import impression_of
from node.results.rejection import encode_rejection
from node.results.report_statement import read_statement


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> tuple[EncodedObject, ...]:
    source = source_of(tmp_path_factory.mktemp("images"), ct_series(8, 48))
    return encode(analysis(two_lesions(source)), source, ["sr alone"])


@pytest.fixture
def report(objects: tuple[EncodedObject, ...]) -> FileDataset:
    return objects[-1].dataset


def to(server: FhirServer, **more: object) -> dict[str, dict[str, Any]]:
    return {"ehr": {"fhir": server.url, **more}}


def test_a_report_is_created_once_in_the_language_of_the_destination(
    tmp_path: Path, report: FileDataset, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with fhir_server() as server:
        first = FinishedJob(tmp_path / "a", [report], to(server, language="de", find=True))
        first.deliver("ehr")
        assert first.status("ehr").state == "CONFIRMED"
        assert first.answers()[report.SOPInstanceUID][0] == 0
        (stored,) = server.of("DiagnosticReport")
        assert stored["status"] == "preliminary"
        assert stored["conclusion"].startswith(impression_of(report, "de"))
        assert "Research use only" in stored["conclusion"]
        before = json.dumps(sorted(server.resources.items()))
        again = FinishedJob(tmp_path / "b", [report], to(server, language="de"))
        again.deliver("ehr")
        assert again.status("ehr").state == "STORED"
        assert len(server.transactions) == 2
        assert json.dumps(sorted(server.resources.items())) == before, "a repetition changes nothing"
        assert echo("ehr", first.config.destinations["ehr"], "AINODE").ok
    for secret in (str(report.PatientID), str(report.PatientName), str(report.AccessionNumber)):
        assert secret not in caplog.text


@pytest.mark.thorough
@pytest.mark.parametrize("kinds", [["seg", "sr"], ["sr alone"]], ids=str)
def test_a_report_in_r5_says_where_each_finding_is_and_is_withdrawn_with_it(tmp_path: Path, kinds: list[Any]) -> None:
    source = source_of(tmp_path / "images", ct_series(8, 48))
    objects = encode(analysis(two_lesions(source)), source, kinds)
    report, file = objects[-1].dataset, tmp_path / "report.dcm"
    file.write_bytes(objects[-1].data)
    note = encode_rejection(analysis(outcome="failed", reason="wrong patient"), [file], "quality").dataset
    with fhir_server("R5") as server:
        sent = FinishedJob(tmp_path / "a", [report], to(server, fhir_version="R5"))
        sent.deliver("ehr")
        assert sent.status("ehr").state == "STORED"
        selections = server.of("ImagingSelection")
        places = [place for finding in read_statement(report).findings for place in finding.regions]
        assert [
            (selection["instance"][0]["uid"], selection["instance"][0].get("subset")) for selection in selections
        ] == [(place.sop_instance_uid, [str(place.segment)] if place.segment else None) for place in places]
        assert [place.segment for place in places if place.segment] == ([1, 2] if "seg" in kinds else [])
        assert len(places) >= 2
        assert all(selection["seriesUid"] for selection in selections)
        references = {f"ImagingSelection/{selection['id']}" for selection in selections}
        derived = {
            source.get("reference") for observation in server.of("Observation") for source in observation["derivedFrom"]
        }
        assert references == derived - {None}
        assert server.of("DiagnosticReport")[0]["study"]
        withdrawn = FinishedJob(tmp_path / "b", [report, note], to(server, fhir_version="R5"))
        with begin_immediate(withdrawn.engine) as connection:
            is_note = result.c.sop_instance_uid == note.SOPInstanceUID
            connection.execute(result.update().where(is_note).values(kind="rejection"))
        withdrawn.deliver("ehr")
        assert {selection["status"] for selection in server.of("ImagingSelection")} == {"entered-in-error"}


def test_a_server_of_another_release_is_named(tmp_path: Path, report: FileDataset) -> None:
    with fhir_server("R5") as server:
        job = FinishedJob(tmp_path, [report], to(server))
        answer = echo("ehr", job.config.destinations["ehr"], "AINODE")
        assert not answer.ok
        assert "speaks FHIR 5.0.0, and fhir_version is R4" in answer.reason


@pytest.mark.thorough
def test_a_withdrawn_report_and_its_observations_are_marked_only_where_it_was_sent(
    tmp_path: Path, objects: tuple[EncodedObject, ...]
) -> None:
    report, file = objects[-1].dataset, tmp_path / "report.dcm"
    file.write_bytes(objects[-1].data)
    note = encode_rejection(analysis(outcome="failed", reason="wrong patient"), [file], "quality").dataset
    with fhir_server() as server:
        for name, sent, status in (("never sent", False, set()), ("held", True, {"entered-in-error"})):
            job = FinishedJob(tmp_path / name, [report, note] if sent else [note], to(server))
            with begin_immediate(job.engine) as connection:
                is_note = result.c.sop_instance_uid == note.SOPInstanceUID
                connection.execute(result.update().where(is_note).values(kind="rejection"))
            job.deliver("ehr")
            assert job.status("ehr").state == "STORED"
            said = {resource["status"] for kind in ("DiagnosticReport", "Observation") for resource in server.of(kind)}
            assert said == status


def test_a_token_is_fetched_with_client_credentials(tmp_path: Path, report: FileDataset) -> None:
    secret = tmp_path / "secret"
    secret.write_text(f"{SECRET}\n")
    with fhir_server() as server:
        server.token = "of nobody"  # noqa: S105
        token = {"token_url": server.url.replace("/fhir", "/token"), "client_id": CLIENT, "scope": SCOPE}
        job = FinishedJob(tmp_path / "a", [report], to(server, client_secret_file=str(secret), **token))
        job.deliver("ehr")
        assert job.status("ehr").state == "STORED"
        assert server.tokens_given == 1
        secret.write_text("wrong")
        refused = FinishedJob(tmp_path / "b", [report], to(server, client_secret_file=str(secret), **token))
        with pytest.raises(DeliveryError, match=r"no token from .*HTTP 401.*client_secret_file") as raised:
            refused.deliver("ehr")
        assert "wrong" not in str(raised.value)


@pytest.mark.parametrize(
    ("status", "equivalent"), [(422, 0xC000), (400, 0xC000), (401, None), (500, None), (503, None)]
)
def test_what_the_server_refuses_is_tried_again(
    tmp_path: Path, report: FileDataset, status: int, equivalent: int | None
) -> None:
    with fhir_server() as server:
        server.answers = [status]
        job = FinishedJob(tmp_path, [report], to(server))
        with pytest.raises(DeliveryError, match=f"HTTP {status}: business-rule"):
            job.deliver("ehr")
        assert job.answers()[report.SOPInstanceUID][0] == equivalent
        job.deliver("ehr")
        assert job.status("ehr").state == "STORED"
        assert len(server.of("DiagnosticReport")) == 1


def test_a_success_that_names_no_resource_is_none(tmp_path: Path, report: FileDataset) -> None:
    with fhir_server() as server:
        server.answers = [200]
        job = FinishedJob(tmp_path, [report], to(server))
        with pytest.raises(DeliveryError, match="without a success for each resource"):
            job.deliver("ehr")
        assert job.answers()[report.SOPInstanceUID][0] is None


def test_a_server_that_is_down_is_named(tmp_path: Path, report: FileDataset, free_port: int) -> None:
    job = FinishedJob(tmp_path, [report], {"ehr": {"fhir": f"http://127.0.0.1:{free_port}/fhir"}})
    with pytest.raises(UnreachableError, match=r"ehr \(http://127.0.0.1:\d+/fhir/\): .*check that it is running"):
        job.deliver("ehr")


BASE = """
[destinations.ehr]
fhir = "https://ehr.example/fhir"
"""


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (BASE + 'objects = ["seg"]', "reports only"),
        (BASE + 'hl7 = "ris:2575"', "one of host"),
        (BASE + "commitment = true", "commitment needs host"),
        (BASE + 'client_id = "ainode"', "go together"),
        (BASE.replace("https://", ""), "begins with https://"),
        (BASE + '[[rules]]\nname = "x"\nsend = ["ehr"]\n', "takes FHIR resources and no images"),
    ],
)
def test_a_destination_that_cannot_be_meant_is_refused(text: str, fault: str) -> None:
    with pytest.raises(ConfigError, match=fault):
        parse(text)
