"""Images of several patients in one series: held, told by attribute, and nothing of it leaves."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from dicom_files import ct_series
from enhanced_files import enhanced
from job_node import JobNode, config_of
from pydicom import Dataset, dcmread
from receivers import Node, configuration
from scanner import RULE, route, send, storescu

from node.config import parse
from node.ledger.engine import now
from node.ledger.jobs import Job, source_paths
from node.ledger.tables import decision, series
from node.operate.account.description import describe as describe_account
from node.operate.account.report import account
from node.operate.account.rows import read
from node.operate.alerts import current_alerts
from node.operate.explain import explain
from node.operate.explain_text import describe
from node.operate.status import status
from node.reasons import ReasonCode, reason, reason_text
from node.routing.conflicts import Conflicts
from node.studies.identity import PATIENT, PRIOR, contradictions, outnumbered
from node.web.study_list import latest


def image(**values: Any) -> Dataset:
    dataset = Dataset()
    dataset.PatientID, dataset.PatientName, dataset.StudyInstanceUID = "P1", "Doe^Jane", "1.2.3"
    for keyword, value in values.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    return dataset


DIFFERENT = {
    "another ID": ({"PatientID": "P2"}, ("PatientID",)),
    "an ID in other letters": ({"PatientID": "p1"}, ("PatientID",)),
    "no ID": ({"PatientID": ""}, ("PatientID",)),
    "an ID that is missing": ({"PatientID": None}, ("PatientID",)),
    "another name": ({"PatientName": "Roe^Jane"}, ("PatientName",)),
    "another given name": ({"PatientName": "Doe^John"}, ("PatientName",)),
    "another patient": ({"PatientID": "P2", "PatientName": "Roe"}, ("PatientID", "PatientName")),
    "another study": ({"StudyInstanceUID": "1.2.4"}, ("StudyInstanceUID",)),
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_images_that_contradict_one_another_are_told_by_attribute(name: str) -> None:
    values, keywords = DIFFERENT[name]
    assert contradictions([image(), image(), image(**values)]) == keywords
    assert contradictions([image(**values), image()]) == keywords


@pytest.mark.parametrize(
    ("keyword", "one", "other"),
    [
        ("IssuerOfPatientID", "HOSPITAL A", "HOSPITAL B"),
        ("PatientBirthDate", "19700101", "19700102"),
        ("PatientSex", "F", "M"),
        ("AccessionNumber", "A1", "A2"),
    ],
)
def test_what_only_some_images_state_is_no_contradiction_and_two_values_are(keyword: str, one: str, other: str) -> None:
    first, second = image(**{keyword: one}), image(**{keyword: other})
    assert contradictions([first, second, image()]) == (keyword,)
    assert contradictions([first, image(), image(**{keyword: ""})]) == ()


SAME = {
    "padded": {"PatientName": "Doe^Jane ", "PatientID": " P1 "},
    "trailing carets": {"PatientName": "Doe^Jane^^^"},
    "letters": {"PatientName": "DOE^JANE"},
    "spaces": {"PatientName": "Doe^ Jane"},
    "a second way to write it": {"PatientName": "Doe^Jane=ドウ^ジェーン", "SpecificCharacterSet": "ISO_IR 192"},
    "no name": {"PatientName": ""},
}


def test_the_images_of_the_fewer_are_named() -> None:
    headers = [image(PatientID="B", SOPInstanceUID="1.5"), *(image(SOPInstanceUID=f"1.{n}") for n in range(3))]
    assert outnumbered(headers, ["PatientID"]) == ["1.5"]
    assert outnumbered(headers[1:], ["PatientID"]) == []
    known = {"keywords": ["PatientID"], "of": 9}
    few = reason_text(reason(ReasonCode.CONTRADICTION, **known, others=["1.5"], number=1))
    assert few.startswith(
        "its images contradict one another on PatientID (1 of 9 differ from the others: 1.5); nothing"
    )
    many = reason_text(reason(ReasonCode.CONTRADICTION, **known, others=["2.1", "2.2", "2.3"], number=8))
    assert "(8 of 9 differ from the others: 2.1, 2.2, 2.3, ...)" in many


@pytest.mark.parametrize("name", SAME)
def test_another_way_to_write_one_identity_is_no_contradiction(name: str) -> None:
    assert contradictions([image(), image(**SAME[name])]) == ()


def test_a_birth_date_in_the_form_before_dicom_3_is_the_same() -> None:
    assert contradictions([image(PatientBirthDate="19700131"), image(PatientBirthDate="1970.01.31")]) == ()


def test_without_any_id_the_name_says_who_it_is() -> None:
    nobody = {"PatientID": ""}
    assert contradictions([image(**nobody), image(**nobody)]) == ()
    assert contradictions([image(**nobody), image(**nobody, PatientName="")]) == ("PatientName",)


def test_one_name_in_two_character_sets_is_one_name_and_two_names_are_two(tmp_path) -> None:
    images = ct_series(3, 16)
    for dataset, (name, characters) in zip(
        images, (("Müller^Äda", "ISO_IR 100"), ("Müller^Äda", "ISO_IR 192"), ("Möller^Äda", "ISO_IR 192")), strict=True
    ):
        dataset.SpecificCharacterSet, dataset.PatientName = characters, name
        dataset.save_as(tmp_path / f"{dataset.SOPInstanceUID}.dcm")
    headers = [dcmread(tmp_path / f"{image.SOPInstanceUID}.dcm", stop_before_pixels=True) for image in images]
    assert contradictions(headers[:2]) == ()
    assert contradictions(headers) == ("PatientName",)


@pytest.mark.filterwarnings("ignore")
def test_bytes_in_no_valid_encoding_are_compared_and_break_nothing(tmp_path) -> None:
    images = ct_series(2, 16)
    for number, dataset in enumerate(images):
        dataset.save_as(tmp_path / f"{number}.dcm")
        data = (tmp_path / f"{number}.dcm").read_bytes()
        (tmp_path / f"{number}.dcm").write_bytes(
            data.replace(b"Test^Patient", b"T\xe9st\xff\xfe" + b"%d" % number + b"\x80^P12")
        )
    headers = [dcmread(tmp_path / f"{number}.dcm", stop_before_pixels=True) for number in range(2)]
    assert contradictions(headers) == ("PatientName",)
    assert contradictions([headers[0], deepcopy(headers[0])]) == ()


def test_series_of_a_study_and_earlier_studies_have_less_in_common() -> None:
    other_order = image(AccessionNumber="A2", SeriesInstanceUID="1.9")
    assert contradictions([image(AccessionNumber="A1", SeriesInstanceUID="1.8"), other_order], PATIENT) == ()
    assert contradictions([image(), image(PatientName="Married^Jane")], PATIENT) == ("PatientName",)
    assert contradictions([image(), image(PatientName="Married^Jane", StudyInstanceUID="1")], PRIOR) == ()
    assert contradictions([image(), image(PatientID="P2")], PRIOR) == ("PatientID",)


FORWARDING = '\n[[rules]]\nname = "archive"\nsend = ["pacs"]\n'


def patients(images: list[Any], *of: int) -> list[Any]:
    """The images at these places as of patients of their own."""
    for number in of:
        images[number].PatientID, images[number].PatientName = f"ID{number}", f"Somebody^Number{number}"
    return images


def told(node: Node) -> str:
    """Everything that an operator reads about the ledger."""
    balance = account(read(node.engine), lambda _destination, _outcome, _made: True)
    with node.engine.connect() as connection:
        study = str(connection.scalar(sa.select(series.c.study_instance_uid)))
        config = parse(configuration(node.spool.folder, node.port) + RULE)
        alarms = current_alerts(config, connection, node.spool, now())
    assert balance.differences == ()
    assert status(node.engine, node.spool.folder)["held"] == len(balance.held)
    assert ("identity " in " ".join(alarms)) is bool(balance.held)
    return "\n".join([describe_account(balance), describe(explain(node.engine, study)), *alarms.values()])


def test_slices_of_five_patients_in_one_series_are_held_and_told_by_attribute(node: Node) -> None:
    send(node, patients(ct_series(5, 16), 0, 1, 2, 3, 4))
    assert route(node, FORWARDING) == []
    (row,) = node.rows(decision)
    assert (row.outcome, row.trace) == ("held", [])
    words = told(node)
    assert words.count("CONTRADICTING IDENTITY") == 3  # account, explain, alarm
    assert "PatientID, PatientName" in words
    assert "ID3" not in words
    assert "SOMEBODY" not in words.upper()
    assert "1 held" in words
    assert latest_stage(node) == "held"


def latest_stage(node: Node) -> str:
    with node.engine.connect() as connection:
        (study,) = latest(connection)
    return study.stage


def test_a_late_image_of_another_patient_holds_the_series_and_stops_what_is_being_made_of_it(node: Node) -> None:
    images = patients(ct_series(4, 16), 3)
    send(node, images[:3])
    (first,) = route(node)
    send(node, images[3:])
    (first,) = route(node)
    assert first.state == "CANCELED"
    assert [row.outcome for row in node.rows(decision)] == ["routed", "held"]


def test_enhanced_objects_of_two_patients_are_held_as_single_images_are(node: Node, tmp_path: Path) -> None:
    first, second = enhanced(ct_series(6, 16), files=2)
    second.PatientBirthDate = "19010101"
    storescu(node, tmp_path / "out", [first, second])
    assert route(node) == []
    assert "PatientBirthDate" in told(node)


def test_a_held_series_goes_on_once_its_images_came_again_under_one_identity(node: Node) -> None:
    images = ct_series(5, 16)
    right = str(images[0].PatientID)
    wrong = patients(deepcopy(images), 3, 4)
    send(node, wrong)
    assert route(node) == []
    compare = Conflicts(node.engine, node.spool)
    send(node, images[3:4])
    compare.step()
    assert route(node) == []  # one of them is still somebody else's
    assert "CONTRADICTING IDENTITY" in told(node)
    send(node, images[4:])
    compare.step()
    (job,) = route(node)
    assert (job.state, job.generation) == ("SCHEDULED", 2)
    assert "CONTRADICTING IDENTITY" not in told(node)
    with node.engine.connect() as connection:
        paths = source_paths(connection, job)
    assert {str(dcmread(node.spool.absolute(path)).PatientID) for path in paths} == {right}


def ended(tmp_path: Path, images: list[Any], companion: list[Any] | None = None, **more: Any) -> tuple[JobNode, Job]:
    """A job on images that were there before a router could look at them, when it has ended."""
    node = JobNode(config_of(tmp_path, does="findings"))
    if companion is not None:
        more["companions"] = {"t2": node.receive(companion)[1]}
    job_id = node.enqueue_for(*node.receive(images), destinations=("pacs",), pipeline="scripted", **more)
    node.jobs.serve("worker", node.stages())
    try:
        return node, node.wait(job_id)
    finally:
        node.jobs.stop()


def test_an_image_of_another_patient_that_joins_an_analysis_late_stops_it_and_nothing_leaves(tmp_path: Path) -> None:
    node, job = ended(tmp_path, patients(ct_series(5, 16), 2))
    assert (job.state, job.outcome) == ("CANCELED", "held")
    assert job.reason is not None
    assert reason_text(job.reason).startswith("PatientID, PatientName: the images contradict one another")
    assert (node.results(job.id), node.delivered()) == ([], {})


def test_not_even_a_report_that_nothing_was_analysed_leaves_with_images_of_two_patients(tmp_path: Path) -> None:
    unsuitable = {
        "outcome": "not applicable",
        "reason": reason(ReasonCode.COMPANIONS_ABSENT, companions=["t2"], seconds=60.0),
    }
    node, job = ended(tmp_path, patients(ct_series(5, 16), 2), **unsuitable)
    assert (job.state, job.outcome) == ("CANCELED", "held")
    assert (node.results(job.id), node.delivered()) == ([], {})


def test_a_companion_of_another_patient_stops_the_analysis_and_nothing_leaves(tmp_path: Path) -> None:
    images = ct_series(4, 16)
    companion = ct_series(4, 16, study=images[0].StudyInstanceUID)
    node, job = ended(tmp_path, images, patients(companion, 0, 1, 2, 3)[:1])
    assert (job.state, job.outcome) == ("CANCELED", "held")
    assert "companion 't2'" in reason_text(job.reason)
    assert (node.results(job.id), node.delivered()) == ([], {})
