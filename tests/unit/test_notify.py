"""Problems are told once and once more when they are over, by a real mail server and a real HTTP receiver."""

from __future__ import annotations

import http.server
import json
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword
from certificates import Authority
from real_peers import free_port

from node.check import Check, check
from node.config import Config
from node.ledger.destination_circuits import close, record_failure
from node.ledger.engine import begin_immediate, now, open_ledger
from node.ledger.job_creation import create_job
from node.ledger.jobs import NewJob
from node.ledger.members import Member, renew_beat
from node.ledger.operator_switches import pause_destination, stop_pipeline
from node.ledger.tables import job, series
from node.operate.alerts import current_alerts
from node.operate.notify import Notifier
from node.operate.weekly_report import due_at
from node.spool import Spool


class Mailbox:
    """Keeps what the mail server takes."""

    def __init__(self) -> None:
        self.mails: list[str] = []

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        self.mails.append(envelope.content.decode())
        return "250 OK"


@pytest.fixture
def mail() -> Iterator[tuple[int, list[str]]]:
    box = Mailbox()
    controller = Controller(box, hostname="127.0.0.1", port=free_port())
    controller.start()
    yield controller.port, box.mails
    controller.stop()


@pytest.fixture
def hook() -> Iterator[tuple[str, list[dict[str, Any]], list[int]]]:
    """URL, what was posted, and the statuses to answer with (200 when there is none)."""
    got: list[dict[str, Any]] = []
    answers: list[int] = []

    class Receiver(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            status = answers.pop(0) if answers else 200
            if status == 200:
                got.append(body)
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: Any) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/", got, answers
        server.shutdown()


class Node:
    def __init__(self, folder: Path, ledger: str = "", **notify: Any) -> None:
        self.config = Config.model_validate({"storage": {"folder": folder, "min_free_gib": 0.0}, "notify": notify})
        self.spool = Spool(folder)
        self.engine = open_ledger(ledger or f"sqlite:///{folder / 'ledger.sqlite'}")
        self.notifier = Notifier(self.config, self.engine, self.spool)

    def break_destination(self) -> None:
        for _ in range(3):
            with begin_immediate(self.engine) as connection:
                record_failure(connection, "pacs", "nobody answers", 1000.0, 1001.0)

    def mend_destination(self) -> None:
        with begin_immediate(self.engine) as connection:
            close(connection, "pacs")

    def current_alerts(self, at: float | None = None) -> set[str]:
        with self.engine.connect() as connection:
            return set(current_alerts(self.config, connection, self.spool, now() if at is None else at))


MONDAY = datetime(2026, 11, 23, 7, 30).astimezone().timestamp()
WEEK = 7 * 86400.0


def test_the_report_of_a_week_is_mailed_once_on_its_day(tmp_path: Path, mail: tuple[int, list[str]]):
    port, mails = mail
    options = {"mail_to": ("it@example.org",), "smtp_host": "127.0.0.1", "smtp_port": port, "weekly_day": "monday"}
    node = Node(tmp_path, **options)
    node.notifier.step(MONDAY - WEEK)  # nothing is known of the weeks before
    assert mails == []
    new = NewJob(
        study_instance_uid="1", series_instance_uid="1.1", generation=1, pipeline="nodule", rule="r",
        destinations=(), priority=2,
    )  # fmt: skip
    with begin_immediate(node.engine) as connection:
        create_job(connection, new)
        create_job(connection, replace(new, generation=2))
        connection.execute(job.update().values(created_at=MONDAY - WEEK / 2))
        failed = job.update().where(job.c.generation == 2)
        connection.execute(failed.values(state="COMPLETED", stage="deliver", outcome="failed", updated_at=MONDAY - 60))
    node.notifier.step(MONDAY - 3600)  # at 6:30
    assert [mail for mail in mails if "week" in mail] == []
    for at in (MONDAY, MONDAY + 60, MONDAY + 3 * 86400):
        Node(tmp_path, **options).notifier.step(at)  # after a restart
    (report,) = (mail for mail in mails if "Report of the week" in mail)
    assert "Subject: [AINODE] Report of the week until 2026-11-23" in report
    assert "AI node AINODE, 2026-11-16 07:00 to 2026-11-23 07:00" in report
    assert "nodule: 2 (1 failed, 1 queued)" in report
    attention = report.partition("Needs attention now")[2]
    assert "failed" in attention
    node.notifier.step(MONDAY + WEEK)
    assert len([mail for mail in mails if "Report of the week" in mail]) == 2


@pytest.mark.parametrize(
    ("at", "due"),
    [("2026-11-23 07:00", "2026-11-23"), ("2026-11-23 06:59", "2026-11-16"), ("2026-11-22 23:00", "2026-11-16")],
)
def test_a_report_is_due_on_its_day_at_seven(at: str, due: str):
    moment = due_at("monday", datetime.fromisoformat(at).astimezone())
    assert f"{moment:%Y-%m-%d %H:%M}" == f"{due} 07:00"


