"""Accepted callers, services and presentation contexts: pure decisions about an A-ASSOCIATE-RQ."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import get_args

from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    JPEG2000MC,
    UID,
    AllTransferSyntaxes,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLSNearLossless,
)
from pynetdicom import AllStoragePresentationContexts
from pynetdicom.presentation import PresentationContext
from pynetdicom.sop_class import (
    InstanceAvailabilityNotification,
    ModalityPerformedProcedureStep,
    StorageCommitmentPushModel,
    UnifiedProcedureStepPull,
    UnifiedProcedureStepPush,
    UnifiedProcedureStepQuery,
    UnifiedProcedureStepWatch,
    Verification,
)

from node.addresses import network_of, plain_address
from node.config import Ae, Caller
from node.config.network import Service
from node.receive.association_slots import Kind, Limit
from node.tls import PeerCertificate

STANDARD_STORAGE = frozenset(context.abstract_syntax for context in AllStoragePresentationContexts)
_COMPOSITE_ROOT = "1.2.840.10008.5.1.4.1.1."
_NOT_COMPOSITE = (_COMPOSITE_ROOT + "200.", _COMPOSITE_ROOT + "201.")
"""Procedure protocols and inventories: not part of a patient's study, and partly query classes."""

# With JPIP the pixels are elsewhere, SMPTE is a stream.
_NOT_A_FILE = ("JPIP", "SMPTE")
TRANSFER_SYNTAXES = {uid: uid.keyword for uid in AllTransferSyntaxes if not uid.keyword.startswith(_NOT_A_FILE)}
"""Transfer syntaxes of PS3.6 table A-1 that pydicom knows and that can be stored as a file, with keyword."""

_STRANGERS = 8
"""Connections from addresses that no entry of ``callers`` has."""
_LOSSY = frozenset((JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless, JPEG2000, JPEG2000MC, HTJ2K))
STUDY_CONTENT_NOTIFICATION = UID("1.2.840.10008.1.9")
"""Basic Study Content Notification, retired in 2006; pynetdicom has no name for it."""
_SERVICES = {
    StorageCommitmentPushModel: "commitment",
    ModalityPerformedProcedureStep: "mpps",
    InstanceAvailabilityNotification: "availability",
    STUDY_CONTENT_NOTIFICATION: "content",
    UnifiedProcedureStepPush: "workitems",
    UnifiedProcedureStepQuery: "workitems",
    UnifiedProcedureStepWatch: "workitems",
    UnifiedProcedureStepPull: "workitems",
    Verification: "",
}
SERVICES = frozenset(_SERVICES)
"""Services other than Storage."""
PLAIN = [ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian]


@dataclass(frozen=True)
class Rejection:
    """An A-ASSOCIATE-RJ (PS3.8 table 9-21) and its reason in description."""

    result: int
    source: int
    reason: int
    description: str


@dataclass(frozen=True, kw_only=True)
class Admission:
    """Device and permitted services of one association."""

    equipment: str = ""
    """The calling device: "group NAME" of its entry in ``callers``, or its address."""
    services: frozenset[str] = frozenset(get_args(Service))
    """As in ``Caller.services``."""


