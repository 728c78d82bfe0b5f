"""Context of every page: configuration, ledger, files, jobs, templates and, if allowed, patient names."""

from __future__ import annotations

import threading
from collections.abc import Container
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from jinja2 import Environment
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse

from node.config import Config
from node.confined import ConfinedProcess
from node.jobs.engine import Jobs
from node.operate.rules_file import RulesFile
from node.operate.study_labels import Label, StudyLabels
from node.similar.findings import SimilarSearch
from node.spool import Spool
from node.translation import gettext
from node.web.auth import UserRequest
from node.web.health import Health


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
    labels: StudyLabels
    health: Health
    rules_file: RulesFile
    similar: SimilarSearch = field(default_factory=SimilarSearch)
    changing_users: threading.Lock = field(default_factory=threading.Lock)
    """Held while the users file is read and replaced."""
    looking_back: threading.Lock = field(default_factory=threading.Lock)
    """Held while rules are tried on past series, which reads all their headers: one at a time."""

    def render(self, template: str, user_request: UserRequest | None, **values: Any) -> str:
        """The text of a page."""
        return self.templates.get_template(template).render(user_request=user_request, **values)

    def page(self, template: str, user_request: UserRequest, **values: Any) -> HTMLResponse:
        """The response with a page."""
        return HTMLResponse(self.render(template, user_request, **values))

    def label(self, connection: sa.Connection, study_uid: str) -> Label:
        """What one study is called."""
        return self.labels.of(connection, [study_uid])[study_uid]


def configured(name: str, tables: Container[str]) -> str:
    """Return ``name`` if it is configured; the page is missing otherwise."""
    if name not in tables:
        raise HTTPException(404, gettext("{name!r} is not configured.", name=name))
    return name
