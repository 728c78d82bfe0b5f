"""What was not taken becomes a fact of its series: one thread writes the refusals of all associations of a process.

A refusal is in the ledger before it is answered, where the ledger takes it at once. A ledger that is away or slow holds
up nobody: facts wait in memory, bounded, and of too many only their number is kept.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, replace

from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError

from node.ledger.engine import begin_immediate, now
from node.ledger.refusals import Refused, record_refusals, record_rejection
from node.log import about
from node.receive.dataset_identity import Beginning, identity_of_beginning
from node.receive.messages import StoreRequest
from node.receive.status import Refusal
from node.spool import is_uid

LOGGER = logging.getLogger(__name__)

NAMED = 4096
"""Refusals that may wait with their UIDs, and refusals of one association that are recorded with them."""
_PATIENCE_SECONDS = 1.0
"""How long a sender waits for its refusal to be durable."""
_RETRY_SECONDS = 1.0
"""Pause before what the ledger did not take is written again."""
_TOLD_EVERY_SECONDS = 60.0
"""An association that goes on being refused is one line of log in this time."""
_REJECTIONS = 100
"""Callers whose rejections may wait: a hostile peer has any number of names."""


@dataclass
class _RefusalCount:
    """Refusals of one association, series and status that the log is to tell of."""

    first: Refused
    images: int
    since: float


class Refusals:
    """Records what the associations of one process refused."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._waiting: dict[tuple[str, str, str, str], Refused] = {}
        self._rejections: dict[tuple[str, str], tuple[str, float]] = {}
        self._told: dict[tuple[str, str, int | None], _RefusalCount] = {}
        self._named: dict[str, int] = {}
        self._lost = 0
        self._changed = threading.Condition()
        self._written = 0
        self._taken = 0
        self._prompt = True
        """The ledger took the last refusals within the patience."""
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="receive-refusals", daemon=True)

    def start(self) -> None:
        """Start the writing thread."""
        self._thread.start()

    def stop(self) -> None:
        """Write what waits, if the ledger takes it, then end."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        self._thread.join()
        self._log_counts(float("inf"))

    def missed(self, request: StoreRequest, beginning: bytes, refusal: Refusal | None) -> None:
        """An instance was not kept; returns when that is durable, or the ledger is too slow. Never raises."""
        refused = _refused(request, identity_of_beginning(beginning, request.transfer_syntax_uid), refusal)
        with self._changed:
            turn = self._add(refused)
            self._changed.notify_all()
            if refusal is not None and self._prompt:
                self._changed.wait_for(lambda: self._written >= turn or not self._prompt, _PATIENCE_SECONDS)
                self._prompt = self._written >= turn

    def rejected(self, calling_ae: str, peer_address: str, reason: str) -> None:
        """An association was not accepted: its caller may be in the middle of a series."""
        with self._changed:
            key = (calling_ae, peer_address)
            if key in self._rejections or len(self._rejections) < _REJECTIONS:
                self._rejections[key] = (reason, now())
                self._changed.notify_all()

    def ended(self, association_id: str) -> None:
        """The log tells of what the association was refused."""
        with self._changed:
            self._named.pop(association_id, None)
        self._log_counts(float("inf"), association_id)

    def _add(self, refused: Refused) -> int:
        """Have it written; the turn in which it will be. Called with the lock held."""
        told = self._told.setdefault(
            (refused.association_id, refused.series_instance_uid, refused.status),
            _RefusalCount(refused, 0, time.monotonic()),
        )
        told.images += 1
        named = self._named[refused.association_id] = self._named.get(refused.association_id, 0) + 1
        if named > NAMED or len(self._waiting) >= NAMED:
            refused = refused.unnamed()
        key = (
            refused.association_id,
            refused.study_instance_uid,
            refused.series_instance_uid,
            refused.sop_instance_uid,
        )
        before = self._waiting.get(key)
        if before is None and len(self._waiting) >= 2 * NAMED:
            self._lost += 1
        elif before is not None and not refused.sop_instance_uid:
            self._waiting[key] = replace(refused, images=before.images + 1)
        else:
            self._waiting[key] = refused
        self._taken += 1
        return self._taken

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(
                    lambda: self._waiting or self._rejections or self._stopped, _TOLD_EVERY_SECONDS / 2
                )
                if self._rejections and not self._waiting and not self._stopped:
                    self._changed.wait(_RETRY_SECONDS)  # nobody waits for these, and there may be many
                waiting, self._waiting = self._waiting, {}
                rejections, self._rejections = self._rejections, {}
                turn, lost, self._lost = self._taken, self._lost, 0
            if lost:
                LOGGER.error("%d refusals could not be recorded: the ledger has not been writable for too long", lost)
            wrote = self._write(list(waiting.values()), rejections)
            with self._changed:
                if wrote:
                    self._written, self._prompt = turn, True
                    self._changed.notify_all()
                    if self._stopped and not self._waiting and not self._rejections:
                        return
                else:
                    self._prompt = False
                    self._changed.notify_all()
                    self._waiting = {**waiting, **self._waiting}
                    self._rejections = {**rejections, **self._rejections}
                    if self._stopped:
                        return
            if not wrote:
                time.sleep(_RETRY_SECONDS)
            self._log_counts(time.monotonic() - _TOLD_EVERY_SECONDS)

    def _write(self, refused: list[Refused], rejections: dict[tuple[str, str], tuple[str, float]]) -> bool:
        """Whether the ledger took it; what it will never take is logged and given up."""
        if not refused and not rejections:
            return True
        try:
            self._record(refused, rejections)
        except OperationalError as error:
            LOGGER.warning("%d refusal(s) not yet recorded: %s", len(refused) + len(rejections), error)
            return False
        except Exception:  # this actor's own loop: one fact that cannot be written must not cost the others
            if len(refused) + len(rejections) == 1:
                LOGGER.exception("a refusal could not be recorded")
                return True
            return all(self._write([one], {}) for one in refused) and all(
                self._write([], {key: of}) for key, of in rejections.items()
            )
        return True

    def _record(self, refused: list[Refused], rejections: dict[tuple[str, str], tuple[str, float]]) -> None:
        with begin_immediate(self._engine) as connection:
            record_refusals(connection, refused)
            for (calling_ae, peer_address), (reason, at) in rejections.items():
                record_rejection(connection, calling_ae, peer_address, reason, at)

    def _log_counts(self, until: float, association_id: str = "") -> None:
        """One line of log for all refusals of an association, series and status that began before ``until``."""
        with self._changed:
            due = [key for key, told in self._told.items() if told.since <= until and association_id in ("", key[0])]
            tellings = [self._told.pop(key) for key in due]
        for told in tellings:
            one = told.first
            with about(one.study_instance_uid, series=one.series_instance_uid):
                LOGGER.warning(
                    "%d image(s) of %s from %s at %s %s: %s",
                    told.images,
                    f"series {one.series_instance_uid}" if one.series_instance_uid else "an unknown series",
                    one.calling_ae,
                    one.peer_address,
                    "cut off" if one.status is None else f"refused with status 0x{one.status:04X}",
                    one.reason,
                )


def _refused(request: StoreRequest, beginning: Beginning, refusal: Refusal | None) -> Refused:
    head = beginning.head
    known = is_uid(head.study_instance_uid) and is_uid(head.series_instance_uid)
    named = next((uid for uid in (head.sop_instance_uid, request.sop_instance_uid) if is_uid(uid)), "")
    return Refused(
        study_instance_uid=head.study_instance_uid if known else "",
        series_instance_uid=head.series_instance_uid if known else "",
        sop_instance_uid=named,
        association_id=request.association.id,
        calling_ae=request.association.calling_ae,
        peer_address=request.association.peer_address,
        status=None if refusal is None else refusal.status,
        reason="the association ended in the middle of it" if refusal is None else refusal.comment,
        position=beginning.position,
        at=now(),
    )
