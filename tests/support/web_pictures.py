"""Pictures of the dashboard's pages for docs/images: Chromium on a ledger with a made-up week behind it.

``python tests/support/web_pictures.py docs/images`` makes the pages that show no images; those of phantoms come from
the demo.
"""

from __future__ import annotations

import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from analysis_facts import facts
from dashboards import Dashboard, analysed, dashboard_on
from every_page import sign_in
from playwright.sync_api import sync_playwright
from published import publish

from node import __version__
from node.ledger.analysis_statistics import record_statistics
from node.ledger.deliveries import schedule_delivery
from node.ledger.destination_circuits import record_failure
from node.ledger.engine import begin_immediate
from node.ledger.members import MachineFigures, Member, renew_beat
from node.ledger.migrations import revisions
from node.ledger.tables import decision, delivery, delivery_instance, job, job_fact, result, series
from node.operate.audit.auditor import trail_path
from node.operate.audit.message import (
    APPLICATION_ACTIVITY,
    INSTANCES_TRANSFERRED,
    LOGIN,
    SERIOUS_FAILURE,
    USER_AUTHENTICATION,
    AuditEvent,
    Participant,
    Study,
    message,
)
from node.operate.audit.trail import Trail
from node.reasons import ReasonCode, reason

ARCHIVE = {"archive": {"title": "ARCHIVE", "host": "10.1.2.9", "port": 104}}
"""A destination that is down."""
PAGES = {
    "web-studies": "/",
    "web-destinations": "/destinations",
    "web-pipelines": "/pipelines",
    "web-pipeline": "/pipelines/nodule",
    "web-fleet": "/fleet",
}
STUDIES = (  # modality, images, minutes ago, job: state, stage, outcome, state of its delivery
    ("CT", 87, 0.2, None),
    ("CT", 212, 2, ("SCHEDULED", "infer", None, None)),
    ("MR", 176, 4, ("IN PROGRESS", "infer", None, None)),
    ("CT", 340, 9, ("IN PROGRESS", "deliver", "findings", "IN PROGRESS")),
    ("CT", 305, 31, ("COMPLETED", "deliver", "no findings", "CONFIRMED")),
    ("MR", 24, 55, ("COMPLETED", "deliver", "not applicable", "CONFIRMED")),
    ("CT", 298, 84, ("COMPLETED", "deliver", "findings", "CONFIRMED")),
    ("CT", 133, 121, ("COMPLETED", "deliver", "failed", "STORED")),
    ("CT", 267, 190, ("COMPLETED", "deliver", "findings", "CONFIRMED")),
)


def fill(dashboard: Dashboard) -> None:
    """Studies at every stage, processes that beat, a destination that is down, three hundred analyses."""
    at = time.time()
    audited(dashboard, at)
    with begin_immediate(dashboard.engine) as connection:
        for number, study in enumerate(STUDIES):
            _study(connection, number, at, study)
        for machine in ("ai1", "ai2"):
            _processes(connection, machine, at)
        for _ in range(5):
            record_failure(connection, "archive", "archive (ARCHIVE at 10.1.2.9:104): refused", at - 900, at + 60)
        chance = random.Random(4)
        week = facts(250, 8)[::-1] + facts(50, 9, scanner="C Three", slice_spacing_mm=2.0)
        for number, fact in enumerate(week):
            scores = [round(chance.betavariate(5, 2), 3) for _ in range(fact["findings"])]
            outcome = chance.choices(("findings", "no findings", "not applicable", "failed"), (30, 60, 8, 2))[0]
            more = {"outcome": outcome, "scores": scores, "device": "cpu", "run_seconds": chance.gauss(18, 3)}
            record_statistics(
                connection, f"fact {number}", "nodule", {**fact, **more, "host_mib": chance.gauss(1100, 60)}
            )
            when = at - (len(week) - number) * 2000.0
            mine = job_fact.c.job_id == f"fact {number}"
            connection.execute(sa.update(job_fact).where(mine).values(at=when, histogram=_levels(chance)))


def audited(dashboard: Dashboard, at: float) -> None:
    """A trail of a transfer, an action and a failed login."""
    uid = dashboard.uid
    sent = Study(study_instance_uid=uid, patient_id="TEST-1", classes={"1.2.840.10008.5.1.4.1.1.2": 5})
    scanner, operator = Participant(user="CT1", address="10.1.2.3"), Participant(user="otto", address="10.1.7.20")
    events = (
        AuditEvent(event=INSTANCES_TRANSFERRED, at=at - 90, participants=[scanner], studies=[sent]),
        AuditEvent(event=USER_AUTHENTICATION, type=LOGIN, at=at - 60, outcome=SERIOUS_FAILURE, participants=[operator]),
        AuditEvent(event=APPLICATION_ACTIVITY, at=at - 30, detail=f"ran pipeline on {uid}.2", participants=[operator]),
    )
    Trail(trail_path(dashboard.config)).append([message(event, "AINODE") for event in events])


