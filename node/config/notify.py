"""``[notify]``: who is told when something is wrong, and what counts as wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, field_validator, model_validator

from node.config.table import Port, Table


class Notify(Table):
    """Each problem is told once, and once more when it is over."""

    mail_to: tuple[str, ...] = ()
    """Addresses that get a mail; empty: none is sent."""
    mail_from: str = "ainode@localhost"
    """Sender of the mails."""
    smtp_host: str = "localhost"
    """Mail server."""
    smtp_port: Port = 25
    """Its TCP port."""
    smtp_starttls: bool = False
    """Encrypt the connection (STARTTLS) and check the server's certificate."""
    smtp_user: str = ""
    """Login at the mail server; empty: none."""
    smtp_password_file: Path | None = None
    """File with the password of that login."""
    webhook: str = ""
    """URL that gets a POST with JSON; empty: none."""
    queue_minutes: Annotated[float, Field(gt=0)] = 60.0
    """A job that has not moved for so long is a problem."""
    failed_hours: Annotated[float, Field(ge=0)] = 24.0
    """Failed jobs are a problem for so long; 0: never."""
    silence_hours: Annotated[float, Field(ge=0)] = 0.0
    """No image for so long is a problem; 0: never."""
    drift_analyses: Annotated[int, Field(ge=0)] = 50
    """Latest analyses of a pipeline that are compared with up to ten times as many before them; 0: never."""
    disk_factor: Annotated[float, Field(ge=1)] = 2.0
    """Free space below this many times ``[storage] min_free_gib`` is a problem."""

    @field_validator("smtp_password_file", mode="before")
    @classmethod
    def _path(cls, value: Any) -> Any:
        return (Path(value) if value else None) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _complete(self) -> Notify:
        if self.webhook and not self.webhook.startswith(("http://", "https://")):
            raise ValueError(f"webhook = {self.webhook!r}: give an address that begins with https:// or http://")
        if bool(self.smtp_user) != (self.smtp_password_file is not None):
            raise ValueError("smtp_user and smtp_password_file belong together; give both or none")
        return self
