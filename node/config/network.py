"""``[ae]``: our own application entity and who may call it."""

from __future__ import annotations

import ipaddress
from typing import Annotated

from pydantic import Field, field_validator

from node.config.table import AeTitle, Port, Table


class Caller(Table):
    """A peer that may open associations."""

    title: AeTitle
    """Calling AE title."""
    address: str = ""
    """IP address or network it must come from (``10.1.2.0/24``); empty: any."""
    host: str = ""
    """Name or address at which it takes Storage Commitment reports; empty: only on the association of its request."""
    port: Port = 104
    """Its DICOM port there."""
    max_associations: Annotated[int, Field(ge=0, le=1000)] = 0
    """Associations of this title at the same time; 0: as many as the node serves."""

    @field_validator("address")
    @classmethod
    def _address(cls, value: str) -> str:
        if value:
            ipaddress.ip_network(value, strict=False)
        return value


class Ae(Table):
    """Our own application entity."""

    title: AeTitle = "AINODE"
    """AE title under which scanners and PACS know this node."""
    address: str = "0.0.0.0"  # noqa: S104 - scanners call from outside
    """Address to listen on; ``127.0.0.1`` for this machine only."""
    port: Port = 11112
    """TCP port of the Storage and Verification SCP."""
    require_called_title: bool = True
    """Refuse associations that call another title than ours."""
    callers: tuple[Caller, ...] = ()
    """Peers that may call; empty: everyone."""
    max_associations: Annotated[int, Field(ge=1, le=1000)] = 64
    """Associations served at the same time by all processes; one more is refused (local limit exceeded)."""
    processes: Annotated[int, Field(ge=0, le=64)] = 0
    """Receiver processes; 0: one per core, four at most."""
    association_timeout_seconds: Annotated[float, Field(gt=0)] = 10.0
    """Longest wait for an A-ASSOCIATE-RQ on a new connection (ARTIM timer)."""
    network_timeout_seconds: Annotated[float, Field(gt=0)] = 60.0
    """Longest silence on an open association."""
