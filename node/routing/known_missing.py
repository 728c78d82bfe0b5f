"""Known missing images of a series: refusals, UID collisions, and senders that aborted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from node.ledger import AssociationEnding, ConflictKind
from node.ledger.association_endings import BrokenOff, broken_off
from node.ledger.conflicts import conflicts_of_series
from node.ledger.refusals import Refused, refused_of, rejections_of
from node.reasons import ReasonCode, reason
from node.routing.completeness import Absent, Interruption

_PLACE = {"ImagePositionPatient", "InstanceNumber", "SliceLocation"}
"""What differs between two images of a series, and not between two versions of one."""


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
    positions = [position for refusal in refused for position in [refusal.position] * refusal.images]
    return Missing(
        absent=_absent(refused, collided, len(changed)),
        positions=(*positions, *(None for _ in collided)),
        interruptions=(
            *map(_interruption, broken_off(connection, study_uid, series_uid)),
            *(
                Interruption(
                    what=reason(ReasonCode.ASSOCIATION_REJECTED, calling_ae=caller, explanation=explanation),
                    at=at,
                    strong=True,
                    rejected=True,
                )
                for caller, explanation, at in rejections_of(connection, study_uid, series_uid)
            ),
        ),
    )


def _collisions(connection: Connection, study_uid: str, series_uid: str) -> tuple[list[float], list[float]]:
    """When other images came under the UID of one that is here, and when one was received again with different content.

    Not yet compared: another image. Another identity or encoding of the same image is neither.
    """
    others, versions = [], []
    for conflict in conflicts_of_series(connection, study_uid, series_uid):
        other_place = conflict.kind == ConflictKind.CONTENT and bool(_PLACE & conflict.changed)
        if conflict.elsewhere or conflict.kind is None or other_place:
            others.append(conflict.received_at)
        elif conflict.kind == ConflictKind.CONTENT:
            versions.append(conflict.received_at)
    return others, versions


def _absent(refused: Sequence[Refused], collided: Sequence[float], changed: int) -> Absent:
    alike: dict[tuple[str, int | None], tuple[int, str]] = {}
    for row in refused:  # of those with the same status the last reason is shown: it says how much space was free
        how = row.calling_ae, row.status
        alike[how] = alike.get(how, (0, ""))[0] + row.images, row.reason
    by = []
    for (caller, status), (count, explanation) in alike.items():
        sent = {"images": count, "calling_ae": caller, "explanation": explanation}
        refusal = {} if status is None else {"status": status}
        by.append(reason(ReasonCode.REFUSED if refusal else ReasonCode.CUT_OFF, **sent, **refusal))
    if collided:
        by.append(reason(ReasonCode.COLLIDED, images=len(collided)))
    return Absent(
        refused=sum(row.images for row in refused if row.status is not None),
        cut_off=sum(row.images for row in refused if row.status is None),
        collided=len(collided),
        changed=changed,
        by=tuple(by),
        at=max((*(row.at for row in refused), *collided), default=0.0),
    )


def _interruption(broken: BrokenOff) -> Interruption:
    ending = broken.ending
    return Interruption(
        what=reason(
            ReasonCode.ASSOCIATION_ENDED,
            calling_ae=broken.calling_ae,
            how=ending.how,
            amid=ending.amid,
            with_receiver=ending.how in (AssociationEnding.STOPPED, AssociationEnding.KILLED),
        ),
        at=broken.at,
        strong=bool(ending.amid),
    )
