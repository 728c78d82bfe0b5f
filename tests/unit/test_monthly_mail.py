"""The monthly mail to the department: once, with the month before, from one process, and nothing of a patient."""

from __future__ import annotations

import email.policy
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from email.message import EmailMessage
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from ledgers import open_copy
from real_peers import free_port

from node.config import Config
from node.feedback.quality_pdf import monthly_quality_pdf
from node.ledger.engine import begin_immediate
from node.ledger.tables import job_fact, verdict
from node.operate.monthly_mail import MonthlyMail, due_at

OCTOBER, NOVEMBER = (datetime(2026, month, 1, 12, tzinfo=UTC).timestamp() for month in (10, 11))
DAY = 86400.0


class Mailbox:
    """Takes mails and keeps them; ``refused``: so many are refused before."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        self.to: list[Sequence[str]] = []
        self.refused = 0

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        if self.refused:
            self.refused -= 1
            return "451 try again"
        self.mails.append(email.message_from_bytes(envelope.content, policy=email.policy.default))
        self.to.append(envelope.rcpt_tos)
        return "250 OK"


class Scene:
    def __init__(self, folder: Path, box: Mailbox, port: int) -> None:
        self.box = box
        notify = {"quality_to": ("radiology@example.org", "head@example.org"), "smtp_host": "127.0.0.1"}
        self.config = Config.model_validate(
            {"storage": {"folder": folder}, "notify": {**notify, "smtp_port": port, "mail_to": ("it@example.org",)}}
        )
        self.engine = open_copy(f"sqlite:///{folder / 'ledger.sqlite'}")

    def step(self, at: float, *, responsible: bool = True) -> None:
        """As a process that was just started."""
        pdf = partial(monthly_quality_pdf, self.engine)
        MonthlyMail(self.config, self.engine, pdf, lambda _work: responsible).step(at)

    def judged(self, at: float, scanner: str, count: int = 25) -> None:
        """Analyses of a scanner with one accepted lesion each."""
        names = [f"{scanner} {number}" for number in range(count)]
        fact = {
            "pipeline": "nodule", "version": "2.4.0", "scanner": scanner, "at": at, "outcome": "findings", "slices": 9,
            "findings": 1, "scores": [0.5], "device": "cpu", "run_seconds": 1.0,
        }  # fmt: skip
        said = {"source": "1.2.3", "lesion": "1", "kind": "click", "verdict": "accepted", "reader": "", "given_at": at}
        with begin_immediate(self.engine) as connection:
            connection.execute(job_fact.insert(), [fact | {"job_id": name} for name in names])
            connection.execute(verdict.insert(), [said | {"job_id": name} for name in names])


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    box = Mailbox()
    controller = Controller(box, hostname="127.0.0.1", port=free_port())
    controller.start()
    made = Scene(tmp_path, box, controller.port)
    yield made
    controller.stop()
    made.engine.dispose()


def pdf_text(mail: EmailMessage) -> str:
    (attached,) = mail.iter_attachments()
    assert attached.get_content_type() == "application/pdf"
    program = shutil.which("pdftotext")
    if program is None:
        pytest.skip("pdftotext is not installed (Debian package poppler-utils)")
    content = attached.get_content()
    done = subprocess.run([program, "-layout", "-", "-"], input=content, capture_output=True, check=True)
    return " ".join(done.stdout.decode().split())


def test_the_month_before_is_mailed_once_however_often_the_node_is_started(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("node.feedback.quality_report.ledger_clock", lambda _connection: NOVEMBER + DAY)
    scene.judged(OCTOBER + DAY, "Maker A")
    scene.judged(NOVEMBER, "Maker B")
    scene.step(OCTOBER)  # nothing is known of the months before
    scene.step(OCTOBER + 20 * DAY)
    assert scene.box.mails == []
    for at in (NOVEMBER, NOVEMBER + 60, NOVEMBER + 9 * DAY):
        scene.step(at)
    (mail,) = scene.box.mails
    assert scene.box.to == [["radiology@example.org", "head@example.org"]]
    assert mail["Subject"] == "[AINODE] Readers' verdicts, 2026-10"
    text = pdf_text(mail)
    assert "Readers' verdicts on nodule" in text
    assert "2026-10 Maker A 2.4.0 25 of 25 analyses" in text
    assert "Maker B" not in text, "of this month, which is not over"
    assert [attachment.get_filename() for attachment in mail.iter_attachments()] == ["verdicts-2026-10.pdf"]


def test_a_mail_server_that_refuses_gets_it_later(scene: Scene):
    scene.step(OCTOBER)
    scene.box.refused = 2
    for minute in range(4):
        scene.step(NOVEMBER + 60 * minute)
    assert len(scene.box.mails) == 1
    assert "No analysis that readers could judge" in pdf_text(scene.box.mails[0])


def test_a_process_that_is_not_responsible_sends_nothing(scene: Scene):
    scene.step(OCTOBER)
    scene.step(NOVEMBER, responsible=False)
    assert scene.box.mails == []


def test_a_node_that_was_down_for_months_mails_the_latest_one(scene: Scene):
    scene.step(OCTOBER)
    scene.step(datetime(2027, 3, 14, tzinfo=UTC).timestamp())
    assert [mail["Subject"] for mail in scene.box.mails] == ["[AINODE] Readers' verdicts, 2027-02"]


@pytest.mark.parametrize(
    ("at", "due"),
    [
        ("2026-11-01 07:00", "2026-11-01 07:00"),
        ("2026-11-01 06:59", "2026-10-01 07:00"),
        ("2026-11-30 23:00", "2026-11-01 07:00"),
        ("2026-01-01 03:00", "2025-12-01 07:00"),
    ],
)
def test_it_is_due_on_the_first_at_seven(at: str, due: str):
    assert f"{due_at(datetime.fromisoformat(at).astimezone()):%Y-%m-%d %H:%M}" == due
