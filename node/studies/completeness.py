"""When is a series complete? A function of what is known and of the time; no clock, no ledger in here."""

from __future__ import annotations

from dataclasses import dataclass

from node.config import SeriesTable


@dataclass(frozen=True, kw_only=True)
class Arrival:
    """What the ledger and the headers know of a series still being received."""

    instances: int
    last_at: float
    """When its last image was stored, seconds since 1970 UTC."""
    open_associations: int
    """Associations that have sent an image of this series and are still open."""
    missing: str = ""
    """Which slice positions look missing, in words; empty when none do."""


@dataclass(frozen=True, kw_only=True)
class Completion:
    """Whether the series is complete, and the signal in words that ``explain`` repeats."""

    complete: bool
    signal: str


def judge(arrival: Arrival, settings: SeriesTable, now: float) -> Completion:
    """Quiet period, open associations and slice gaps (DESIGN: the walk of one instance, step 3)."""
    silence = now - arrival.last_at
    if silence < settings.quiet_seconds:
        return Completion(
            complete=False, signal=f"last image {silence:.0f} s ago, waiting for {settings.quiet_seconds:g} s"
        )
    if arrival.open_associations:
        return Completion(
            complete=False, signal=f"{arrival.open_associations} open associations have sent images of it"
        )
    if arrival.missing and silence < settings.gap_seconds:
        return Completion(
            complete=False, signal=f"{arrival.missing}; waiting {settings.gap_seconds:g} s for the missing images"
        )
    signal = f"{arrival.instances} images, none for {settings.quiet_seconds:g} s, no open association sending it"
    if arrival.missing:
        signal += f"; {arrival.missing} even after {settings.gap_seconds:g} s"
    return Completion(complete=True, signal=signal)
