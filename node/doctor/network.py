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

from node.check import Check
from node.check.network import answers_in
from node.config import Config, Destination, DestinationTls
from node.deliver import echo
from node.deliver.association import Peer, Timeouts, associate
from node.deliver.stow import service
from node.deliver.transcode import UNCOMPRESSED
from node.errors import DeliveryError, NodeError
from node.ledger.association_endings import always_breaking_off
from node.ledger.associations import last_calls
from node.ledger.clock import FAR_SECONDS
from node.results.gate.check import SOP_CLASSES
from node.service import open_storage
from node.translation import gettext, marked

_HABIT, _HABIT_SHARE = 5, 0.9
"""Number and share of associations without a release from which this is a caller's habit."""
_REFUSED = {
    1: marked("user rejection"),
    2: marked("no reason"),
    3: marked("SOP Class not supported"),
    4: marked("transfer syntax not supported"),
}
"""Result of a presentation context, PS3.8 table 9-18."""
_SILENT = marked("no answer")


def _host_of(to: Destination) -> str | None:
    return to.hl7_address[0] if to.hl7 else urlsplit(to.url or to.fhir).hostname


def host_names(config: Config) -> Iterator[Check]:
    """Check that every host name in the configuration resolves."""
    named = {f"[destinations.{n}]": to.host or _host_of(to) for n, to in config.destinations.items()}
    named |= {f"[ae] callers, {caller.title}": caller.host for caller in config.ae.callers}
    named |= {"[orders.worklist]": config.orders.worklist.host}
    named |= {"[orders.ups]": urlsplit(config.orders.ups.url).hostname}
    named |= {"[audit] syslog": urlsplit(config.audit.syslog).hostname}
    named |= {"[storage] ledger_url": urlsplit(config.storage.ledger_url).hostname}
    for where, host in named.items():
        if not host:
            continue
        try:
            addresses = {str(answer[4][0]) for answer in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
        except OSError as error:
            text = gettext("has no address ({reason})", reason=error.strerror)
            remedy = gettext("correct the name in {place}, or the name server in /etc/resolv.conf", place=where)
            yield Check(name=gettext("host {name}", name=host), good=False, found=text, remedy=remedy)
        else:
            if addresses != {host}:
                text = gettext("resolves to {addresses}", addresses=", ".join(sorted(addresses)))
                yield Check(name=gettext("host {name}", name=host), good=True, found=text)


def reports(config: Config) -> Iterator[Check]:
    """Send C-ECHO to every caller with a host for Storage Commitment reports."""
    tls = DestinationTls.towards_callers(config.ae.tls)
    for caller in config.ae.callers:
        if caller.host:
            there = Destination(title=caller.title, host=caller.host, port=caller.port, tls=tls)
            answer = echo(f"caller {caller.title}", there, config.ae.title)
            text = answers_in(there.place, answer.seconds) if answer.ok else answer.reason
            remedy = gettext("correct host and port in [ae] callers: commitment reports are sent there")
            remedy = "" if answer.ok else remedy
            yield Check(
                name=gettext("reports to {title}", title=caller.title), good=answer.ok, found=text, remedy=remedy
            )


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
            text = gettext("last sent images at {time}, from {address}", time=at, address=call.peer_address)
            yield Check(name=gettext("caller {title}", title=title), good=True, found=text)
        elif title not in destinations or destinations[title].commitment:
            yield Check(
                name=gettext("caller {title}", title=title),
                good=True,
                found=gettext("has sent no images yet, so it is not known whether it can reach this node"),
                remedy=gettext(
                    "send a C-ECHO from there to {title}, port {port} of this machine",
                    title=config.ae.title.strip(),
                    port=config.ae.port,
                ),
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
            name=gettext("endings {title}", title=title),
            good=True,
            found=gettext(
                "{broken} of {ended} associations ended without a release; each of their series waits {seconds} s, "
                "and its report says that images may be missing",
                broken=broken,
                ended=ended,
                seconds=f"{config.series.gap_seconds:g}",
            ),
            remedy=gettext(
                "if it ends every transfer this way, set aborts_after_transfer = true for {title} in [ae] callers",
                title=title,
            ),
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
    where = gettext("destination {name}, {sop_class} ({use})", name=name, sop_class=uid.name, use=use)
    if accepted:
        listed = gettext(" and ").join(accepted)
        return Check(name=where, good=True, found=gettext("accepted in {syntaxes}", syntaxes=listed))
    reasons = dict.fromkeys(gettext(_REFUSED.get(c.result or 0, _SILENT)) for c in answered)
    remedy = gettext(
        "ask its administrator to allow this SOP Class, or remove {use} from [destinations.{name}]",
        use=repr(use),
        name=name,
    )
    return Check(name=where, good=False, found=gettext("refused: {reasons}", reasons=", ".join(reasons)), remedy=remedy)


def their_clock(config: Config, name: str) -> Check:
    """Compare the clock of a DICOMweb service with ours; DICOM does not report the time."""
    to, line = config.destinations[name], gettext("clock of {name}", name=name)
    if not to.url:
        kind = "HL7" if to.hl7 else "FHIR" if to.fhir else "DICOM"
        text = gettext("a folder has none") if to.folder else gettext("{protocol} does not report it", protocol=kind)
        return Check(name=line, good=True, found=text)
    try:
        with service(name, to, Timeouts()) as client:
            before = time.time()
            date = client.get("studies", params={"limit": 1}).headers.get("Date", "")
            middle = (before + time.time()) / 2
        offset = parsedate_to_datetime(date).timestamp() + 0.5 - middle  # Date is truncated to seconds
    except DeliveryError:
        return Check(name=line, good=True, found=gettext("not known: the service does not answer"))
    except ValueError:
        return Check(name=line, good=True, found=gettext("not known: its responses have no Date header"))
    far = abs(offset) > FAR_SECONDS
    remedy = gettext("synchronise both clocks with NTP; times in results and audit trail disagree") if far else ""
    text = gettext("{seconds} s from this machine", seconds=f"{offset:+.0f}")
    return Check(name=line, good=not far, found=text, remedy=remedy)
