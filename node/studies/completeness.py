"""When is a series complete? A function of what is known and of the time; no clock, no ledger in here.

Said by      Used as                                                                    Trusted because
-----------  -------------------------------------------------------------------------  ------------------------------
MPPS         COMPLETED and every image it lists is here: complete at once. Some are     the scanner's own list, final
             not: waits for them. IN PROGRESS: waits
Commitment   a request that names every image of the series, two at least, all here     the sender thinks it is done
             and nobody else sending: complete at once. Some are not here: waits
Count        NumberOfSeriesRelatedInstances, alike in all images, reached: complete     means the series, as its name
             at once. Not reached: waits                                                says
Parts        a concatenation lacks parts of InConcatenationTotalNumber: waits           C.7.6.16.2.2.4: all or none
Slices       a gap in the positions: waits                                              scanners leave none

Every wait ends (``gap_seconds``, ``procedure_step_seconds``) and is then told. Else the quiet period decides, once no
association that sent an image is open. Not used: ImagesInAcquisition, which some scanners count over all
reconstructions and others over one phase; NumberOfFrames, which one file keeps by itself; a commitment of one image,
which some devices ask for after each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydicom import Dataset

from node.config import SeriesTable


@dataclass(frozen=True, kw_only=True)
class Listing:
    """Somebody's list of instances, seen from one series."""

    by: str
    """Who made it, in words."""
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
        """Whether it says that the series is complete."""
        return self.named > 0 and not (self.absent or self.unnamed or self.other_senders)


@dataclass(frozen=True, kw_only=True)
class Arrival:
    """What the ledger and the headers know of a series still being received."""

    instances: int
    last_at: float
    """When its last image was stored, seconds since 1970 UTC."""
    open_associations: int
    """Associations that have sent an image of this series and are still open."""
    listings: tuple[Listing, ...] = ()
    in_progress: str = ""
    """Which procedure step that may make more images is IN PROGRESS, in words; empty when none is."""
    stated: int | None = None
    """How many instances the series has, as its images say."""
    missing: str = ""
    """What looks missing, in words; empty when nothing does."""


@dataclass(frozen=True, kw_only=True)
class Completion:
    """Whether the series is complete, and the signal in words that ``explain`` repeats."""

    complete: bool
    signal: str
    doubt: bool = False
    """It is not complete although the quiet period is over: something in particular is waited for."""


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
            totals[str(uid)] = int(header.get("InConcatenationTotalNumber") or 0)
    absent = sum(max(totals[uid] - len(numbers), 0) for uid, numbers in parts.items())
    return f"{absent} parts of a concatenation are missing" if absent else ""


def judge(arrival: Arrival, settings: SeriesTable, now: float, quiet_seconds: float | None = None) -> Completion:
    """The first strong signal, else the quiet period (``quiet_seconds`` of the matching rules, or the settings')."""
    quiet = settings.quiet_seconds if quiet_seconds is None else quiet_seconds
    silence = now - arrival.last_at
    for listing in arrival.listings:
        if listing.is_whole:
            return _yes(f"{arrival.instances} images, all that {listing.by} names")
    if arrival.stated == arrival.instances:
        return _yes(f"{arrival.instances} images, as NumberOfSeriesRelatedInstances says")
    if silence < quiet:
        return Completion(complete=False, signal=f"last image {silence:.0f} s ago, waiting for {quiet:g} s")
    if arrival.open_associations:
        return _doubt(f"{arrival.open_associations} open associations have sent images of it")
    if arrival.in_progress and silence < settings.procedure_step_seconds:
        return _doubt(f"{arrival.in_progress}; waiting {settings.procedure_step_seconds:g} s for its end")
    missing = "; ".join(_lacking(arrival))
    if missing and silence < settings.gap_seconds:
        return _doubt(f"{missing}; waiting {settings.gap_seconds:g} s for the missing images")
    signal = f"{arrival.instances} images, none for {quiet:g} s, no open association sending it"
    if arrival.in_progress:
        signal += f"; {arrival.in_progress} even after {settings.procedure_step_seconds:g} s"
    if missing:
        signal += f"; {missing} even after {settings.gap_seconds:g} s"
    return _yes(signal)


def _lacking(arrival: Arrival) -> list[str]:
    lacking = [f"{one.absent} images that {one.by} names are not here" for one in arrival.listings if one.absent]
    if arrival.stated is not None and arrival.stated > arrival.instances:
        lacking.append(f"{arrival.instances} of {arrival.stated} images are here")
    return [*lacking, arrival.missing] if arrival.missing else lacking


def _yes(signal: str) -> Completion:
    return Completion(complete=True, signal=signal)


def _doubt(signal: str) -> Completion:
    return Completion(complete=False, signal=signal, doubt=True)
