"""Check that a destination is usable: C-ECHO, a request to the DICOMweb service, access to the folder, a connection."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pynetdicom.presentation import build_context
from pynetdicom.sop_class import Verification

from node.config import Destination
from node.deliver.association import Peer, Timeouts, associate
from node.deliver.fhir import fhir_service
from node.deliver.fhir import ping as fhir_ping
from node.deliver.folder import check_folder
from node.deliver.mllp import connected
from node.deliver.stow import ping, service
from node.errors import DeliveryError, RejectedError


@dataclass(frozen=True, kw_only=True)
class Echo:
    """The result for one destination."""

    ok: bool
    seconds: float
    """From opening the connection to its release."""
    reason: str
    """Failure and remedy; empty when ``ok``."""
    rejected: bool = False
    """A DICOM node answers there and rejects the association."""


def echo(name: str, destination: Destination, calling_title: str, timeouts: Timeouts | None = None) -> Echo:
    """Check ``[destinations.name]`` once, calling as ``calling_title``. Returns failures instead of raising."""
    return _timed(lambda: _ask(name, destination, calling_title, timeouts or Timeouts()))


def echo_peer(peer: Peer, calling_title: str, timeouts: Timeouts | None = None) -> Echo:
    """Send C-ECHO to a system that is no destination. Returns failures instead of raising."""
    return _timed(lambda: _verify(peer, calling_title, timeouts or Timeouts()))


def _timed(ask: Callable[[], str]) -> Echo:
    start, rejected = time.monotonic(), False
    try:
        reason = ask()
    except DeliveryError as error:
        reason, rejected = str(error), isinstance(error, RejectedError)
    return Echo(ok=not reason, seconds=time.monotonic() - start, reason=reason, rejected=rejected)


def _ask(name: str, destination: Destination, calling_title: str, timeouts: Timeouts) -> str:
    """Return the failure, or ""."""
    if destination.folder:
        check_folder(name, Path(destination.folder))
        return ""
    if destination.hl7:
        with connected(name, destination, timeouts):
            return ""
    if destination.fhir:
        with fhir_service(name, destination, timeouts) as client:
            fault = fhir_ping(client, destination.fhir_version)
            return f"{name} ({destination.fhir}): {fault}" if fault else ""
    if destination.url:
        with service(name, destination, timeouts) as client:
            fault = ping(client)
            return f"{name} ({destination.url}): {fault}" if fault else ""
    return _verify(Peer.of(name, destination), calling_title, timeouts)


def _verify(peer: Peer, calling_title: str, timeouts: Timeouts) -> str:
    """Return why C-ECHO fails, or ""."""
    with associate(peer, calling_title, [build_context(Verification)], timeouts) as association:
        response = association.send_c_echo()
    if "Status" not in response:
        return f"{peer}: accepted the association but did not answer C-ECHO; check its log"
    return f"{peer}: answered C-ECHO with status 0x{response.Status:04X}; check its log" if response.Status else ""