def test_the_end_of_summer_time_makes_no_second_report(monkeypatch: pytest.MonkeyPatch):
    with monkeypatch.context() as berlin:
        berlin.setenv("TZ", "Europe/Berlin")
        time.tzset()
        days = [due_at("monday", datetime.fromisoformat(f"2026-10-{day} 12:00").astimezone()) for day in (19, 25, 26)]
    time.tzset()
    assert [f"{day:%Y-%m-%d %H:%M%z}" for day in days] == [
        "2026-10-19 07:00+0200", "2026-10-19 07:00+0200", "2026-10-26 07:00+0100",
    ]  # fmt: skip


def test_a_problem_is_mailed_once_and_once_more_when_it_is_over(tmp_path: Path, mail: tuple[int, list[str]]):
    port, mails = mail
    options = {"mail_to": ("it@example.org", "pacs@example.org"), "smtp_host": "127.0.0.1", "smtp_port": port}
    node = Node(tmp_path, **options)
    node.notifier.step(now())
    assert mails == []
    node.break_destination()
    node.notifier.step(now())
    node.notifier.step(now())
    Node(tmp_path, **options).notifier.step(now())  # after a restart
    (told,) = mails
    assert "Subject: [AINODE] destination pacs is down" in told.replace("\n ", " ")
    assert "To: it@example.org, pacs@example.org" in told
    node.mend_destination()
    node.notifier.step(now())
    node.notifier.step(now())
    assert len(mails) == 2
    assert "OVER: destination pacs is down" in mails[1]


def test_a_mail_server_gets_the_login_over_tls_and_only_there(
    tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch
):
    logins: list[tuple[bytes, bytes]] = []

    def known(_server: Any, _session: Any, _envelope: Any, _mechanism: str, login: LoginPassword) -> AuthResult:
        logins.append((login.login, login.password))
        return AuthResult(success=login.password == b"secret")

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(authority.pem("ainode"), authority.key("ainode"))
    box = Mailbox()
    server = Controller(
        box, hostname="127.0.0.1", port=free_port(), tls_context=context, require_starttls=True,
        authenticator=known, auth_required=True,
    )  # fmt: skip
    (tmp_path / "password").write_text("secret\n")
    options = {"mail_to": ("it@example.org",), "smtp_host": "localhost", "smtp_port": server.port}
    options |= {"smtp_starttls": True, "smtp_user": "node", "smtp_password_file": str(tmp_path / "password")}
    node = Node(tmp_path, **options)
    node.break_destination()
    server.start()
    try:
        node.notifier.step(now())  # its certificate is not trusted: no password is sent
        assert (logins, box.mails) == ([], [])
        monkeypatch.setenv("SSL_CERT_FILE", authority.pem("ca"))
        node.notifier.step(now())
    finally:
        server.stop()
    assert logins == [(b"node", b"secret")]
    assert "destination pacs is down" in box.mails[0]


def test_a_webhook_that_fails_is_told_later_and_the_mail_is_not_repeated(
    tmp_path: Path, mail: tuple[int, list[str]], hook: tuple[str, list[dict[str, Any]], list[int]]
):
    (port, mails), (url, got, answers) = mail, hook
    node = Node(tmp_path, mail_to=("it@example.org",), smtp_host="127.0.0.1", smtp_port=port, webhook=url)
    node.break_destination()
    answers.append(503)
    node.notifier.step(now())
    assert (len(mails), len(got)) == (1, 0)
    node.notifier.step(now())
    assert (len(mails), len(got)) == (1, 1)
    assert list(got[0]["problems"]) == ["destination pacs"]
    node.mend_destination()
    node.notifier.step(now())
    assert list(got[1]["over"]) == ["destination pacs"]


def test_the_address_of_a_webhook_comes_from_its_file_and_is_in_no_message(
    tmp_path: Path, hook: tuple[str, list[dict[str, Any]], list[int]], caplog: pytest.LogCaptureFixture
):
    url, got, answers = hook
    file = tmp_path / "webhook"
    node = Node(tmp_path, webhook_file=file)
    node.break_destination()
    for content in (None, "chat.example/s3cret", "https://s3cret\x00.example", f"{url}/s3cret\n"):
        if content is not None:
            file.write_text(content)
        answers[:] = [503]
        caplog.clear()
        node.notifier.step(now())
        assert got == []
        assert "notifications by webhook failed" in caplog.text
        assert "s3cret" not in caplog.text
        assert str(file) in caplog.text or "HTTP 503" in caplog.text
    node.notifier.step(now())
    assert [list(body["problems"]) for body in got] == [["destination pacs"]]


def test_check_reads_the_files_of_webhook_and_password_before_there_is_a_problem(tmp_path: Path):
    webhook, password = tmp_path / "webhook", tmp_path / "password"
    of = {"webhook_file": webhook, "smtp_password_file": password, "mail_to": ("it@example.org",)}
    config = Config.model_validate(
        {"storage": {"folder": tmp_path / "data"}, "notify": of | {"smtp_host": "mail.example.org", "smtp_user": "ai"}}
    )

    def said() -> Check:
        return next(result for result in check(config) if result.name == "notify")

    assert (said().good, str(webhook) in said().found) == (False, True)
    webhook.write_text("chat.example.org/s3cret")
    assert "begins with https:// or http://" in said().found
    webhook.write_text("https://chat.example.org/s3cret")
    assert (said().good, str(password) in said().found) == (False, True)
    password.write_text("long")
    assert said().good
    assert "s3cret" not in said().found


