"""How fast the dashboard is with many studies in the ledger.

``python tests/support/many_studies.py --studies 10000 [--postgresql]`` fills a new ledger with synthetic studies of two
series each, and one that was analysed, serves the dashboard on it and prints the seconds of each page. ``--findings
1000000 --only quality`` adds analyses of a year with verdicts of readers, and measures that page. ``--postgresql
--more-images 230`` makes the series that much larger.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import postgres
import psutil
import sqlalchemy as sa
from dashboards import PASSWORD, analysed, token
from dicom_files import ct_series
from many_verdicts import fill_verdicts
from real_peers import free_port

from node.config import Config
from node.ledger.engine import begin_immediate, open_ledger
from node.ledger.events import EventKind
from node.ledger.tables import decision, delivery, delivery_instance, event, instance, job, result, series
from node.operate.rules_file import FOLDER, RulesFile
from node.reasons import ReasonCode, reason
from node.spool import Spool
from node.web.server import serving

IMAGES = 20
"""In each series, unless another number is said."""
ROOT = "1.2.826.0.1.3680043.8.498."
_MORE_IMAGES = """
INSERT INTO instance (sop_instance_uid, sop_class_uid, transfer_syntax_uid, study_instance_uid, series_instance_uid,
    modality, path, digest, size, received_at)
SELECT series_instance_uid || '.' || 10000 + n, sop_class_uid, transfer_syntax_uid, study_instance_uid,
    series_instance_uid, modality, replace(path, '.0.dcm', '.' || 10000 + n || '.dcm'), digest, size, received_at