def uid_of(number: int) -> str:
    """Study Instance UID of one of ``STUDIES``."""
    return f"1.2.826.0.1.3680043.8.498.{73019284 + 911 * number}"


def _study(connection: sa.Connection, number: int, at: float, entry: tuple[str, int, float, Any]) -> None:
    modality, images, minutes, work = entry
    uid, last = uid_of(number), at - minutes * 60
    of = {"study_instance_uid": uid, "series_instance_uid": f"{uid}.3"}
    state = {"state": "COMPLETE", "generation": 1} if work else {"state": "RECEIVING", "generation": 0}
    connection.execute(
        series.insert().values(**of, modality=modality, instances=images, first_at=last - 40, last_at=last, **state)
    )
    if work is None:
        return
    ruling = {
        "generation": 1,
        "outcome": "routed",
        "reason": reason(ReasonCode.NO_RULE),
        "trace": [],
        "decided_at": last,
        "last_image_at": last,
    }
    connection.execute(decision.insert().values(**of, **ruling))
    name, (status, stage, outcome, sent) = f"{number:016x}", work
    row = {"generation": 1, "pipeline": "nodule" if modality == "CT" else "tumor", "rule": "chest CT", "run": 0}
    row |= {"destinations": ["pacs"], "priority": 2, "attempt": 0, "created_at": last, "updated_at": last}
    connection.execute(job.insert().values(id=name, **of, **row, state=status, stage=stage, outcome=outcome))
    if sent is not None:
        times = {"attempt": 0, "created_at": last, "updated_at": last + 20}
        connection.execute(delivery.insert().values(job_id=name, destination="pacs", state=sent, **times))


def _levels(chance: random.Random) -> list[float]:
    """Shares of a chest CT: air, lung, soft tissue."""
    samples = [chance.gauss(*chance.choice(((-1000, 30), (-850, 60), (-850, 60), (30, 70)))) for _ in range(400)]
    return [sum(low <= s < low + 64 for s in samples) / 400 for low in range(-1024, 2048, 64)]


def _processes(connection: sa.Connection, machine: str, at: float) -> None:
    """Processes of one machine that beat; the disk of the second one is nearly full."""
    free = 814 if machine == "ai1" else 6
    figures = MachineFigures(free_bytes=free * 2**30, total_bytes=1800 * 2**30)
    for role in ("receiver", "router", "worker", "sender"):
        on_device = {"pipelines": ("denoise", "nodule", "tumor"), "devices": ("cuda:0",)} if role == "worker" else {}
        member = Member(
            id=f"{role}-{machine}",
            role=role,
            machine=blake2b(machine.encode(), digest_size=16).hexdigest(),
            host=f"{machine}/1",
            pid=1,
            version=__version__,
            revision=revisions()[-1],
            min_free_gib=10.0,
            **on_device,
        )
        renew_beat(connection, member, at + 3600, figures=figures)


@contextmanager
def filled_dashboard(folder: Path) -> Iterator[Dashboard]:
    """A dashboard on that week, which shows patients."""
    with dashboard_on(folder, *analysed(folder), destinations=ARCHIVE, show_patient=True) as made:
        fill(made)
        _deliver(made)
        publish(made.engine, folder)
        yield made


def _deliver(dashboard: Dashboard) -> None:
    """The results of the analysed study are at their destination: they can be retracted."""
    with begin_immediate(dashboard.engine) as connection:
        schedule_delivery(connection, dashboard.job_id, "pacs")
        mine = delivery.c.job_id == dashboard.job_id
        connection.execute(sa.update(delivery).where(mine).values(state="STORED"))
        made = connection.scalars(sa.select(result.c.sop_instance_uid).where(result.c.job_id == dashboard.job_id))
        answer = {"job_id": dashboard.job_id, "destination": "pacs", "status": 0, "sent_at": time.time()}
        connection.execute(sa.insert(delivery_instance), [{**answer, "sop_instance_uid": uid} for uid in made])


def main(out: Path) -> None:
    """Write the pictures to a folder."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    with (
        tempfile.TemporaryDirectory() as name,
        sync_playwright() as playwright,
        dashboard_on(Path(name), *analysed(Path(name)), destinations=ARCHIVE) as dashboard,
    ):
        fill(dashboard)
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        address = f"http://127.0.0.1:{dashboard.config.web.port}"
        page = browser.new_page(viewport={"width": 1280, "height": 860}, base_url=address)
        page.set_default_timeout(300_000)
        page.goto("/login")
        page.screenshot(path=out / "web-login.png")
        sign_in(page, "otto")
        for picture, path in PAGES.items():
            page.goto(path)
            page.screenshot(path=out / f"{picture}.png")
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
