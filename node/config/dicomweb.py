"""``[dicomweb]``: the DICOMweb service of the node, and the clients that may use it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from node.addresses import is_loopback
from node.config.table import AeTitle, Name, OptionalPath, Port, Table

Service = Literal["store", "retrieve", "watch", "request", "fetch"]


class DicomwebClient(Table):
    """One client, by its token."""

    token_file: Annotated[str, Field(min_length=1)]
    """File with the token (32 characters or more): bearer token, or password of HTTP Basic with the client's name."""
    services: Annotated[tuple[Service, ...], Field(min_length=1)] = ("store",)
    """``store``: STOW-RS. ``retrieve``: QIDO-RS and WADO-RS, for every study that the node holds. ``watch``: search and
    retrieve workitems, and subscribe to them (UPS-RS). ``request``: create workitems and request their cancellation.
    ``fetch``: have studies fetched from an archive."""
    title: AeTitle | Literal[""] = ""
    """AE title as which its images arrive, for rules and ``[ae] callers``; empty: that of the node. The one that it
    subscribes to workitems; empty: none."""


class Dicomweb(Table):
    """The listener for DICOMweb (PS3.18)."""

    enabled: bool = False
    """Listen for requests."""
    address: str = "127.0.0.1"
    """Address to listen on; other addresses than loopback require a certificate."""
    port: Port = 8042
    """TCP port."""
    certificate: OptionalPath = None
    """TLS certificate chain, PEM; empty: plain HTTP."""
    key: OptionalPath = None
    """Private key of the certificate, PEM."""
    link_base: str = ""
    """Address under which clients reach it, for addresses in responses; empty: the one of the request."""
    max_request_gib: Annotated[float, Field(gt=0)] = 16.0
    """Largest request of STOW-RS."""
    clients: dict[Name, DicomwebClient] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _is_complete(self) -> Dicomweb:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key belong together; give both or none")
        if self.enabled and not self.clients:
            raise ValueError("no client may use it; add [dicomweb.clients.NAME] with token_file")
        if self.enabled and self.certificate is None and not is_loopback(self.address):
            raise ValueError(
                f"address {self.address} needs certificate and key: tokens and images would be sent in clear text"
            )
        return self
