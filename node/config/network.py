"""``[ae]``: our own application entity and who may call it."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Literal, get_args

from pydantic import Field, field_validator, model_validator

from node.config.table import AeTitle, Port, Table

Service = Literal["store", "commitment", "mpps"]
"""What a caller may use beside Verification: Storage, Storage Commitment, Modality Performed Procedure Step."""


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
    certificate: str = ""
    """Name (common name or DNS name) or SHA-256 fingerprint of the certificate it must show; empty: any of ``ca``."""
    max_associations: Annotated[int, Field(ge=0, le=1000)] = 0
    """Associations of this title at the same time; 0: as many as the node serves."""

    quota_gib: Annotated[float, Field(ge=0)] = 0.0
    """How much of the spool images of this title may occupy; more is refused with status A700. 0: no limit."""
    services: tuple[Service, ...] = get_args(Service)
    """What it may use beside C-ECHO; presentation contexts of other services are refused."""
    group: str = ""
    """Callers of one group are one device: its procedure steps and lists of instances count for its images. Empty:
    the device is whatever calls from the same address."""

    aborts_after_transfer: bool = False
    """It ends every transfer with an A-ABORT, or just closes the connection: between messages no sign of a loss."""

    @field_validator("address")
    @classmethod
    def _address(cls, value: str) -> str:
        if value:
            ipaddress.ip_network(value, strict=False)
        return value


class AeTls(Table):
    """TLS on our DICOM port. A file name without a slash is a systemd credential when the service has some."""

    enabled: bool = False
    """Speak TLS, and nothing else, on the port."""
    certificate: str = ""
    """PEM file with our certificate, and the intermediate ones behind it."""
    key: str = ""
    """PEM file with its private key, without passphrase."""
    ca: str = ""
    """PEM file with the authorities that sign the certificates of peers."""
    require_client_certificate: bool = True
    """Refuse peers that show no certificate."""
    crl: str = ""
    """PEM file with the revocation lists of these authorities; empty: nothing is revoked."""

    @model_validator(mode="after")
    def _complete(self) -> AeTls:
        for name in ("certificate", "key", "ca") if self.enabled else ():
            if not getattr(self, name):
                raise ValueError(f"{name} is missing; give a PEM file")
        return self


class Ae(Table):
    """Our own application entity."""

    title: AeTitle = "AINODE"
    """AE title under which scanners and PACS know this node."""
    address: str = "0.0.0.0"  # noqa: S104 - scanners call from outside
    """Address to listen on; ``127.0.0.1`` for this machine only."""
    port: Port = 11112
    """TCP port on which it receives."""
    require_called_title: bool = True
    """Refuse associations that call another title than ours."""
    callers: tuple[Caller, ...] = ()
    """Peers that may call; empty: everyone."""
    max_associations: Annotated[int, Field(ge=1, le=1000)] = 64
    """Associations served at the same time by all processes; one more is refused (local limit exceeded)."""
    associations_per_minute: Annotated[int, Field(ge=0, le=4000)] = 3000
    """Associations that one address may ask for in a minute; more are refused (temporary congestion). 0: any number."""
    processes: Annotated[int, Field(ge=0, le=64)] = 0
    """Receiver processes; 0: two per core, four at most."""
    association_timeout_seconds: Annotated[float, Field(gt=0)] = 10.0
    """Longest wait for an A-ASSOCIATE-RQ on a new connection (ARTIM timer)."""
    network_timeout_seconds: Annotated[float, Field(gt=0)] = 60.0
    """Longest silence on an open association."""
    tls: AeTls = AeTls()

    @model_validator(mode="after")
    def _certificates_are_looked_at(self) -> Ae:
        for caller in self.callers:
            if caller.certificate and not self.tls.enabled:
                raise ValueError(f"callers: {caller.title} is to show a certificate; set [ae.tls] enabled = true")
        return self
