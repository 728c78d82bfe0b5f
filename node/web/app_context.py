"""Context of every page: configuration, ledger, files, jobs, templates and, if allowed, patient names."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from jinja2 import Environment
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse

from node.config import Config
from node.confined import ConfinedProcess
from node.errors import NodeError
from node.jobs.engine import Jobs
from node.ledger.study_history import any_image_path
from node.spool import Spool
from node.studies.attributes import attributes
from node.web.auth import UserRequest
from node.wording import person

_KEYWORDS = ("StudyDate", "PatientName", "PatientID", "AccessionNumber", "StudyDescription")
_LABELS = 5000
"""In memory."""


@dataclass(frozen=True, kw_only=True)
class Label:
    """Patient and description of a study; kept in memory only, never in ledger or log."""

    patient: str = ""
    patient_id: str = ""
    accession: str = ""
    description: str = ""
    date: str = ""

    def holds(self, text: str) -> bool:
        """Return whether a search for ``text`` matches this study."""
        return any(text.lower() in value.lower() for value in (self.patient, self.patient_id, self.accession))


@dataclass(frozen=True, kw_only=True, eq=False)
class AppContext:
    """Values and actors that the pages share."""

    config: Config
    engine: sa.Engine
    spool: Spool
    jobs: Jobs
    templates: Environment
    reader: ConfinedProcess
    """Opens all DICOM files: this process, which has the session key and the users, opens none."""
    _labels: dict[Path, Label] = field(default_factory=dict, init=False)

    def render(self, template: str, user_request: UserRequest | None, **values: Any) -> str:
        """The text of a page."""
        return self.templates.get_template(template).render(user_request=user_request, **values)

    def page(self, template: str, user_request: UserRequest, **values: Any) -> HTMLResponse:
        """The response with a page."""
        return HTMLResponse(self.render(template, user_request, **values))

    def label(self, connection: sa.Connection, study_uid: str) -> Label:
        """Read from one file of the study; empty unless ``[web] show_patient``."""
        if not self.config.web.show_patient:
            return Label()
        path = any_image_path(connection, study_uid)
        return self._label(self.spool.absolute(path)) if path else Label()

    def _label(self, path: Path) -> Label:
        if path not in self._labels:
            while len(self._labels) >= _LABELS:
                self._labels.pop(next(iter(self._labels)))
            try:
                values = self.reader.call(path.name, attributes, path, _KEYWORDS)
            except NodeError:
                values = dict.fromkeys(_KEYWORDS, "")
            self._labels[path] = _labelled(values)
        return self._labels[path]


def _labelled(values: Mapping[str, str]) -> Label:
    date = values["StudyDate"]
    return Label(
        patient="  ".join(person(values["PatientName"])),
        patient_id=values["PatientID"],
        accession=values["AccessionNumber"],
        description=values["StudyDescription"],
        date=f"{date[:4]}-{date[4:6]}-{date[6:8]}" if len(date) == 8 else "",
    )


def configured(name: str, tables: Container[str]) -> str:
    """Return ``name`` if it is configured; the page is missing otherwise."""
    if name not in tables:
        raise HTTPException(404, f"{name!r} is not configured.")
    return name
