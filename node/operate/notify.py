"""Tells people and machines of problems, by mail and webhook: once when one begins, once when it is over.

What was told is kept in the ledger, for each channel on its own: a restart repeats nothing, and a channel that was
down gets at the next look what it has missed.
"""

from __future__ import annotations

import json
import logging
import smtplib
import ssl
import threading
from collections.abc import Callable, Mapping
from email.message import EmailMessage

import httpx
import sqlalchemy as sa

from node.actor import look_every
from node.config import Config
from node.ledger.engine import begin_immediate, insert_new
from node.ledger.tables import alarm
from node.operate.problems import problems
from node.spool import Spool

logger = logging.getLogger(__name__)

POLL_SECONDS = 30.0
_TIMEOUT_SECONDS = 30.0
Told = Mapping[str, str]
"""Name of a problem -> sentence."""


class Notifier:
    """One per node; a second one may say things twice."""

    def __init__(self, config: Config, engine: sa.Engine, spool: Spool) -> None:
        self._config = config
        self._engine = engine
        self._spool = spool
        self._channels: dict[str, Callable[[Told, Told], None]] = {}
        if config.notify.mail_to:
            self._channels["mail"] = self._mail
        if config.notify.webhook:
            self._channels["webhook"] = self._post

    def run(self, stop: threading.Event) -> None:
        """Look every half minute until ``stop`` is set; not at all when nobody is to be told."""
        if self._channels:
            look_every(POLL_SECONDS, stop, "notifications", self.step)

    def step(self, at: float) -> None:
        """Tell every channel what has begun and what is over since it was last told."""
        with self._engine.connect() as connection:
            found = problems(self._config, connection, self._spool, at)
        for name, send in self._channels.items():
            with self._engine.connect() as connection:
                known = {
                    row.problem: row.text for row in connection.execute(sa.select(alarm).where(alarm.c.channel == name))
                }
            begun = {problem: text for problem, text in found.items() if problem not in known}
            over = {problem: text for problem, text in known.items() if problem not in found}
            if not begun and not over:
                continue
            try:
                send(begun, over)
            except (OSError, smtplib.SMTPException, httpx.HTTPError) as error:
                logger.warning("notifications by %s failed (%s); trying again", name, error)
                continue
            with begin_immediate(self._engine) as connection:
                rows = [{"channel": name, "problem": p, "text": text, "at": at} for p, text in begun.items()]
                insert_new(connection, alarm, rows)
                connection.execute(sa.delete(alarm).where(alarm.c.channel == name, alarm.c.problem.in_(over)))

    def _mail(self, begun: Told, over: Told) -> None:
        wanted, title = self._config.notify, self._config.ae.title
        message = EmailMessage()
        message["From"], message["To"] = wanted.mail_from, ", ".join(wanted.mail_to)
        first = next(iter((begun or over).values()))
        more = f" (and {len(begun) + len(over) - 1} more)" if len(begun) + len(over) > 1 else ""
        message["Subject"] = f"[{title}] {'' if begun else 'over: '}{first[:80]}{more}"
        lines = [f"PROBLEM: {text}" for text in begun.values()] + [f"OVER: {text}" for text in over.values()]
        message.set_content("\n".join(lines) + f"\n\nAI node {title}; `ainode status` and the dashboard tell more.\n")
        with smtplib.SMTP(wanted.smtp_host, wanted.smtp_port, timeout=_TIMEOUT_SECONDS) as server:
            if wanted.smtp_starttls:
                server.starttls(context=ssl.create_default_context())
            if wanted.smtp_password_file is not None:
                server.login(wanted.smtp_user, wanted.smtp_password_file.read_text(encoding="utf-8").strip())
            server.send_message(message)

    def _post(self, begun: Told, over: Told) -> None:
        body = {"node": self._config.ae.title, "problems": dict(begun), "over": dict(over)}
        answer = httpx.post(self._config.notify.webhook, content=json.dumps(body), timeout=_TIMEOUT_SECONDS,
                            headers={"content-type": "application/json"})  # fmt: skip
        answer.raise_for_status()
