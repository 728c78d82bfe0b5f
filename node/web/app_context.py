"""Context of every page: configuration, ledger, files, jobs, templates and, if allowed, patient names."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from jinja2 import Environment
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse

from node.config import Config
from node.errors import InputError
from node.jobs.engine import Jobs
from node.ledger.study_history import any_image_path
from node.spool import Spool
from node.studies.header import read_header
from node.web.auth import UserRequest
from node.wording import person


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
        return _label(self.spool.absolute(path)) if path else Label()


@lru_cache(maxsize=5000)
def _label(path: Path) -> Label:
    try:
        header = read_header(path)
    except InputError:
        return Label()
    date = str(header.get("StudyDate") or "")
    return Label(
        patient="  ".join(person(str(header.get("PatientName") or ""))),
        patient_id=str(header.get("PatientID") or ""),
        accession=str(header.get("AccessionNumber") or ""),
        description=str(header.get("StudyDescription") or ""),
        date=f"{date[:4]}-{date[4:6]}-{date[6:8]}" if len(date) == 8 else "",
    )


def configured(name: str, tables: Container[str]) -> str:
    """Return ``name`` if it is configured; the page is missing otherwise."""
    if name not in tables:
        raise HTTPException(404, f"{name!r} is not configured.")
    return name