FROM instance, generate_series(1, :images) AS n WHERE sop_instance_uid LIKE '%.0'
"""
_AT_ONCE = 250
"""Studies in one transaction."""
_WITH_FILES = 500
"""Latest studies whose headers pages may read."""


def uid_of(number: int) -> str:
    """Study Instance UID of a synthetic study."""
    return f"{ROOT}{7301928400000 + 7919 * number}"


def fill(engine: sa.Engine, spool: Spool, studies: int, *, known: int = 0, images: int = IMAGES) -> None:
    """Write the rows of finished studies, the latest a minute ago, and the first image of each series of the latest.

    ``known``: as many as the ledger has already; ``images``: in each series.
    """
    example, at = ct_series(n=1, size=16)[0], time.time()
    for first in range(0, studies, _AT_ONCE):
        rows: dict[sa.Table, list[dict[str, object]]] = {}
        for number in range(first, min(first + _AT_ONCE, studies)):
            for table, row in _rows(known + number, at - 60.0 * (studies - number), images):
                rows.setdefault(table, []).append(row)
        with begin_immediate(engine) as connection:
            for table, many in rows.items():
                connection.execute(sa.insert(table), many)
        for row in rows[instance] if first + _AT_ONCE > studies - _WITH_FILES else ():
            if str(row["sop_instance_uid"]).endswith(".0"):
                example.PatientName, example.PatientID = f"Family{row['sop_instance_uid']}^Given", "P1"
                path = spool.absolute(str(row["path"]))
                path.parent.mkdir(parents=True, exist_ok=True)
                example.save_as(path)


def add_images(engine: sa.Engine, images: int) -> None:
    """Add rows of so many more images to each series, for PostgreSQL: it makes millions in minutes."""
    with engine.begin() as connection:
        connection.execute(sa.text("SET LOCAL statement_timeout = 0"))
        connection.execute(sa.text(_MORE_IMAGES), {"images": images})
        connection.execute(sa.update(series).values(instances=series.c.instances + images))


def _rows(number: int, at: float, images: int) -> Iterator[tuple[sa.Table, dict[str, object]]]:
    study = uid_of(number)
    for of in (1, 2):
        key = {"study_instance_uid": study, "series_instance_uid": f"{study}.{of}"}
        yield series, {
            **key, "modality": "CT", "instances": images, "first_at": at, "last_at": at + of, "state": "COMPLETE",
            "size": images * 526_000, "generation": 1, "completed_by": "quiet", "completed_at": at + of,
        }  # fmt: skip
        yield decision, {
            **key, "generation": 1, "outcome": "routed", "reason": reason(ReasonCode.MATCHES, rules=["chest"]),
            "trace": [], "decided_at": at + of, "last_image_at": at + of,
        }  # fmt: skip
        for image in range(images):
            uid = f"{study}.{of}.{image}"
            yield instance, {
                **key, "sop_instance_uid": uid, "sop_class_uid": "1.2.840.10008.5.1.4.1.1.2", "modality": "CT",
                "transfer_syntax_uid": "1.2.840.10008.1.2.1", "path": f"incoming/{study}/{study}.{of}/{uid}.dcm",
                "digest": "", "size": 526_000, "received_at": at,
            }  # fmt: skip
        name = f"{2 * number + of:016x}"
        yield job, {
            **key, "id": name, "generation": 1, "pipeline": "nodule", "rule": "chest", "destinations": ["pacs"],
            "priority": 2, "state": "COMPLETED", "stage": "deliver", "run": 0, "attempt": 0, "outcome": "no findings",
            "created_at": at, "updated_at": at + 60,
        }  # fmt: skip
        yield delivery, {
            "job_id": name, "destination": "pacs", "state": "CONFIRMED", "attempt": 1, "created_at": at,
            "updated_at": at + 60, "ended_at": at + 60,
        }  # fmt: skip
        for kind in ("seg", "sr"):
            uid = f"{study}.{of}.9{len(kind)}"
            yield result, {
                "sop_instance_uid": uid, "job_id": name, "sop_class_uid": "1.2.840.10008.5.1.4.1.1.88.34",
                "transfer_syntax_uid": "1.2.840.10008.1.2.1", "series_instance_uid": f"{uid}.1", "description": kind,
                "path": f"results/{name}/{uid}.dcm", "digest": "", "size": 9000, "created_at": at, "kind": kind,
            }  # fmt: skip
            yield delivery_instance, {
                "job_id": name, "destination": "pacs", "sop_instance_uid": uid, "status": 0, "sent_at": at,
                "committed_at": at + 60,
            }  # fmt: skip
        quiet = {"signal": reason(ReasonCode.NO_RULE)}
        none = {**key, "job_id": name, "stage": None, "parameters": {}}
        yield event, {**none, "at": at, "kind": EventKind.SERIES_COMPLETE, "parameters": quiet}
        for stage, begin in (("infer", 20.0), ("encode", 40.0)):
            for kind, seconds in ((EventKind.ATTEMPT_STARTED, 0.0), (EventKind.ATTEMPT_FINISHED, 10.0)):
                yield event, {**none, "at": at + begin + seconds, "kind": kind, "stage": stage}


def main() -> None:
    """Fill, serve, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=10_000)
    parser.add_argument("--postgresql", action="store_true")
    parser.add_argument("--more-images", type=int, default=0, help="in each series")
    parser.add_argument("--findings", type=int, default=0, help="of analyses of a year, for the page of quality")
    parser.add_argument("--verdicts", type=int, default=10_000, help="of readers, with --findings")
    parser.add_argument("--only", default="", help="measure this page alone")
    parser.add_argument("--rounds", type=int, default=7)
    chosen = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        url = stack.enter_context(postgres.cluster()) if chosen.postgresql else f"sqlite:///{folder / 'ledger.sqlite'}"
        config = Config.model_validate(
            {
                "storage": {"folder": folder, "min_free_gib": 0.0, "ledger_url": url},
                "web": {"port": free_port(), "show_patient": True},
                "pipelines": {"nodule": {}},
                "destinations": {"pacs": {"title": "PACS", "host": "127.0.0.1", "port": 104}},
            }
        )
        uid, job_id = analysed(folder, url)
        spool, engine = Spool(folder), open_ledger(url)
        fill(engine, spool, chosen.studies)
        if chosen.more_images:
            add_images(engine, chosen.more_images)
            with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                connection.execute(sa.text("VACUUM ANALYZE"))
        if chosen.findings:
            print(f"{fill_verdicts(engine, chosen.findings, chosen.verdicts)} analyses", flush=True)  # noqa: T201
        rules_file = RulesFile(path=folder / "config.toml", folder=folder / FOLDER, reload=lambda: None)
        stack.enter_context(serving(config, engine, spool, rules_file))
        browser = stack.enter_context(httpx.Client(base_url=f"http://127.0.0.1:{config.web.port}", timeout=120.0))
        data = {"csrf": token(browser, "/login"), "name": "otto", "password": PASSWORD}
        assert browser.post("/login", data=data).status_code == 303
        for name, path in pages(chosen.studies, uid, job_id).items():
            if chosen.only not in {"", name}:
                continue
            seconds, computing, serving_it = [], [], []
            for _ in range(chosen.rounds + 1):
                begin = time.perf_counter(), time.process_time(), server_seconds(url)
                assert browser.get(path).status_code == 200, path
                seconds.append(time.perf_counter() - begin[0])
                computing.append(time.process_time() - begin[1])
                serving_it.append(server_seconds(url) - begin[2])
            first, *rest = seconds
            middle = [statistics.median(of) for of in (rest, computing[1:], serving_it[1:])]
            took = f"first {first:6.3f} s, then {min(rest):6.3f} to {max(rest):6.3f} s, median {middle[0]:6.3f} s"
            print(f"{name:22} {took}, computing {middle[1]:6.3f} s, server {middle[2]:6.3f} s", flush=True)  # noqa: T201


def server_seconds(url: str) -> float:
    """CPU time of all processes of the PostgreSQL server; 0 for SQLite, which computes in the dashboard."""
    folder = sa.make_url(url).query.get("host")
    if not folder:
        return 0.0
    server = psutil.Process(int((Path(str(folder)) / "data" / "postmaster.pid").read_text().split()[0]))
    times = [process.cpu_times() for process in (server, *server.children())]
    return sum(spent.user + spent.system for spent in times)


def pages(studies: int, analysed_uid: str, job_id: str) -> dict[str, str]:
    """What is measured; one study is in the middle of all, far behind those that the first page shows."""
    middle, latest = uid_of(studies // 2), uid_of(studies - 1)
    return {
        "front page": "/",
        "front page, part": "/?part=1",
        "study": f"/study/{analysed_uid}",
        "study, part": f"/study/{analysed_uid}?part=1&results=0",
        "search, end of a UID": f"/?q={middle[-9:]}",
        "search, whole UID": f"/?q={middle}",
        "search, job": f"/?q={job_id}",
        "search, patient": f"/?q=family{latest}",
        "search, nothing": "/?q=nobody",
        "destinations": "/destinations",
        "pipelines": "/pipelines",
        "pipeline": "/pipelines/nodule",
        "storage": "/storage",
        "retention": "/storage/retention",
        "account, today": "/account",
        "account, everything": "/account?day=everything",
        "metrics": "/metrics",
        "quality": "/quality",
    }


if __name__ == "__main__":
    main()