def test_a_mail_server_that_is_away_stops_nothing(tmp_path: Path):
    node = Node(tmp_path, mail_to=("it@example.org",), smtp_host="127.0.0.1", smtp_port=free_port())
    node.break_destination()
    node.notifier.step(now())
    with node.engine.connect() as connection:
        assert connection.scalar(sa.text("select count(*) from alarm where channel = 'mail'")) == 0


def _job(node: Node, **values: Any) -> None:
    new = NewJob(
        study_instance_uid="1.2", series_instance_uid="1.3", generation=1, pipeline="nodule", rule="r",
        destinations=(), priority=2,
    )  # fmt: skip
    with begin_immediate(node.engine) as connection:
        create_job(connection, new)
        connection.execute(sa.update(job).values(**values))


def test_a_job_that_does_not_move_is_a_problem_but_not_when_an_operator_stopped_its_pipeline(tmp_path: Path):
    node = Node(tmp_path, queue_minutes=10.0)
    with begin_immediate(node.engine) as connection:
        for role in ("worker", "sender"):
            renew_beat(connection, Member(id=role, role=role, host="h", pid=1), now())
    _job(node, progress_at=now() - 540)
    assert node.current_alerts() == set()
    assert node.current_alerts(now() + 120) == {"queue infer"}
    with begin_immediate(node.engine) as connection:
        stop_pipeline(connection, "nodule", "anna")
    assert node.current_alerts(now() + 120) == set()


def test_a_received_image_without_a_row_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    node = Node(tmp_path)
    draft = node.spool.drafts.new()
    draft.write([b"image"])
    node.spool.keep("1.2", "1.3", "1.4", draft)
    assert node.current_alerts() == set()  # its row follows in a moment
    monkeypatch.setattr("node.operate.alerts.ROWLESS_SECONDS", 0.0)
    assert node.current_alerts() == {"rows"}
    draft.discard()
    assert node.current_alerts() == set()


def test_failed_jobs_silence_a_full_disk_and_missing_roles_are_problems(tmp_path: Path):
    node = Node(tmp_path, silence_hours=2.0)
    _job(node, state="COMPLETED", outcome="failed", updated_at=now())
    assert node.current_alerts() == {"failed nodule"}
    assert node.current_alerts(now() + 25 * 3600) == set()
    with begin_immediate(node.engine) as connection:
        connection.execute(
            sa.insert(series).values(
                study_instance_uid="1", series_instance_uid="1.1", modality="CT", instances=1, first_at=0.0,
                last_at=now() - 7300, state="COMPLETE", generation=1,
            )
        )  # fmt: skip
    _job(node, state="SCHEDULED", outcome=None, updated_at=now())
    assert node.current_alerts() == {"silence", "no worker", "no sender"}
    full = Config.model_validate({"storage": {"folder": tmp_path, "min_free_gib": 1e6}})
    with node.engine.connect() as connection:
        assert "disk" in current_alerts(full, connection, node.spool, now())


def test_a_paused_destination_is_no_problem(tmp_path: Path):
    node = Node(tmp_path)
    with begin_immediate(node.engine) as connection:
        pause_destination(connection, "pacs", "anna")
    assert node.current_alerts() == set()


def test_what_the_account_cannot_explain_is_an_alarm_in_the_log_and_in_the_mail(
    tmp_path: Path, mail: tuple[int, list[str]], caplog: pytest.LogCaptureFixture
):
    port, mails = mail
    node = Node(tmp_path, mail_to=("it@example.org",), smtp_host="127.0.0.1", smtp_port=port)
    key = {"study_instance_uid": "1.2", "series_instance_uid": "1.2.3", "modality": "CT"}
    row = {"instances": 3, "first_at": now(), "last_at": now(), "state": "COMPLETE", "generation": 0}
    with begin_immediate(node.engine) as connection:
        connection.execute(sa.insert(series).values(**key, **row))
    stop = threading.Event()
    stop.set()
    node.notifier.account.step(stop)  # one that does not come to its end says nothing
    node.notifier.step(now())
    assert not caplog.records
    stop.clear()
    for _ in range(2):
        node.notifier.account.step(stop)
        node.notifier.step(now())
    said = "1 differences in the account, the first is: series 1.2.3 of study 1.2: counts 3 images, but 0 have a row"
    assert [record.getMessage() for record in caplog.records if "account" in record.getMessage()] == [
        f"ALARM: {said}; `ainode account` lists them"
    ]
    Node(tmp_path, mail_to=("it@example.org",), smtp_host="127.0.0.1", smtp_port=port).notifier.step(now())
    assert len(mails) == 1  # after a restart it is not over before another account says so
