"""A node whose router is moved by hand, with its UPS-RS service and clients of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import sqlalchemy as sa
from dicom_files import ct_series
from pydicom import Dataset
from real_peers import free_port
from routing_scene import Scene

from node.dicomweb.event_channel import Intervals
from node.dicomweb.server import serving
from node.ledger.engine import begin_immediate
from node.ledger.jobs import update_job

TOKENS = {"ris": "r" * 32, "watcher": "w" * 32, "viewer": "v" * 32}
NODE = """
[dicomweb]
enabled = true
port = {port}
[dicomweb.clients.ris]
token_file = "{folder}/ris"
services = ["watch", "request"]
[dicomweb.clients.watcher]
token_file = "{folder}/watcher"
services = ["watch"]
title = "WATCHER"
[dicomweb.clients.viewer]
token_file = "{folder}/viewer"
services = ["retrieve"]
[series]
quiet_seconds = 10.0
stat_quiet_seconds = 10.0
[pipelines.scripted]
factory = "job_pipelines:create"
[destinations.pacs]
title = "PACS"
host = "127.0.0.1"
port = 1
[procedures.nodules]
code = "AI-NODULE"
scheme = "99SITE"
meaning = "Nodules on chest CT"
pipeline = "scripted"
destinations = ["pacs"]
{rules}
"""
RULE = """
[[rules]]
name = "chest"
pipelines = ["scripted"]
destinations = ["pacs"]
match.Modality = "CT"
"""


class WorkitemScene(Scene):
    """A scene that others watch; without ``rules`` nothing is analysed unless it is requested."""

    def __init__(self, folder: Path, rules: str = "", url: str = "") -> None:
        for name, token in TOKENS.items():
            (folder / name).write_text(f"{token}\n")
        self.port = free_port()
        super().__init__(folder / "node", NODE.format(port=self.port, folder=folder, rules=rules), url)

    def take(self, **attributes: str) -> str:
        identity: dict[str, Any] = {
            "PatientID": "PAT1",
            "PatientName": "Müller^Eva",
            "AccessionNumber": "A1",
        } | attributes
        return self.receive(ct_series(n=4, size=16, study=self.study), **identity)

    def rows(self, table: sa.Table) -> list[Any]:
        with self.node.engine.connect() as connection:
            return list(connection.execute(sa.select(table)))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @contextmanager
    def serving(self, client: str = "ris", intervals: Intervals | None = None) -> Iterator[httpx.Client]:
        headers = {"authorization": f"Bearer {TOKENS[client]}", "content-type": "application/dicom+json"}
        with (
            serving(self.config, self.node.engine, self.node.spool, intervals),
            httpx.Client(base_url=self.url, headers=headers, timeout=60.0) as http,
        ):
            yield http

    def set_job(self, job_id: str, **values: Any) -> None:
        with begin_immediate(self.node.engine) as connection:
            update_job(connection, job_id, **values)


def wanted(study: str, series: str = "", **attributes: Any) -> Dataset:
    """A workitem as a RIS creates it."""
    step, code, item = Dataset(), Dataset(), Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "AI-NODULE", "99SITE", "Nodules"
    item.TypeOfInstances, item.StudyInstanceUID = "DICOM", study
    if series:
        item.SeriesInstanceUID = series
    item.ReferencedSOPSequence = []
    step.ProcedureStepState, step.InputReadinessState = "SCHEDULED", "READY"
    step.ProcedureStepLabel = "Chest CT with AI"
    step.WorklistLabel = "Night"
    step.ScheduledProcedureStepPriority = "HIGH"
    step.ScheduledWorkitemCodeSequence = [code]
    step.InputInformationSequence = [item]
    for keyword, value in attributes.items():
        setattr(step, keyword, value)
    return step


def state(http: httpx.Client, uid: str) -> str:
    """Procedure Step State of a workitem."""
    return str(step_of(http, uid).ProcedureStepState)


def step_of(http: httpx.Client, uid: str) -> Dataset:
    answer = http.get(f"/workitems/{uid}")
    assert answer.status_code == 200, answer.text
    return Dataset.from_json(answer.text)
