"""Notification of alerts by log, mail and webhook: once when one begins, once when it ends.

The ledger records what each channel was sent: a restart repeats nothing, and a channel that was down gets what it
missed at the next look. Of several machines one sends what all of them see in the ledger, and one of those with the
same storage folder what only they can see.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

import sqlalchemy as sa

from node.actor import look_every, running
from node.config import Config
from node.ledger.alerts import raised_alerts, record_alerts
from node.ledger.clock import clock_of
from node.ledger.engine import begin_immediate
from node.ledger.leadership import Leadership
from node.operate.account.watch import ALERTS, AccountWatch
from node.operate.alerts import ledger_alerts, machine_alerts
from node.operate.notification_channels import UNSENT, post_to_webhook, send_mail
from node.operate.weekly_report import due_at, weekly_report
from node.peer_text import escaped
from node.process.presence import host_name
from node.spool import Spool
from node.spool.machine import machine_id

logger = logging.getLogger(__name__)

POLL_SECONDS = 30.0
_WEEKLY = "weekly report"
"""The channel whose one alert in the ledger names the latest report of a week."""
Alerts = Mapping[str, str]
"""Sentence of each alert, by its name."""


class Notifier:
    """Sends notifications, as long as no other machine does."""

    def __init__(self, config: Config, engine: sa.Engine, spool: Spool) -> None:
        self._config = config
        self._engine = engine
        self._spool = spool
        self._machine = machine_id(spool.folder)
        self._of_ledger, self._of_machine = (Leadership(engine, of) for of in ("alerts", f"alerts {self._machine}"))
        self.account = AccountWatch(config, engine, spool, self._of_ledger.is_ours)
        self._channels: dict[str, Callable[[Alerts, Alerts], None]] = {"log": _log}
        if config.notify.mail_to:
            self._channels["mail"] = self._mail
        if config.notify.has_webhook:
            self._channels["webhook"] = self._post

    def run(self, stop: threading.Event) -> None:
        """Look every half minute until ``stop`` is set."""
        with running((self.account.run,), stop):
            look_every(POLL_SECONDS, stop, "notifications", lambda: self.step(clock_of(self._engine)))
        for leadership in (self._of_ledger, self._of_machine):
            leadership.release()

    def step(self, at: float) -> None:
        """Notify every channel of alerts that began or ended since its last notification."""
        if self._of_ledger.is_ours():
            with self._engine.connect() as connection:
                alerts = ledger_alerts(self._config, connection, at)
            of_account = self.account.alerts
            alerts |= of_account or {}
            self._notify("", alerts, at, unknown=ALERTS if of_account is None else ())
            if self._config.notify.weekly_day:
                self._report(alerts, at)
        if self._of_machine.is_ours():
            own = machine_alerts(self._config, self._spool)
            self._notify(f" {self._machine}", {name: f"{host_name()}: {text}" for name, text in own.items()}, at)

    def _notify(self, of: str, current: Alerts, at: float, unknown: Sequence[str] = ()) -> None:
        """``of``: appended to the names of channels in the ledger, so that machines know their own alerts.

        ``unknown``: alerts of which it is not known whether they are over.
        """
        alerts = {name: escaped(text) for name, text in current.items()}
        for name, send in self._channels.items():
            with self._engine.connect() as connection:
                known = raised_alerts(connection, name + of)
            begun = {problem: text for problem, text in alerts.items() if problem not in known}
            over = {problem: text for problem, text in known.items() if problem not in (*alerts, *unknown)}
            if not begun and not over:
                continue
            try:
                send(begun, over)
            except UNSENT as error:
                logger.warning("notifications by %s failed (%s); trying again", name, error)
                continue
            with begin_immediate(self._engine) as connection:
                record_alerts(connection, name + of, begun, over, at)

    def _report(self, alerts: Alerts, at: float) -> None:
        """Mail the report of the week once it is due; the ledger keeps which was the last.

        The first one is sent a week after this was configured at the latest, not at once.
        """
        due = due_at(self._config.notify.weekly_day, datetime.fromtimestamp(at).astimezone())
        name = f"{due:%Y-%m-%d}"
        with self._engine.connect() as connection:
            known = raised_alerts(connection, _WEEKLY)
            text = weekly_report(self._config, connection, due.timestamp(), alerts) if known else ""
        if name in known:
            return
        if known:
            try:
                self._send(f"Report of the week until {name}", text)
            except UNSENT as error:
                logger.warning("the report of the week was not mailed (%s); trying again", error)
                return
        with begin_immediate(self._engine) as connection:
            record_alerts(connection, _WEEKLY, {name: "report of the week"}, known, at)

    def _mail(self, begun: Alerts, over: Alerts) -> None:
        title = self._config.ae.title
        first = next(iter((begun or over).values()))
        more = f" (and {len(begun) + len(over) - 1} more)" if len(begun) + len(over) > 1 else ""
        lines = [f"PROBLEM: {text}" for text in begun.values()] + [f"OVER: {text}" for text in over.values()]
        self._send(
            f"{'' if begun else 'over: '}{first[:80]}{more}",
            "\n".join(lines) + f"\n\nAI node {title}; `ainode status` and the dashboard show more.",
        )

    def _send(self, subject: str, text: str) -> None:
        send_mail(self._config, subject, text)

    def _post(self, begun: Alerts, over: Alerts) -> None:
        post_to_webhook(self._config, {"problems": dict(begun), "over": dict(over)})


def _log(begun: Alerts, over: Alerts) -> None:
    for text in begun.values():
        logger.error("ALARM: %s", text)
    for text in over.values():
        logger.info("over: %s", text)
