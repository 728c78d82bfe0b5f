"""Known missing images of a series: refusals, UID collisions, and senders that aborted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from node.ledger import AssociationEnding, ConflictKind, EndingPoint
from node.ledger.association_endings import BrokenOff, broken_off
from node.ledger.conflicts import conflicts_of_series
from node.ledger.refusals import Refused, refused_of, rejections_of
from node.routing.completeness import Absent, Interruption

_PLACE = {"ImagePositionPatient", "InstanceNumber", "SliceLocation"}
"""What differs between two images of a series, and not between two versions of one."""
_AMID = {
    EndingPoint.MESSAGE: "in the middle of a message",
    EndingPoint.REFUSAL: "right after a refusal",
    None: "between two messages",
}


@dataclass(frozen=True, kw_only=True)
class Missing:
    """Missing images of one series at one moment."""

    absent: Absent
    positions: tuple[tuple[float, float, float] | None, ...]
    """Of each absent image, LPS mm; ``None`` where it is not known."""
    interruptions: tuple[Interruption, ...]


def missing_of(connection: Connection, study_uid: str, series_uid: str) -> Missing:
    """Facts that have not been settled since."""
    refused = refused_of(connection, study_uid, series_uid)
    collided, changed = _collisions(connection, study_uid, series_uid)
    positions = [position for one in refused for position in [one.position] * one.images]
    return Missing(
        absent=_absent(refused, collided, len(changed)),
        positions=(*positions, *(None for _ in collided)),
        interruptions=(
            *map(_interruption, broken_off(connection, study_uid, series_uid)),
            *(
                Interruption(what=f"{caller} was rejected ({reason})", at=at, strong=True, rejected=True)
                for caller, reason, at in rejections_of(connection, study_uid, series_uid)
            ),
        ),
    )


def _collisions(connection: Connection, study_uid: str, series_uid: str) -> tuple[list[float], list[float]]:
    """When other images came under the UID of one that is here, and when one was received again with different content.

    Not yet compared: another image. Another identity or encoding of the same image is neither.
    """
    others, versions = [], []
    for one in conflicts_of_series(connection, study_uid, series_uid):
        other_place = one.kind == ConflictKind.CONTENT and bool(_PLACE & one.changed)
        if one.elsewhere or one.kind is None or other_place:
            others.append(one.received_at)
        elif one.kind == ConflictKind.CONTENT:
            versions.append(one.received_at)
    return others, versions


def _absent(refused: Sequence[Refused], collided: Sequence[float], changed: int) -> Absent:
    alike: dict[str, tuple[int, str]] = {}
    for one in refused:  # of those with the same status the last reason is shown: it says how much space was free
        how = f"of {one.calling_ae} " + ("cut off" if one.status is None else f"refused with status {one.status:04X}")
        alike[how] = alike.get(how, (0, ""))[0] + one.images, one.reason
    by = [f"{count} image(s) {how}: {reason}" for how, (count, reason) in alike.items()]
    if collided:
        by.append(f"{len(collided)} image(s) came under the SOP Instance UID of another image")
    return Absent(
        refused=sum(one.images for one in refused if one.status is not None),
        cut_off=sum(one.images for one in refused if one.status is None),
        collided=len(collided),
        changed=changed,
        by="; ".join(by),
        at=max((*(one.at for one in refused), *collided), default=0.0),
    )


def _interruption(broken: BrokenOff) -> Interruption:
    ending = broken.ending
    what = f"association of {broken.calling_ae} {ending.how} {_AMID[ending.amid]}"
    if ending.how in (AssociationEnding.STOPPED, AssociationEnding.KILLED):
        what += " with the receiver"
    return Interruption(
        what=what,
        at=broken.at,
        strong=bool(ending.amid),
    )
