"""Messages about urgent results, by mail and webhook, as soon as a result is encoded.

A message has UIDs, the pipeline and the measurement: no name and no number of a patient. The ledger records what each
channel was sent: each result once, also after a restart, and later when the channel was down. Of several machines one
sends.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence

import sqlalchemy as sa

from node.actor import look_every
from node.config import Config
from node.ledger.alerts import raised_alerts, record_alerts
from node.ledger.clock import clock_of
from node.ledger.engine import begin_immediate
from node.ledger.jobs import Job, urgent_jobs
from node.ledger.leadership import Leadership
from node.operate.notification_channels import UNSENT, post_to_webhook, send_mail
from node.peer_text import escaped
from node.reasons import reason_text

logger = logging.getLogger(__name__)

POLL_SECONDS = 1.0
_KEPT_SECONDS = 7 * 86400.0
"""For how long a channel that is down gets what it missed."""


class UrgentMessages:
    """Sends the messages."""

    def __init__(self, config: Config, engine: sa.Engine) -> None:
        self._config = config
        self._engine = engine
        self._leadership = Leadership(engine, "urgent messages")
        self._channels: dict[str, Callable[[Sequence[Job]], None]] = {}
        if config.notify.mail_to:
            self._channels["mail"] = self._mail
        if config.notify.has_webhook:
            self._channels["webhook"] = self._post

    def run(self, stop: threading.Event) -> None:
        """Look every second until ``stop`` is set; at once end where nothing is to be sent."""
        if self._channels and any(rule.escalate for rule in self._config.rules):
            look_every(POLL_SECONDS, stop, "urgent messages", lambda: self.step(clock_of(self._engine)))
            self._leadership.release()

    def step(self, at: float) -> None:
        """Send each channel what it was not sent yet."""
        if not self._leadership.is_ours():
            return
        for name, send in self._channels.items():
            channel = f"urgent {name}"
            with self._engine.connect() as connection:
                jobs = {job.id: job for job in urgent_jobs(connection, at - _KEPT_SECONDS)}
                sent = raised_alerts(connection, channel)
            new = {job_id: job for job_id, job in jobs.items() if job_id not in sent}
            if not new:
                continue
            try:
                send(list(new.values()))
            except UNSENT as error:
                logger.warning("urgent messages by %s failed (%s); trying again", name, error)
                continue
            with begin_immediate(self._engine) as connection:
                forgotten = [job_id for job_id in sent if job_id not in jobs]
                record_alerts(connection, channel, dict.fromkeys(new, "urgent"), forgotten, at)
            logger.info("urgent messages by %s: jobs %s", name, ", ".join(sorted(new)))

    def _mail(self, jobs: Sequence[Job]) -> None:
        lines = []
        for job in jobs:
            lines += [f"{job.pipeline}: {self._why(job)}", f"study {job.study_instance_uid}, rule {job.rule}"]
            link = self._config.web.study_link(job.study_instance_uid)
            lines += [link, ""] if link else [""]
        more = f" (and {len(jobs) - 1} more)" if len(jobs) > 1 else ""
        subject = f"urgent: {jobs[0].pipeline}: {self._why(jobs[0])}{more}"
        send_mail(self._config, subject, "\n".join([*lines, "Research use only; the results are on their way."]))

    def _post(self, jobs: Sequence[Job]) -> None:
        urgent = [
            {
                "job": job.id,
                "study_instance_uid": job.study_instance_uid,
                "pipeline": job.pipeline,
                "rule": job.rule,
                "why": self._why(job),
                "link": self._config.web.study_link(job.study_instance_uid),
            }
            for job in jobs
        ]
        post_to_webhook(self._config, {"urgent": urgent})

    @staticmethod
    def _why(job: Job) -> str:
        return escaped(reason_text(job.urgent))
