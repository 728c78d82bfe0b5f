"""Refused images, grouped by cause, as values and as text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from node.ledger.refusals import Refused, refused_in
from node.translation import gettext


@dataclass(frozen=True, kw_only=True)
class Refusals:
    """Images of one series that one association was refused with one status."""

    study_instance_uid: str
    """"" when it is not known whose they are."""
    series_instance_uid: str
    association_id: str
    calling_ae: str
    peer_address: str
    status: int | None
    """``None``: cut off, the association ended in the middle of them."""
    reason: str
    """Of the last of them: how much space was free changes from one to the next."""
    images: int
    came: int
    """Those of them that were stored later."""
    at: float
    """Of the last of them, seconds since 1970 UTC."""

    @property
    def missing(self) -> int:
        """Those that were not."""
        return self.images - self.came


def refusals(connection: sa.Connection, study_uid: str | None = None) -> list[Refusals]:
    """Return the refusals of one study or of all, ordered by their latest refusal."""
    groups: dict[tuple[object, ...], list[tuple[Refused, bool]]] = {}
    for refused, came in refused_in(connection, study_uid):
        key = (refused.study_instance_uid, refused.series_instance_uid, refused.association_id, refused.status)
        groups.setdefault(key, []).append((refused, came))
    return [_group(members) for members in groups.values()]


def describe_refusals(refused: Refusals) -> str:
    """In plain words, without the series."""
    came = gettext("; {images} came later", images=refused.came) if refused.came else ""
    values = {
        "images": refused.images,
        "reason": refused.reason,
        "calling_ae": refused.calling_ae,
        "address": refused.peer_address,
    }
    if refused.status is None:
        return gettext("{images} cut off ({reason}), sent by {calling_ae} at {address}{came}", came=came, **values)
    return gettext(
        "{images} refused with status {status:04X} ({reason}), sent by {calling_ae} at {address}{came}",
        status=refused.status,
        came=came,
        **values,
    )


def _group(members: Sequence[tuple[Refused, bool]]) -> Refusals:
    last = members[-1][0]
    return Refusals(
        study_instance_uid=last.study_instance_uid,
        series_instance_uid=last.series_instance_uid,
        association_id=last.association_id,
        calling_ae=last.calling_ae,
        peer_address=last.peer_address,
        status=last.status,
        reason=last.reason,
        images=sum(refused.images for refused, _ in members),
        came=sum(refused.images for refused, came in members if came),
        at=max(refused.at for refused, _ in members),
    )
