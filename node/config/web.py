"""``[web]``: the dashboard and access to it."""

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
    """Address to listen on; other addresses than loopback require a certificate or a reverse proxy."""
    port: Port = 8080
    """TCP port."""
    certificate: Path | None = None
    """TLS certificate chain, PEM; empty: plain HTTP."""
    key: Path | None = None
    """Private key of the certificate, PEM."""
    users_file: Path | None = None
    """Users and their hashed passwords (``ainode web password``); empty: ``web-users`` in the storage folder."""
    session_hours: Annotated[float, Field(gt=0)] = 8.0
    """Lifetime of a session."""
    proxy_header: str = ""
    """Header in which a reverse proxy passes the authenticated user; empty: no proxy is trusted."""
    proxy_address: str = "127.0.0.1"
    """The only address from which that header is accepted."""
    show_patient: bool = False
    """Show patient name, ID and accession number, read from the files for each page; never stored or logged."""

    @field_validator("certificate", "key", "users_file", mode="before")
    @classmethod
    def _path(cls, value: Any) -> Any:
        return (Path(value) if value else None) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _both_or_none(self) -> Web:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key belong together; give both or none")
        return self
