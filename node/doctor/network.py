"""Checks of the network: host names, callers, and what each destination accepts."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from datetime import datetime
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

from pydicom.uid import UID, CTImageStorage, MRImageStorage
from pynetdicom.presentation import PresentationContext, build_context
from pynetdicom.sop_class import (
    LabelMapSegmentationStorage,
    StorageCommitmentPushModel,
    StudyRootQueryRetrieveInformationModelFind,
    Verification,
)

from node.check_result import Check
from node.config import Config, Destination, DestinationTls
from node.deliver import echo
from node.deliver.association import Peer, Timeouts, associate
from node.deliver.stow import service
from node.deliver.transcode import UNCOMPRESSED
from node.errors import DeliveryError, NodeError
from node.ledger.association_endings import always_breaking_off
from node.ledger.associations import last_calls
from node.results.gate.check import SOP_CLASSES
from node.service import open_storage

_CLOCK_SECONDS = 5.0
_HABIT, _HABIT_SHARE = 5, 0.9
"""Number and share of associations without a release from which this is a caller's habit."""
_REFUSED = {1: "user rejection", 2: "no reason", 3: "SOP Class not supported", 4: "transfer syntax not supported"}
"""Result of a presentation context, PS3.8 table 9-18."""


def _host_of(to: Destination) -> str | None:
    return to.hl7_address[0] if to.hl7 else urlsplit(to.url or to.fhir).hostname


