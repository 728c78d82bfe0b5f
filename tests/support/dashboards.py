"""A dashboard on an analysed study, and browsers on it."""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
from analyses import encoded
from ledgers import open_copy
from real_peers import free_port

from node.config import Config
from node.jobs.engine import Jobs
from node.ledger.engine import begin_immediate
from node.ledger.instances import Receipt, record_instances
from node.ledger.jobs import NewJob
from node.ledger.tables import decision, job, result, series
from node.operate.rules_file import FOLDER, RulesFile
from node.reasons import ReasonCode, reason
from node.spool import Spool
from node.web.server import _PAGES, serving
from node.web.users import make_user, users_path, write_user

PASSWORD = "a long password"  # noqa: S105 - of nobody


RULE = {"name": "all <CT>", "pipelines": ("nodule",), "destinations": ("pacs",), "match": {"Modality": "CT"}}
CONFIG = """\
# The node of a test.
[pipelines.nodule]

[pipelines.other]

# Where results go.
[destinations.pacs]
title = "PACS"          # as the PACS knows itself
host = "127.0.0.1"
port = 104

[[rules]]
name = "all <CT>"
pipelines = ["nodule"]
destinations = ["pacs"]
match.Modality = "CT"

# The dashboard.
[web]
enabled = true
"""
"""The file that its editor changes; the dashboard itself is configured with values."""
Serve = Callable[..., AbstractContextManager["Dashboard"]]
"""Starts a dashboard on a copy of the study, with these keys of ``[web]``."""


class Dashboard:
    """A running dashboard on a copy of an analysed study, and browsers on it."""

    def __init__(
        self,
        folder: Path,
        uid: str,
        job_id: str,
        destinations: Mapping[str, Any] | None = None,
        ae: Mapping[str, Any] | None = None,
        *,
        pipelines: Mapping[str, Any] | None = None,
        **web: Any,
    ) -> None:
        self.uid, self.job_id = uid, job_id
        self.config = Config.model_validate(
            {
                "ae": ae or {},
                "storage": {"folder": folder, "min_free_gib": 0.0},
                "web": {"port": free_port(), **web},
                "pipelines": {"nodule": {}, "other": {}, **(pipelines or {})},
                "rules": (RULE,),
                "destinations": {"pacs": {"title": "PACS", "host": "127.0.0.1", "port": 104}, **(destinations or {})},
            }
        )
        self.spool = Spool(folder)
        self.engine = open_copy(f"sqlite:///{folder / 'ledger.sqlite'}")
        self.users = users_path(self.config.web, folder)
        self.reloads: list[str] = []
        """What the configuration file was at each reload."""
        self.file = folder / "config.toml"
        self.file.write_text(CONFIG)
        self.rules_file = RulesFile(
            path=self.file, folder=folder / FOLDER, reload=lambda: self.reloads.append(self.file.read_text())
        )
        self._browsers: list[httpx.Client] = []

    def browser(self, name: str = "", trusting: ssl.SSLContext | None = None) -> httpx.Client:
        """Logged in as ``name``; not at all without. ``trusting``: over TLS."""
        address = f"{'https' if trusting else 'http'}://127.0.0.1:{self.config.web.port}"
        browser = httpx.Client(base_url=address, timeout=120.0, trust_env=False, verify=trusting or True)
        self._browsers.append(browser)
        if name:
            assert self.log_in(browser, name, PASSWORD).status_code == 303
        return browser

    def log_in(self, browser: httpx.Client, name: str, password: str) -> httpx.Response:
        return browser.post("/login", data={"csrf": token(browser, "/login"), "name": name, "password": password})

    def close(self) -> None:
        for browser in self._browsers:
            browser.close()
        self.engine.dispose()


def analysed(folder: Path, ledger_url: str = "") -> tuple[str, str]:
    """One CT series with a SEG, an SR and a derived series, as receiver, router and worker leave it."""
    spool, engine = Spool(folder), open_copy(ledger_url or f"sqlite:///{folder / 'ledger.sqlite'}")
    for name, role in (("vera", "view"), ("rita", "read"), ("otto", "operate")):
        write_user(folder / "web-users", make_user(name, role, PASSWORD))  # type: ignore[arg-type]
    source, objects = encoded(folder / "made")
    study, uid = source.study_instance_uid, source.series_instance_uid
    receipts = []
    for path in source.paths:
        kept = spool.keep(study, uid, path.stem, [path.read_bytes()])
        receipts.append(
            Receipt(
                sop_instance_uid=path.stem,
                sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
                transfer_syntax_uid="1.2.840.10008.1.2.1",
                study_instance_uid=study,
                series_instance_uid=uid,
                modality="CT",
                path=kept.path,
                digest=kept.digest,
                size=kept.size,
                conflict=False,
                association=None,
                received_at=1000.0,
            )
        )
    trace = [
        {
            "rule": "<b>chest</b>",
            "matched": True,
            "chosen": True,
            "pipelines": ["nodule"],
            "conditions": [{"attribute": "Modality", "wanted": "CT", "found": ["CT"], "matched": True}],
        }
    ]
    new = NewJob(
        study_instance_uid=study, series_instance_uid=uid, generation=1, pipeline="nodule", rule="chest",
        destinations=("pacs",), priority=2,
    )  # fmt: skip
    jobs = Jobs(engine)
    with begin_immediate(engine) as connection:
        record_instances(connection, receipts)
        connection.execute(series.update().values(state="COMPLETE", generation=1, completed_by="quiet"))
        connection.execute(
            decision.insert().values(
                study_instance_uid=study, series_instance_uid=uid, generation=1, outcome="routed",
                reason=reason(ReasonCode.MATCHES, rules=["chest"]), trace=trace, decided_at=1001.0,
            )
        )  # fmt: skip
        jobs.enqueue(connection, new)
        for made in objects:
            head = made.dataset
            kept = spool.keep_result(new.id, head.SOPInstanceUID, made.data)
            connection.execute(
                result.insert().values(
                    sop_instance_uid=head.SOPInstanceUID, job_id=new.id, sop_class_uid=head.SOPClassUID,
                    transfer_syntax_uid="1.2.840.10008.1.2.1", series_instance_uid=head.SeriesInstanceUID,
                    description=made.description, path=kept.path, digest=kept.digest, size=kept.size,
                    quarantine=None, created_at=1002.0,
                )
            )  # fmt: skip
        connection.execute(job.update().values(state="COMPLETED", stage="deliver", outcome="findings"))
    engine.dispose()
    return study, new.id


def token(browser: httpx.Client, path: str = "/") -> str:
    match = re.search(r'name="csrf" value="([^"]+)"', browser.get(path).text)
    assert match is not None
    return match[1]


def paths_of(dashboard: Dashboard, method: str) -> list[str]:
    names = {"{uid}": dashboard.uid, "{job}": dashboard.job_id, "{index:int}": "0", "{name}": "nodule"}
    paths = []
    for path, _, wanted in _PAGES:
        if wanted == method:
            for name, value in names.items():
                path = path.replace(name, value)  # noqa: PLW2901
            paths.append(path)
    assert len(paths) > 3
    return paths


@contextmanager
def dashboard_on(folder: Path, uid: str, job_id: str, **web: Any) -> Iterator[Dashboard]:
    """Serves what ``analysed`` left in ``folder``."""
    made = Dashboard(folder, uid, job_id, **web)
    with serving(made.config, made.engine, made.spool, made.rules_file), closing(made):
        yield made
