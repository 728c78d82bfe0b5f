"""``[ae]``: this node's application entity and its callers."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Literal, get_args

from pydantic import Field, field_validator, model_validator

from node.config.table import AeTitle, Port, Table

Service = Literal["store", "commitment", "mpps", "availability", "content", "workitems"]
"""Services besides Verification: Storage, Storage Commitment, Modality Performed Procedure Step, Instance Availability
Notification, Study Content Notification."""


class Caller(Table):
    """A peer that may open associations."""

    title: AeTitle
    """Calling AE title."""
    address: str = ""
    """IP address or network of the caller (``10.1.2.0/24``); empty: any."""
    host: str = ""
    """Host name or address for Storage Commitment reports (empty: only on the association of the request) and events of
    workitems (empty: the caller cannot subscribe)."""
    port: Port = 104
    """DICOM port on ``host``."""
    certificate: str = ""
    """Common name, DNS name or SHA-256 fingerprint of the caller's certificate; empty: any that ``ca`` signed."""
    max_associations: Annotated[int, Field(ge=0, le=1000)] = 0
    """Maximum open associations of this title; 0: three quarters of those that are reserved for nobody."""
    reserved_associations: Annotated[int, Field(ge=0, le=1000)] = 0
    """Associations of the node that only this title may use."""
    quota_gib: Annotated[float, Field(ge=0)] = 0.0
    """Maximum size of this title's images in the spool; more are refused with status A700. 0: no limit."""
    services: tuple[Service, ...] = get_args(Service)
    """Services that the caller may use besides C-ECHO; presentation contexts of others are rejected."""
    group: str = ""
    """Callers with the same group are one device: MPPS, commitment requests and notifications of one apply to all.
    Empty: one device per address."""

    aborts_after_transfer: bool = False
    """The caller ends every transfer with an A-ABORT or a closed connection; this is then not a lost transfer."""

    @field_validator("address")
    @classmethod
    def _address(cls, value: str) -> str:
        return value and _network(value)


def _network(value: str) -> str:
    ipaddress.ip_network(value, strict=False)
    return value


class AeTls(Table):
    """TLS on the DICOM port. A file name without a slash is a systemd credential if the service has credentials."""

    enabled: bool = False
    """Accept only TLS on the port."""
    certificate: str = ""
    """PEM file with our certificate, followed by intermediate ones."""
    key: str = ""
    """PEM file with the private key of the certificate, without passphrase."""
    ca: str = ""
    """PEM file with the authorities that sign the certificates of callers."""
    require_client_certificate: bool = True
    """Reject callers without a certificate."""
    crl: str = ""
    """PEM file with a revocation list for each of these authorities; empty: revocation is not checked."""

    @model_validator(mode="after")
    def _complete(self) -> AeTls:
        for name in ("certificate", "key", "ca") if self.enabled else ():
            if not getattr(self, name):
                raise ValueError(f"{name} is missing; give a PEM file")
        return self


class Ae(Table):
    """This node's application entity."""

    title: AeTitle = "AINODE"
    """AE title of this node."""
    address: str = "0.0.0.0"  # noqa: S104 - scanners call from outside
    """Address to listen on; ``127.0.0.1`` for this machine only."""
    port: Port = 11112
    """TCP port of the receiver."""
    require_called_title: bool = True
    """Reject associations whose called AE title is not ours."""
    callers: tuple[Caller, ...] = ()
    """Accepted callers; empty: all."""
    max_associations: Annotated[int, Field(ge=1, le=1000)] = 64
    """Maximum open associations, all processes together; more are rejected (local limit exceeded)."""
    associations_per_minute: Annotated[int, Field(ge=0, le=4000)] = 3000
    """Maximum association requests per minute and address; more are rejected (temporary congestion). 0: no limit."""
    connections_per_address: Annotated[int, Field(ge=0, le=1000)] = 32
    """Maximum open connections from one address (IPv6: /64 network), with an association or before it; more are closed.
    0: no limit."""
    proxies: tuple[str, ...] = ()
    """Addresses or networks of load balancers. Connections from them must begin with a header of the PROXY protocol,
    version 2; callers, limits and records take the address that it states."""
    processes: Annotated[int, Field(ge=0, le=64)] = 0
    """Receiver processes; 0: two per core, at most four."""
    association_timeout_seconds: Annotated[float, Field(gt=0)] = 10.0
    """Longest wait for an A-ASSOCIATE-RQ on a new connection (ARTIM timer)."""
    network_timeout_seconds: Annotated[float, Field(gt=0)] = 60.0
    """Longest silence on an open association."""
    transfer_timeout_seconds: Annotated[float, Field(gt=0)] = 3600.0
    """Longest time of one message, for example the transfer of one instance; then the association is aborted."""
    tls: AeTls = AeTls()

    @field_validator("proxies")
    @classmethod
    def _proxies(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(map(_network, values))

    @model_validator(mode="after")
    def _certificates_are_looked_at(self) -> Ae:
        for caller in self.callers:
            if caller.certificate and not self.tls.enabled:
                raise ValueError(f"callers: {caller.title} requires a certificate; set [ae.tls] enabled = true")
        return self

    @model_validator(mode="after")
    def _associations_are_left(self) -> Ae:
        reserved = sum(caller.reserved_associations for caller in self.callers)
        if reserved >= self.max_associations:
            raise ValueError(f"callers: {reserved} associations are reserved; max_associations must be greater")
        return self
