"""``[ae]``: our own application entity and who may call it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

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
    """Associations served at the same time; one more is refused (local limit exceeded)."""
    association_timeout_seconds: Annotated[float, Field(gt=0)] = 10.0
    """Longest wait for an A-ASSOCIATE-RQ on a new connection (ARTIM timer)."""
    network_timeout_seconds: Annotated[float, Field(gt=0)] = 60.0
    """Longest silence on an open association."""
