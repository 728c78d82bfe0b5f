"""Workitems as values: UIDs, requests, states."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.uid import UID

from node.config import Config, Procedure
from node.errors import InputError
from node.ledger.jobs import Job
from node.ledger.states import JobStage, JobState
from node.ledger.workitem_progress import WorkitemProgress
from node.workitems.job_uid import JobUids
from node.workitems.request import analysis_request
from node.workitems.state import StepState, progress_of
from node.workitems.step_json import read_step

PROCEDURES = {"nodules": Procedure(code="AI-NODULE", scheme="99SITE", pipeline="nodule")}


def step(**changes: Any) -> Dataset:
    code, item, made = Dataset(), Dataset(), Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "AI-NODULE", "99SITE", "Nodules, please"
    item.StudyInstanceUID, item.SeriesInstanceUID = "1.2", "1.2.3"
    made.ProcedureStepState = "SCHEDULED"
    made.ScheduledWorkitemCodeSequence = [code]
    made.InputInformationSequence = [item]
    for keyword, value in changes.items():
        setattr(made, keyword, value)
    return made


def read(made: Dataset) -> Any:
    return analysis_request(read_step(made.to_json().encode()), PROCEDURES)


def job(**changes: Any) -> Job:
    values: dict[str, Any] = dict.fromkeys(Job.__dataclass_fields__) | {
        "id": "0123456789abcdef",
        "state": JobState.SCHEDULED,
        "stage": JobStage.INFER,
        "updated_at": 5.0,
    }
    return Job(**values | changes)


@given(number=st.integers(0, 2**64 - 1))
def test_the_uid_of_a_workitem_is_read_back_to_its_job(number: int) -> None:
    uids = _uids(3)
    uid = uids.uid(f"{number:016x}")
    assert UID(uid).is_valid
    assert uids.job_id(uid) == f"{number:016x}"


def _uids(prefix: int) -> JobUids:
    uids = JobUids.__new__(JobUids)
    uids._prefix = prefix
    return uids


def test_uids_of_workitems_stay_and_those_of_another_node_are_unknown(engine: sa.Engine) -> None:
    uids = JobUids(engine)
    assert JobUids(engine).uid("0123456789abcdef") == uids.uid("0123456789abcdef")
    assert uids.job_id(_uids(uids._prefix ^ 1).uid("0123456789abcdef")) == ""
    assert [uids.job_id(text) for text in ("", "1.2.3", "2.25.", "2.25.7", "2.25.٣")] == [""] * 5


def test_a_request_names_procedure_series_and_priority() -> None:
    wanted = read(step(ScheduledProcedureStepPriority="HIGH", ProcedureStepLabel="Chest", PatientID="P1"))
    assert (wanted.procedure, wanted.study_instance_uid, wanted.series_instance_uid) == ("nodules", "1.2", "1.2.3")
    assert wanted.requested.code == ("AI-NODULE", "99SITE", "Nodules, please")
    assert (wanted.requested.priority, wanted.requested.label, wanted.patient_id) == ("HIGH", "Chest", "P1")


def test_a_request_may_name_the_procedure_as_a_station_and_the_study_alone() -> None:
    named = step()
    named.ScheduledStationNameCodeSequence = named.ScheduledWorkitemCodeSequence
    named.ScheduledWorkitemCodeSequence = []
    named.InputInformationSequence = []
    named.StudyInstanceUID = "1.2"
    wanted = read(named)
    assert (wanted.procedure, wanted.study_instance_uid, wanted.series_instance_uid) == ("nodules", "1.2", "")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"ProcedureStepState": "IN PROGRESS"}, "SCHEDULED"),
        ({"TransactionUID": "1.2"}, "Transaction UID"),
        ({"ScheduledWorkitemCodeSequence": []}, "no code"),
        ({"InputInformationSequence": []}, "0 studies"),
        ({"ScheduledProcedureStepPriority": "STAT"}, "HIGH, MEDIUM, LOW"),
    ],
)
def test_a_request_that_cannot_be_done_is_refused_with_what_is_wrong(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        read(step(**changes))


@pytest.mark.parametrize(
    "element",
    [{"vr": "LO", "Value": form} for form in ("P2", ["", "P2"], [["P2"]], [{"x": "P2"}], {"0": "P2"})] + ["P2"],
)
def test_a_patient_or_series_in_a_form_that_is_none_is_refused_and_not_left_out(element: Any) -> None:
    values = json.loads(step().to_json())
    with pytest.raises(InputError, match="Patient ID"):
        analysis_request(values | {"00100020": element}, PROCEDURES)
    values["00404021"]["Value"][0]["0020000E"] = element
    with pytest.raises(InputError, match="Series Instance UID"):
        analysis_request(values, PROCEDURES)


@pytest.mark.parametrize(
    "content",
    [b"[", b"[1]", b"[{}, {}]", b"7", b"\xff", b"[" * 100_000, b'{"00404018": {"Value": 3}}', b'{"00404021": 3}'],
)
def test_a_body_that_is_no_data_set_is_refused(content: bytes) -> None:
    with pytest.raises(InputError):
        analysis_request(read_step(content), PROCEDURES)


def _objects(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.dictionaries(st.sampled_from(["Value", "00080100", "0020000D", "vr"]), inner)


@given(st.recursive(st.none() | st.text() | st.integers(), lambda inner: st.lists(inner) | _objects(inner)))
def test_any_json_is_a_request_or_refused(value: Any) -> None:
    content = json.dumps({"00404018": value, "00404021": {"Value": [value]}, "00741000": value}).encode()
    with pytest.raises(InputError):
        analysis_request(read_step(content), PROCEDURES)


@pytest.mark.parametrize(
    ("of", "state", "percent"),
    [
        (job(), StepState.SCHEDULED, 0),
        (job(state=JobState.IN_PROGRESS), StepState.IN_PROGRESS, 10),
        (job(state=JobState.SCHEDULED, stage=JobStage.ENCODE), StepState.IN_PROGRESS, 60),
        (job(state=JobState.IN_PROGRESS, stage=JobStage.DELIVER), StepState.IN_PROGRESS, 82),
        (job(state=JobState.COMPLETED, stage=JobStage.DELIVER, outcome="findings"), StepState.COMPLETED, 100),
        (job(state=JobState.COMPLETED, stage=JobStage.DELIVER, outcome="failed"), StepState.CANCELED, 82),
        (job(state=JobState.CANCELED), StepState.CANCELED, 10),
    ],
)
def test_the_state_of_a_workitem_is_that_of_its_job_and_a_failed_analysis_is_canceled(
    of: Job, state: StepState, percent: int
) -> None:
    progress = progress_of(WorkitemProgress(requested=None, job=of, deliveries=2, pending=1))
    assert (progress.state, progress.percent) == (state, percent)


def test_procedures_name_pipelines_and_destinations_that_exist_and_a_code_once() -> None:
    good: dict[str, Any] = {"pipelines": {"nodule": {}}, "procedures": {"a": PROCEDURES["nodules"].model_dump()}}
    assert Config.model_validate(good).procedures["a"].pipeline == "nodule"
    for changes, words in (
        ({"pipeline": "nodul"}, "did you mean"),
        ({"destinations": ("pacs",)}, r"add \[destinations.pacs\]"),
    ):
        with pytest.raises(ValueError, match=words):
            Config.model_validate(good | {"procedures": {"a": good["procedures"]["a"] | changes}})
    with pytest.raises(ValueError, match="same code"):
        Config.model_validate(good | {"procedures": {"a": good["procedures"]["a"], "b": good["procedures"]["a"]}})


def test_the_checklist_of_ai_workflow_names_tests_that_exist() -> None:
    here = Path(__file__).parents[1]
    named = set(re.findall(r"`(test_\w+)`", (here.parent / "docs" / "workitems.md").read_text()))
    written = {name for file in here.rglob("test_*.py") for name in re.findall(r"def (test_\w+)", file.read_text())}
    assert len(named) > 7
    assert named - written == set()