def host_names(config: Config) -> Iterator[Check]:
    """Check that every host name in the configuration resolves."""
    named = {f"[destinations.{n}]": to.host or _host_of(to) for n, to in config.destinations.items()}
    named |= {f"[ae] callers, {caller.title}": caller.host for caller in config.ae.callers}
    named |= {"[audit] syslog": urlsplit(config.audit.syslog).hostname}
    named |= {"[storage] ledger_url": urlsplit(config.storage.ledger_url).hostname}
    for where, host in named.items():
        if not host:
            continue
        try:
            addresses = {str(answer[4][0]) for answer in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
        except OSError as error:
            remedy = f"correct the name in {where}, or the name server in /etc/resolv.conf"
            yield Check(name=f"host {host}", good=False, found=f"has no address ({error.strerror})", remedy=remedy)
        else:
            if addresses != {host}:
                yield Check(name=f"host {host}", good=True, found=f"resolves to {', '.join(sorted(addresses))}")


def reports(config: Config) -> Iterator[Check]:
    """Send C-ECHO to every caller with a host for Storage Commitment reports."""
    tls = DestinationTls.towards_callers(config.ae.tls)
    for caller in config.ae.callers:
        if caller.host:
            there = Destination(title=caller.title, host=caller.host, port=caller.port, tls=tls)
            answer = echo(f"caller {caller.title}", there, config.ae.title)
            found = f"{there.place} answers in {answer.seconds * 1000:.0f} ms" if answer.ok else answer.reason
            remedy = "" if answer.ok else "correct host and port in [ae] callers: commitment reports are sent there"
            yield Check(name=f"reports to {caller.title}", good=answer.ok, found=found, remedy=remedy)


def callers(config: Config) -> Iterator[Check]:
    """Report when each known peer last sent images; the node cannot make a peer call it, so the ledger is read."""
    destinations = {to.title.strip(): to for to in config.destinations.values() if to.host}
    titles = dict.fromkeys([*(caller.title.strip() for caller in config.ae.callers), *destinations])
    try:
        engine, _ = open_storage(config)
    except NodeError:
        return  # `ledger` says so already
    with engine.connect() as connection:
        last = last_calls(connection, titles)
    engine.dispose()
    for title in titles:
        if (call := last.get(title)) is not None:
            at = datetime.fromtimestamp(call.opened_at).astimezone().isoformat(" ", "seconds")
            yield Check(name=f"caller {title}", good=True, found=f"last sent images at {at}, from {call.peer_address}")
        elif title not in destinations or destinations[title].commitment:
            yield Check(
                name=f"caller {title}",
                good=True,
                found="has sent no images yet, so it is not known whether it can reach this node",
                remedy=f"send a C-ECHO from there to {config.ae.title.strip()}, port {config.ae.port} of this machine",
            )


def habits(config: Config) -> Iterator[Check]:
    """Report callers that never release an association, because each of their series waits in vain."""
    try:
        engine, _ = open_storage(config)
    except NodeError:
        return  # `ledger` says so already
    with engine.connect() as connection:
        habitual = always_breaking_off(connection, _HABIT, _HABIT_SHARE)
    engine.dispose()
    for title, broken, ended in habitual:
        yield Check(
            name=f"endings {title}",
            good=True,
            found=f"{broken} of {ended} associations ended without a release; each of their series waits "
            f"{config.series.gap_seconds:g} s, and its report says that images may be missing",
            remedy=f"if it ends every transfer this way, set aborts_after_transfer = true for {title} in [ae] callers",
        )


def presentation(config: Config, name: str) -> Iterator[Check]:
    """Check that ``[destinations.name]`` accepts each SOP Class that the node would use there."""
    to = config.destinations[name]
    if not to.host:
        return
    wanted = _used_classes(config, name, to)
    contexts = [build_context(Verification), *(build_context(uid, [s]) for uid in wanted for s in UNCOMPRESSED)]
    try:
        with associate(Peer.of(name, to), config.ae.title, contexts, Timeouts()) as peer:
            answered = [*peer.accepted_contexts, *peer.rejected_contexts]
    except DeliveryError:
        return  # C-ECHO has said why
    for uid, use in wanted.items():
        yield _accepted(name, uid, use, [c for c in answered if c.abstract_syntax == uid])


def _used_classes(config: Config, name: str, to: Destination) -> dict[UID, str]:
    """Return the SOP Classes that the node uses at a destination, and their use."""
    classes: dict[UID, str] = {}
    for kind in sorted(config.kinds(name)):
        if kind == "derived":
            classes |= dict.fromkeys((CTImageStorage, MRImageStorage), "derived")
        else:
            classes[UID(SOP_CLASSES.get(kind, LabelMapSegmentationStorage))] = kind
    if any(name in rule.send for rule in config.rules):
        classes |= dict.fromkeys((CTImageStorage, MRImageStorage), "images as received")
    if to.commitment:
        classes[UID(StorageCommitmentPushModel)] = "commitment"
    if to.find:
        classes[UID(StudyRootQueryRetrieveInformationModelFind)] = "find"
    return classes


def _accepted(name: str, uid: UID, use: str, answered: list[PresentationContext]) -> Check:
    accepted = [UID(c.transfer_syntax[0]).name for c in answered if c.result == 0]
    where = f"destination {name}, {uid.name} ({use})"
    if accepted:
        return Check(name=where, good=True, found=f"accepted in {' and '.join(accepted)}")
    reasons = dict.fromkeys(_REFUSED.get(c.result or 0, "no answer") for c in answered)
    remedy = f"ask its administrator to allow this SOP Class, or remove {use!r} from [destinations.{name}]"
    return Check(name=where, good=False, found=f"refused: {', '.join(reasons)}", remedy=remedy)


def their_clock(config: Config, name: str) -> Check:
    """Compare the clock of a DICOMweb service with ours; DICOM does not report the time."""
    to, line = config.destinations[name], f"clock of {name}"
    if not to.url:
        kind = "HL7" if to.hl7 else "FHIR" if to.fhir else "DICOM"
        found = "a folder has none" if to.folder else f"{kind} does not report it"
        return Check(name=line, good=True, found=found)
    try:
        with service(name, to, Timeouts()) as client:
            before = time.time()
            date = client.get("studies", params={"limit": 1}).headers.get("Date", "")
            middle = (before + time.time()) / 2
        offset = parsedate_to_datetime(date).timestamp() + 0.5 - middle  # Date is truncated to seconds
    except DeliveryError:
        return Check(name=line, good=True, found="not known: the service does not answer")
    except ValueError:
        return Check(name=line, good=True, found="not known: its responses have no Date header")
    far = abs(offset) > _CLOCK_SECONDS
    remedy = "synchronise both clocks with NTP; times in results and audit trail disagree" if far else ""
    return Check(name=line, good=not far, found=f"{offset:+.0f} s from this machine", remedy=remedy)
