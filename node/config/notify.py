"""``[notify]``: notification of problems, and what counts as one."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from node.config.table import OptionalPath, Port, Table

WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


class Notify(Table):
    """Each problem is reported once when it begins and once when it is over."""

    mail_to: tuple[str, ...] = ()
    """Mail addresses; empty: no mail is sent."""
    mail_from: str = "ainode@localhost"
    """Sender of the mails."""
    smtp_host: str = "localhost"
    """Mail server."""
    smtp_port: Port = 25
    """TCP port of the mail server."""
    smtp_starttls: bool = False
    """Use STARTTLS and verify the server's certificate."""
    smtp_user: str = ""
    """User name at the mail server; empty: no login."""
    smtp_password_file: OptionalPath = None
    """File with the password of that user."""
    weekly_day: Literal["", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"] = ""
    """Mail a report of the last 7 days on this day at 7:00 local time; empty: never."""
    quality_to: tuple[str, ...] = ()
    """Addresses of the department that get readers' verdicts of the last month as a PDF, on the first of each month at
    7:00 local time; empty: nobody."""
    webhook: str = ""
    """URL that receives a POST with JSON; empty: none."""
    webhook_file: OptionalPath = None
    """File with that URL, which is a secret of many services."""
    queue_minutes: Annotated[float, Field(gt=0)] = 60.0
    """Report a job without progress, or a series without a decision, after this time."""
    failed_hours: Annotated[float, Field(ge=0)] = 24.0
    """Report failed jobs for this long; 0: never."""
    silence_hours: Annotated[float, Field(ge=0)] = 0.0
    """Report when no image was received for this long; 0: never."""
    drift_analyses: Annotated[int, Field(ge=0)] = 50
    """Compare this many recent analyses of a pipeline with up to ten times as many earlier ones; 0: never."""
    disk_factor: Annotated[float, Field(ge=1)] = 2.0
    """Report free space below this multiple of ``[storage] min_free_gib``."""

    @property
    def has_webhook(self) -> bool:
        """Whether there is a URL that receives a POST."""
        return bool(self.webhook) or self.webhook_file is not None

    @model_validator(mode="after")
    def _complete(self) -> Notify:
        if self.webhook and not self.webhook.startswith(("http://", "https://")):
            raise ValueError("webhook: give an address that begins with https:// or http://")
        if self.webhook and self.webhook_file is not None:
            raise ValueError("webhook and webhook_file are both given; remove webhook")
        if bool(self.smtp_user) != (self.smtp_password_file is not None):
            raise ValueError("smtp_user and smtp_password_file belong together; give both or none")
        if self.weekly_day and not self.mail_to:
            raise ValueError(f"weekly_day = {self.weekly_day!r} needs an address in mail_to")
        return self
