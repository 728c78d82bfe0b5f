"""The mail of a month to the department: what readers' verdicts say of each pipeline, as a PDF.

One process of all machines sends it, and the ledger records which was the last, so that a restart repeats nothing. It
names pipelines, versions and scanners, and no patient.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import UTC, datetime, time, timedelta

import sqlalchemy as sa

from node.actor import look_every
from node.config import Config
from node.ledger.alerts import raised_alerts, record_alerts
from node.ledger.clock import clock_of
from node.ledger.engine import begin_immediate
from node.operate.notification_channels import UNSENT, PdfFile, send_mail

logger = logging.getLogger(__name__)

POLL_SECONDS = 60.0
_CHANNEL = "monthly verdicts"
"""The channel whose one alert in the ledger names the latest month that was mailed."""
_HOUR = time(7)
"""Local time of the mail."""
_WORK = "monthly mail"
PdfOfMonth = Callable[[str, datetime], bytes]
"""Makes the PDF of a month (``2026-10``, UTC) at a local time."""
Responsible = Callable[[str], bool]
"""Whether a work falls to this process: ``node.membership.Membership.is_responsible``."""


def due_at(at: datetime) -> datetime:
    """Return when the latest mail was due: on the first of the month at 7:00 local time, when it has begun in UTC."""
    first = at.date().replace(day=1)
    due = _due_on(datetime.combine(first, _HOUR))
    return due if due <= at else _due_on(datetime.combine((first - timedelta(days=1)).replace(day=1), _HOUR))


def _due_on(local: datetime) -> datetime:
    return max(local.astimezone(), datetime(local.year, local.month, 1, tzinfo=UTC).astimezone())


class MonthlyMail:
    """Sends the mail once it is due, and again and again until the mail server takes it."""

    def __init__(
        self, config: Config, engine: sa.Engine, pdf_of_month: PdfOfMonth, is_responsible: Responsible
    ) -> None:
        self._config = config
        self._engine = engine
        self._pdf_of_month = pdf_of_month
        self._is_responsible = is_responsible

    def run(self, stop: threading.Event) -> None:
        """Look every minute until ``stop`` is set."""
        if self._config.notify.quality_to:
            look_every(POLL_SECONDS, stop, _WORK, lambda: self.step(clock_of(self._engine)))

    def step(self, at: float) -> None:
        """Mail the month before, if that has not been done.

        The first one is sent a month after this was configured at the latest, not at once.
        """
        if not self._is_responsible(_WORK):
            return
        now = datetime.fromtimestamp(at).astimezone()
        month = f"{due_at(now).date().replace(day=1) - timedelta(days=1):%Y-%m}"
        with self._engine.connect() as connection:
            known = raised_alerts(connection, _CHANNEL)
        if month in known:
            return
        if known:
            try:
                self._send(month, now)
            except UNSENT as error:
                logger.warning("verdicts of %s were not mailed (%s); trying again", month, error)
                return
            logger.info("verdicts of %s were mailed", month)
        with begin_immediate(self._engine) as connection:
            record_alerts(connection, _CHANNEL, {month: "verdicts of the month"}, known, at)

    def _send(self, month: str, now: datetime) -> None:
        text = (
            f"What readers said in {month} and the two months before it about the results of AI node "
            f"{self._config.ae.title}.\nVerdicts that come later are in the next mail; `ainode quality` and the page "
            "Quality of the dashboard show more."
        )
        attached = PdfFile(name=f"verdicts-{month}.pdf", content=self._pdf_of_month(month, now))
        send_mail(
            self._config, f"Readers' verdicts, {month}", text, to=self._config.notify.quality_to, attached=attached
        )
