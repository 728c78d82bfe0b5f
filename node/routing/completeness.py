"""Completeness of a series, as a pure function of the known facts and the time.

Signal       Used as                                                                    Trusted because
-----------  -------------------------------------------------------------------------  ------------------------------
MPPS         COMPLETED and every image it lists is here: complete at once. Some are     the scanner's own list, final
             not: waits for them. IN PROGRESS: waits
Commitment   a request that names every image of the series, two at least, all here     the sender thinks it is done
             and nobody else sending: complete at once. Some are not here: waits
Availability a notification (IAN) that names every image of the series, all here and    an archive's own list; it may
             nobody sending: complete at once. Some are not here: waits                 still get more
Content      a Study Content Notification: as Availability                              the list of who sends
Count        NumberOfSeriesRelatedInstances, alike in all images, reached: complete     means the series, as its name
             at once. Not reached: waits                                                says
Parts        a concatenation lacks parts of InConcatenationTotalNumber: waits           C.7.6.16.2.2.4: all or none
Slices       a gap in the positions: waits                                              scanners leave none
Refusals     an image was refused or cut off, or came under the SOP Instance UID of     the node's own knowledge; no
             another one, and has not come since: waits, whatever lists say             list can know better
Endings      the sender broke off or was rejected, and has not come back: waits         it may have had more

Every wait ends (``gap_seconds``, ``procedure_step_seconds``). Images that are then known to be missing make the
outcome *partial*; the report names those that may be missing. Otherwise the quiet period decides, once no association
that sent an image is open. Not used: ImagesInAcquisition, which some scanners count over all reconstructions and others
over one phase; NumberOfFrames, which one file keeps by itself; a commitment of one image, which some devices ask for
after each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

from pydicom import Dataset

from node.config import SeriesTable
from node.reasons import Reason, ReasonCode, reason


@dataclass(frozen=True, kw_only=True)
class Listing:
    """A list of instances of one series, from an MPPS, a Storage Commitment request or a notification."""

    by: Reason
    """Who made it."""
    named: int
    """Instances on the list."""
    absent: int
    """Those of them that are not here."""
    unnamed: int
    """Images of the series that are not on the list."""
    other_senders: int = 0
    """Open associations that have sent images of the series, without the one on which the list came."""

    @property
    def is_whole(self) -> bool:
        """Whether the list shows that the series is complete."""
        return self.named > 0 and not (self.absent or self.unnamed or self.other_senders)


@dataclass(frozen=True, kw_only=True)
class Absent:
    """Images that are known to exist but were not stored or cannot be used."""

    refused: int = 0
    """Answered with a failure status, and not stored since."""
    cut_off: int = 0
    """Their association ended in the middle of them."""
    collided: int = 0
    """Came under the SOP Instance UID of another image."""
    changed: int = 0
    """Came again with other content; the first version counts."""
    by: tuple[Reason, ...] = ()
    """Who sent them and why they were not taken."""
    at: float = 0.0
    """When the last of them was not taken, seconds since 1970 UTC."""
    unseen: str = ""
    """Where they lie relative to the images that are here, in words for a radiologist; empty when that is not known."""

    @property
    def images(self) -> int:
        """How many images are known to be missing."""
        return self.refused + self.cut_off + self.collided


@dataclass(frozen=True, kw_only=True)
class Interruption:
    """A sender that aborted or was rejected and has not resumed."""

    what: Reason
    at: float
    strong: bool
    """It surely had more to send."""
    rejected: bool = False


@dataclass(frozen=True, kw_only=True)
class Arrival:
    """Facts of a series that is being received, from the ledger and the headers."""

    instances: int
    last_at: float
    """When its last image was stored, seconds since 1970 UTC."""
    open_associations: int
    """Associations that have sent an image of this series and are still open."""
    listings: tuple[Listing, ...] = ()
    in_progress: Reason | None = None
    """Which procedure step that may make more images is IN PROGRESS."""
    stated: int | None = None
    """How many instances the series has, as its images say."""
    missing: str = ""
    """What looks missing, in words; empty when nothing does."""
    unreadable: int = 0
    """Images whose files cannot be read."""
    absent: Absent = Absent()
    interruptions: tuple[Interruption, ...] = ()

    @property
    def is_listed_whole(self) -> bool:
        """Whether an authoritative list shows that all images have arrived."""
        return self.stated == self.instances or any(listing.is_whole for listing in self.listings)


@dataclass(frozen=True, kw_only=True)
class Deferral:
    """A reason to wait, with its deadline."""

    about: Reason
    seconds: float
    """How long it is waited for."""
    until: float
    """Seconds since 1970 UTC; infinite: until the reason has gone."""


@dataclass(frozen=True, kw_only=True)
class Completion:
    """Whether the series is complete, by which signal, or what it waits for."""

    signal: Reason | None = None
    """``None``: it is not complete."""
    deferrals: tuple[Deferral, ...] = ()
    """What is waited for: the end of the quiet period, then everything in particular that is."""
    incomplete: Reason | None = None
    """Complete, but with images that are known to be missing."""
    caveat: Reason | None = None
    """Complete, but images may be missing."""

    @property
    def complete(self) -> bool:
        """Whether the series may be routed."""
        return self.signal is not None


def stated_count(headers: Sequence[Dataset]) -> int | None:
    """Number of Series Related Instances (0020,1209) when all images state the same, and not less than there are."""
    values = {header.get("NumberOfSeriesRelatedInstances") for header in headers}
    value = values.pop() if len(values) == 1 else None
    return int(value) if value and int(value) >= len(headers) else None


def missing_parts(headers: Sequence[Dataset]) -> str:
    """Which concatenation (PS3.3 C.7.6.16.2.2.4) lacks parts, in words; empty when none does."""
    parts: dict[str, set[int]] = {}
    totals: dict[str, int] = {}
    for header in headers:
        uid, number = header.get("ConcatenationUID"), header.get("InConcatenationNumber")
        if uid and number:
            parts.setdefault(str(uid), set()).add(int(number))
            stated = int(header.get("InConcatenationTotalNumber") or 0)
            # optional: one part alone may state it, such as the last
            totals[str(uid)] = max(stated, totals.get(str(uid), 0))
    absent = sum(max(totals[uid] - len(numbers), 0) for uid, numbers in parts.items())
    return f"{absent} parts of a concatenation are missing" if absent else ""


def judge(arrival: Arrival, settings: SeriesTable, now: float, quiet_seconds: float | None = None) -> Completion:
    """Return the completion: by the first strong signal, otherwise by the quiet period of rules or settings."""
    quiet = settings.quiet_seconds if quiet_seconds is None else quiet_seconds
    images = arrival.instances
    if not arrival.absent.images:
        for listing in arrival.listings:
            if listing.is_whole:
                return _complete(arrival, reason(ReasonCode.LISTED, images=images, by=listing.by))
        if arrival.stated == images:
            return _complete(arrival, reason(ReasonCode.STATED_COUNT, images=images))
    if now - arrival.last_at < quiet:
        about = reason(ReasonCode.LAST_IMAGE, at=arrival.last_at)
        return Completion(deferrals=(Deferral(about=about, seconds=quiet, until=arrival.last_at + quiet),))
    if arrival.open_associations:
        about = reason(ReasonCode.OPEN_ASSOCIATIONS, associations=arrival.open_associations)
        return Completion(deferrals=(Deferral(about=about, seconds=inf, until=inf),))
    deferrals = _deferrals(arrival, settings)
    if pending := tuple(deferral for deferral in deferrals if now < deferral.until):
        return Completion(deferrals=pending)
    expired = [{"about": deferral.about, "seconds": deferral.seconds} for deferral in deferrals]
    return _complete(arrival, reason(ReasonCode.QUIET_PERIOD, images=images, seconds=quiet, expired=expired))


def _deferrals(arrival: Arrival, settings: SeriesTable) -> list[Deferral]:
    deferrals = []
    if arrival.in_progress:
        seconds = settings.procedure_step_seconds
        deferrals.append(Deferral(about=arrival.in_progress, seconds=seconds, until=arrival.last_at + seconds))
    seconds = settings.gap_seconds
    until = arrival.last_at + seconds
    deferrals += [Deferral(about=about, seconds=seconds, until=until) for about in _lacking(arrival)]
    if arrival.absent.images:
        until = max(arrival.last_at, arrival.absent.at) + seconds
        deferrals += [Deferral(about=about, seconds=seconds, until=until) for about in arrival.absent.by]
    for interruption in _interruptions(arrival):
        until = max(arrival.last_at, interruption.at) + seconds
        deferrals.append(Deferral(about=interruption.what, seconds=seconds, until=until))
    return deferrals


def _lacking(arrival: Arrival) -> list[Reason]:
    lacking = [
        reason(ReasonCode.LISTED_ABSENT, images=listing.absent, by=listing.by)
        for listing in arrival.listings
        if listing.absent
    ]
    if arrival.stated is not None and arrival.stated > arrival.instances:
        lacking.append(reason(ReasonCode.COUNT_NOT_REACHED, images=arrival.instances, stated=arrival.stated))
    return [*lacking, reason(ReasonCode.GAP, explanation=arrival.missing)] if arrival.missing else lacking


def _interruptions(arrival: Arrival) -> tuple[Interruption, ...]:
    """Return the interruptions; none counts if an authoritative list is complete."""
    return () if arrival.is_listed_whole else arrival.interruptions


def _incomplete(arrival: Arrival) -> Reason | None:
    """Return what is known to be missing."""
    absent = arrival.absent
    strong = [interruption for interruption in _interruptions(arrival) if interruption.strong]
    counts = {
        "refused": absent.refused,
        "cut_off": absent.cut_off,
        "collided": absent.collided,
        "unreadable": arrival.unreadable,
    }
    lacking = _lacking(arrival)
    if not (any(counts.values()) or lacking or strong):
        return None
    return reason(
        ReasonCode.INCOMPLETE,
        images=arrival.instances,
        **counts,
        unseen=absent.unseen,
        lacking=lacking,
        broke_off=any(not interruption.rejected for interruption in strong),
        rejected=any(interruption.rejected for interruption in strong),
    )


def _caveat(arrival: Arrival) -> Reason | None:
    """Return what may be missing."""
    facts = {
        "broke_off": any(not interruption.strong for interruption in _interruptions(arrival)),
        "in_progress": arrival.in_progress is not None and not arrival.is_listed_whole,
        "changed": arrival.absent.changed,
    }
    return reason(ReasonCode.CAVEAT, **facts) if any(facts.values()) else None


def _complete(arrival: Arrival, signal: Reason) -> Completion:
    return Completion(signal=signal, incomplete=_incomplete(arrival), caveat=_caveat(arrival))
