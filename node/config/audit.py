"""``[audit]``: where the audit trail goes."""

from __future__ import annotations

from urllib.parse import urlsplit

from pydantic import field_validator

from node.config.table import Table


class Audit(Table):
    """The audit trail (PS3.15 A.5)."""

    file: str = ""
    """Append-only file with a hash chain; empty: ``audit.log`` in the storage folder."""
    syslog: str = ""
    """Syslog server that receives a copy, ``tls://host:6514`` or ``udp://host:514``; empty: none."""
    ca: str = ""
    """PEM file of the authority that signed the syslog server's certificate; empty: the system's."""

    @field_validator("syslog")
    @classmethod
    def _syslog(cls, value: str) -> str:
        parts = urlsplit(value)
        if value and (parts.scheme not in ("udp", "tls") or not parts.hostname):
            raise ValueError("give tls://host:6514 or udp://host:514")
        return value