@dataclass(frozen=True)
class Policy:
    """The access rules of ``[ae]``."""

    title: str
    require_called_title: bool
    max_associations: int
    associations_per_minute: int
    connections_per_address: int
    proxies: tuple[str, ...]
    callers: tuple[Caller, ...]
    absent: frozenset[Service] = frozenset()
    """Services that this node does not offer to anybody."""

    @classmethod
    def of(cls, ae: Ae, absent: frozenset[Service] = frozenset()) -> Policy:
        """Take the rules from a configuration."""
        return cls(
            title=ae.title.strip(),
            require_called_title=ae.require_called_title,
            max_associations=ae.max_associations,
            associations_per_minute=ae.associations_per_minute,
            connections_per_address=ae.connections_per_address,
            proxies=ae.proxies,
            callers=ae.callers,
            absent=absent,
        )

    def rejection(
        self, *, calling: str, called: str, address: str, certificate: PeerCertificate | None = None
    ) -> Rejection | None:
        """Return why an association is rejected, or ``None``. Titles are case-sensitive, padding is ignored."""
        if self.require_called_title and called.strip() != self.title:
            return Rejection(1, 1, 7, f"called AE title {called.strip()!r} not recognised")
        if self.callers and self.caller(calling, address, certificate) is None:
            shown = (
                f" with the certificate of {', '.join(sorted(certificate.names))}" if certificate is not None else ""
            )
            return Rejection(1, 1, 3, f"calling AE title {calling.strip()!r} at {address}{shown} not recognised")
        return None

    def caller(self, calling: str, address: str, certificate: PeerCertificate | None) -> Caller | None:
        """Return the first entry of ``callers`` that matches."""
        if not self.callers:
            return None
        host = plain_address(address)
        for caller in self.callers:
            network = ipaddress.ip_network(caller.address, strict=False) if caller.address else None
            if caller.certificate and not (certificate is not None and certificate.matches(caller.certificate)):
                continue
            if caller.title.strip() == calling.strip() and (network is None or host in network):
                return caller
        return None

    def admission(self, calling: str, address: str, certificate: PeerCertificate | None = None) -> Admission:
        """Return device and permitted services of an admitted association."""
        caller = self.caller(calling, address, certificate)
        device = f"group {caller.group}" if caller is not None and caller.group else str(plain_address(address))
        permitted = get_args(Service) if caller is None else caller.services
        return Admission(equipment=device, services=frozenset(permitted) - self.absent)

    def limits(self, calling: str, address: str, certificate: PeerCertificate | None = None) -> list[list[Limit]]:
        """Return the limits on open associations of a caller: alternatives, the first of which has room counts.

        No title may hold every association, unless its ``max_associations`` says so, which counts in the whole fleet.
        """
        caller = self.caller(calling, address, certificate)
        title = calling.strip()
        common = self.max_associations - sum(entry.reserved_associations for entry in self.callers)
        share = max(common - common // 4, 1)
        reserved = 0 if caller is None else caller.reserved_associations
        stated = 0 if caller is None else caller.max_associations
        own = Limit(Kind.OF_TITLE, title, stated or share + reserved, in_fleet=bool(stated))
        shared = [own, Limit(Kind.ASSOCIATIONS, "", common)]
        return [[own, Limit(Kind.RESERVED, title, reserved)], shared] if reserved else [shared]

    def connection_limits(self, address: str) -> list[Limit]:
        """Return the limit on connections of an address, before its title is known.

        Addresses of no caller share a few connections: enough to be rejected with a reason.
        """
        if not self.is_address_of_caller(address):
            return [Limit(Kind.CONNECTIONS, "", _STRANGERS)]
        most = self.connections_per_address
        return [Limit(Kind.CONNECTIONS, network_of(address), most)] if most else []

    def is_proxy(self, address: str) -> bool:
        """Return whether ``address`` is a load balancer's, which states the addresses of its peers."""
        host = plain_address(address)
        return any(host in ipaddress.ip_network(proxy, strict=False) for proxy in self.proxies)

    def is_address_of_caller(self, address: str) -> bool:
        """Return whether a caller may have this address; without ``callers``, every address may be one."""
        host = plain_address(address)
        networks = [ipaddress.ip_network(entry.address, strict=False) for entry in self.callers if entry.address]
        is_open = not self.callers or len(networks) < len(self.callers)
        return is_open or any(host in network for network in networks)


def is_storage(abstract_syntax: str) -> bool:
    """Return whether the class is, or may be, a composite storage class.

    Includes retired and private classes and those newer than our tables. Excludes worklist, query/retrieve,
    non-patient objects (hanging protocols, implant templates, ...) and media directories.
    """
    if abstract_syntax in STANDARD_STORAGE:
        return True
    if abstract_syntax.startswith(_COMPOSITE_ROOT):
        return not abstract_syntax.startswith(_NOT_COMPOSITE)
    return not abstract_syntax.startswith("1.2.840.10008.")


def service_of(abstract_syntax: str) -> str:
    """Return the entry of ``Caller.services`` that a class needs; "" for Verification and unsupported classes."""
    if abstract_syntax in _SERVICES:
        return _SERVICES[abstract_syntax]
    return "store" if is_storage(abstract_syntax) else ""


def supported_contexts(
    proposed: Iterable[tuple[str, Sequence[str]]], services: Collection[str] = get_args(Service)
) -> list[PresentationContext]:
    """Select the supported contexts from the proposed ``(abstract syntax, transfer syntaxes)``.

    ``services``: those that the caller may use.

    A storage class is supported with every known transfer syntax that is proposed for it, lossless ones first and
    otherwise in the sender's order, so that no sender recompresses images for us.
    """
    storage: dict[str, list[str]] = {}
    others: list[PresentationContext] = []
    for abstract_syntax, transfer_syntaxes in proposed:
        if (needed := service_of(abstract_syntax)) and needed not in services:
            continue
        if is_storage(abstract_syntax):
            known = storage.setdefault(abstract_syntax, [])
            known += [uid for uid in transfer_syntaxes if uid in TRANSFER_SYNTAXES and uid not in known]
        elif abstract_syntax in SERVICES:
            others.append(_context(abstract_syntax, PLAIN))
    return others + [_context(uid, sorted(known, key=_is_lossy)) for uid, known in storage.items() if known]


def _is_lossy(transfer_syntax: str) -> bool:
    return transfer_syntax in _LOSSY or TRANSFER_SYNTAXES[UID(transfer_syntax)].startswith(("MPEG", "HEVC"))


def _context(abstract_syntax: str, transfer_syntaxes: Sequence[str]) -> PresentationContext:
    context = PresentationContext()
    context.abstract_syntax = abstract_syntax
    context.transfer_syntax = list(transfer_syntaxes)
    if abstract_syntax == StorageCommitmentPushModel:
        # A PACS that reports on a new association proposes the SCP role for itself (PS3.4 J.3.3), or no role.
        context.scu_role = context.scp_role = True
    return context
