"""Two machines share a ledger: what only one of them has to do happens once, and goes on when that one is gone."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from pathlib import Path

import postgres
import pytest
import sqlalchemy as sa
from job_node import PACE, JobNode, config_of
from receivers import until

from node.config import FORWARD, Config
from node.errors import DeliveryError
from node.jobs.stage import Stage
from node.ledger import JobStage
from node.ledger.audit_events import give_notice
from node.ledger.destination_circuits import record_failure
from node.ledger.engine import begin_immediate, now, open_ledger
from node.ledger.job_outcome import record_results
from node.ledger.jobs import Retries
from node.ledger.states import NoticeKind
from node.operate.audit.auditor import Auditor, trail_path
from node.operate.notify import Notifier
from node.spool import Spool


class Machine:
    """Its own storage folder and connections."""

    def __init__(self, folder: Path, url: str, **config: dict[str, object]) -> None:
        folder.mkdir()
        storage = {"folder": folder, "min_free_gib": 0.0, "ledger_url": url}
        self.config = Config.model_validate({**config, "storage": storage})
        self.spool, self.engine = Spool(folder), open_ledger(url)
        self.notifier = Notifier(self.config, self.engine, self.spool)
        self.auditor = Auditor(self.config, self.engine, self.spool)

    def die(self) -> None:
        """Its server processes end, and nothing of it is released."""
        with self.engine.connect() as connection:  # of the database of this test
            ours = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND database = "
            ours += "(SELECT oid FROM pg_database WHERE datname = current_database())"
            connection.execute(sa.text(ours))


@pytest.fixture
def machines(tmp_path: Path, postgres_server: str) -> Iterator[list[Machine]]:
    url = postgres.new_database(postgres_server, tmp_path.name[-40:].lower())
    both = [Machine(tmp_path / name, url) for name in ("a", "b")]
    yield both
    for machine in both:
        machine.auditor.close()
        for leadership in (machine.notifier._of_ledger, machine.notifier._of_machine):
            leadership.release()
        machine.engine.dispose()


def alarms(caplog: pytest.LogCaptureFixture) -> list[str]:
    said = [record.getMessage() for record in caplog.records if record.name == "node.operate.notify"]
    caplog.clear()
    return said


def test_an_alert_of_the_ledger_is_notified_by_one_machine(
    machines: list[Machine], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for _ in range(3):
        with begin_immediate(machines[0].engine) as connection:
            record_failure(connection, "pacs", "nobody answers", 1000.0, 1001.0)
    for machine in machines:
        machine.notifier.step(now())
    (alarm,) = alarms(caplog)
    assert "destination pacs is down" in alarm


def test_a_full_disk_is_an_alert_of_its_own_machine_only(
    machines: list[Machine], caplog: pytest.LogCaptureFixture
) -> None:
    """Two machines that judge the disk of each other by their own would say "full" and "over" in turn."""
    caplog.set_level(logging.INFO)
    full, _ = machines
    roomy = full.config
    full.notifier._config = roomy.model_copy(update={"storage": roomy.storage.model_copy(update={"min_free_gib": 1e9})})
    for _ in range(2):
        for machine in machines:
            machine.notifier.step(now())
    (alarm,) = alarms(caplog)
    assert "GiB are free" in alarm
    full.notifier._config = roomy
    for machine in machines:
        machine.notifier.step(now())
    (over,) = alarms(caplog)
    assert over.startswith("over:")


def test_the_audit_trail_has_each_message_once_and_goes_on_when_the_writing_machine_dies(
    machines: list[Machine],
) -> None:
    first, second = machines
    for number in range(3):
        give_notice(first.engine, NoticeKind.ACT, who=f"user{number}")
    assert [machine.auditor.step(now()) for machine in machines] == [3, 0]
    give_notice(first.engine, NoticeKind.ACT, who="later")
    assert second.auditor.step(now()) == 0
    first.die()
    until(lambda: second.auditor.step(now()) == 1)  # the server ends its session soon after
    assert "later" in trail_path(second.config).read_text()
    assert first.auditor.step(now()) == 0


def test_results_of_a_worker_whose_clock_is_an_hour_ahead_are_dated_by_the_ledger(
    machines: list[Machine], monkeypatch: pytest.MonkeyPatch
) -> None:
    true = time.time
    monkeypatch.setattr(time, "time", lambda: true() + 3600.0)
    names = ("sop_class_uid", "transfer_syntax_uid", "series_instance_uid", "description", "path", "digest")
    row = {"sop_instance_uid": "1.2", "job_id": "j", "size": 1, **dict.fromkeys(names, "x")}
    with begin_immediate(machines[0].engine) as connection:
        record_results(connection, "j", [row])
        (made_at,) = connection.scalars(sa.text("SELECT created_at FROM result"))
    assert abs(made_at - true()) < 60.0


HOUR = 3600.0
DELAY_SECONDS = 60.0


def refuse(_job_id: str, _destination: str) -> None:
    raise DeliveryError("busy")


RETRIES = Retries(max_attempts=None, first_seconds=DELAY_SECONDS, max_seconds=DELAY_SECONDS)
REFUSING = Stage(name=JobStage.DELIVER, handler=refuse, retries=RETRIES, seconds=60.0)


@pytest.mark.parametrize(("failing", "waiting"), [(HOUR, HOUR), (-HOUR, 0.0)])
def test_a_retry_keeps_its_delay_whatever_the_clocks_of_the_machines_say(
    tmp_path: Path, postgres_server: str, monkeypatch: pytest.MonkeyPatch, failing: float, waiting: float
) -> None:
    """``failing``, ``waiting``: how far the clocks are ahead of the machines where it failed, and where it waits."""
    url = postgres.new_database(postgres_server, f"delay{failing:.0f}{waiting:.0f}")
    true, node = time.time, JobNode(config_of(tmp_path, url))

    def attempts() -> int:
        """Those that have ended, and the one that waits."""
        with node.engine.connect() as connection:
            return connection.scalar(sa.text("SELECT count(*) FROM dbos.workflow_status")) or 0

    try:
        node.enqueue(pipeline=FORWARD)
        for ahead in (failing, waiting):
            monkeypatch.setattr(time, "time", lambda ahead=ahead: true() + ahead)
            node.jobs.serve("sender", [REFUSING])
            until(lambda: attempts() > 1)
            time.sleep(1.5 + 3 * PACE.look_seconds)  # DBOS looks every second
            node.jobs.stop()
        assert attempts() == 2
        node.jobs.make_due("pacs")
        monkeypatch.setattr(time, "time", true)
        node.jobs.serve("sender", [REFUSING])
        until(lambda: attempts() == 3)
    finally:
        node.jobs.stop()
        node.engine.dispose()
