"""``[web]``: the dashboard, and who may see it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, field_validator, model_validator

from node.config.table import Port, Table


class Web(Table):
    """The dashboard, `/metrics`, `/healthz` and `/readyz`."""

    enabled: bool = False
    """Serve it with ``ainode run``; ``ainode run --only web`` serves it in any case."""
    address: str = "127.0.0.1"
    """Address to listen on; anything but this machine wants a certificate or a reverse proxy."""
    port: Port = 8080
    """TCP port."""
    certificate: Path | None = None
    """TLS certificate chain, PEM; empty: plain HTTP."""
    key: Path | None = None
    """Its private key, PEM."""
    users_file: Path | None = None
    """Users and their hashed passwords (``ainode web password``); empty: ``web-users`` in the storage folder."""
    session_hours: Annotated[float, Field(gt=0)] = 8.0
    """A login lasts so long."""
    proxy_header: str = ""
    """Header in which a reverse proxy names the user whom it has authenticated; empty: no proxy is trusted."""
    proxy_address: str = "127.0.0.1"
    """The only address from which that header is believed."""
    show_patient: bool = False
    """Show name, ID and accession number, read from the file while a page is made; never stored, never logged."""

    @field_validator("certificate", "key", "users_file", mode="before")
    @classmethod
    def _path(cls, value: Any) -> Any:
        return (Path(value) if value else None) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _both_or_none(self) -> Web:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key belong together; give both or none")
        return self
