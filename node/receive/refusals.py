"""Records instances that were not stored, as facts of their series; one thread writes for all associations.

A refusal is in the ledger before it is answered if the ledger is fast. With a slow or unavailable ledger refusals wait
in bounded memory, and of too many only the number is kept.
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
from node.receive.dataset_identity import PartialIdentity, identity_of_beginning
from node.receive.messages import StoreRequest
from node.receive.status_codes import Refusal
from node.spool import is_uid

LOGGER = logging.getLogger(__name__)

MOST_NAMED = 4096
"""Refusals that may wait with their UIDs, and the limit per association; further ones are only counted."""
_PATIENCE_SECONDS = 1.0
"""How long a response waits for its refusal to become durable."""
_RETRY_SECONDS = 1.0
"""Pause after a failed write."""
_LOG_SECONDS = 60.0
"""Refusals of one association within this time become one log line."""
_LOG_ENTRIES = 100
"""Series of which refusals may wait to be logged; those of further ones are logged without a series."""
_REJECTIONS = 100
"""Callers whose rejections may wait; a hostile peer can use any number of AE titles."""


@dataclass
class _LogEntry:
    """Refusals of one association, series and status that are not yet logged."""

    first: Refused
    images: int
    since: float


class Refusals:
    """Records the refusals of one process."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._waiting: dict[tuple[str, str, str, str], Refused] = {}
        self._rejections: dict[tuple[str, str], tuple[str, float]] = {}
        self._log_entries: dict[tuple[str, str, int | None], _LogEntry] = {}
        self._named: dict[str, int] = {}
        self._lost = 0
        self._changed = threading.Condition()
        self._written = 0
        self._accepted = 0
        self._ledger_prompt = True
        """The last refusals were written in time."""
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="receive-refusals", daemon=True)

    def start(self) -> None:
        """Start the writing thread."""
        self._thread.start()

    def stop(self) -> None:
        """Write waiting refusals if the ledger can be written, then end."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        self._thread.join()
        self._log(float("inf"))

    def not_stored(self, request: StoreRequest, beginning: bytes, refusal: Refusal | str) -> None:
        """Record an instance that was not stored; return when durable or after a timeout. Never raises."""
        refused = _refused(request, identity_of_beginning(beginning, request.transfer_syntax_uid), refusal)
        with self._changed:
            turn = self._add(refused)
            self._changed.notify_all()
            if isinstance(refusal, Refusal) and self._ledger_prompt:
                self._changed.wait_for(lambda: self._written >= turn or not self._ledger_prompt, _PATIENCE_SECONDS)
                self._ledger_prompt = self._written >= turn

    def rejected(self, calling_ae: str, peer_address: str, reason: str) -> None:
        """Record a rejected association; its caller may be sending a series."""
        with self._changed:
            key = (calling_ae, peer_address)
            if key in self._rejections or len(self._rejections) < _REJECTIONS:
                self._rejections[key] = (reason, now())
                self._changed.notify_all()

    def ended(self, association_id: str) -> None:
        """Log the refusals of an association that has ended."""
        with self._changed:
            self._named.pop(association_id, None)
        self._log(float("inf"), association_id)

    def _add(self, refused: Refused) -> int:
        """Queue a refusal and return its number. Called with the lock held."""
        entry = (refused.association_id, refused.series_instance_uid, refused.status)
        if entry not in self._log_entries and len(self._log_entries) >= _LOG_ENTRIES:
            entry = (refused.association_id, "", refused.status)
        first = refused if entry[1] else replace(refused, study_instance_uid="", series_instance_uid="")
        self._log_entries.setdefault(entry, _LogEntry(first, 0, time.monotonic())).images += 1
        named = self._named[refused.association_id] = self._named.get(refused.association_id, 0) + 1
        if named > MOST_NAMED or len(self._waiting) >= MOST_NAMED:
            refused = refused.unnamed()
        key = (
            refused.association_id,
            refused.study_instance_uid,
            refused.series_instance_uid,
            refused.sop_instance_uid,
        )
        before = self._waiting.get(key)
        if before is None and len(self._waiting) >= 2 * MOST_NAMED:
            self._lost += 1
        elif before is not None and not refused.sop_instance_uid:
            self._waiting[key] = replace(refused, images=before.images + 1)
        else:
            self._waiting[key] = refused
        self._accepted += 1
        return self._accepted

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._rejections or self._stopped, _LOG_SECONDS / 2)
                if self._rejections and not self._waiting and not self._stopped:
                    self._changed.wait(_RETRY_SECONDS)  # collect rejections: no response waits for them
                waiting, self._waiting = self._waiting, {}
                rejections, self._rejections = self._rejections, {}
                turn, lost, self._lost = self._accepted, self._lost, 0
            if lost:
                LOGGER.error("%d refusals are lost: the ledger could not be written for too long", lost)
            wrote = self._write(list(waiting.values()), rejections)
            with self._changed:
                if wrote:
                    self._written, self._ledger_prompt = turn, True
                    self._changed.notify_all()
                    if self._stopped and not self._waiting and not self._rejections:
                        return
                else:
                    self._ledger_prompt = False
                    self._changed.notify_all()
                    self._waiting = {**waiting, **self._waiting}
                    self._rejections = {**rejections, **self._rejections}
                    if self._stopped:
                        return
            if not wrote:
                time.sleep(_RETRY_SECONDS)
            self._log(time.monotonic() - _LOG_SECONDS)

    def _write(self, refused: list[Refused], rejections: dict[tuple[str, str], tuple[str, float]]) -> bool:
        """Return whether the ledger could be written; a refusal that it rejects is logged and dropped."""
        if not refused and not rejections:
            return True
        try:
            self._record(refused, rejections)
        except OperationalError as error:
            LOGGER.warning("%d refusals not yet recorded: %s", len(refused) + len(rejections), error)
            return False
        except Exception:  # the actor's own loop: one refusal that cannot be written must not block the others
            if len(refused) + len(rejections) == 1:
                LOGGER.exception("a refusal could not be recorded")
                return True
            return all(self._write([refusal], {}) for refusal in refused) and all(
                self._write([], {key: rejection}) for key, rejection in rejections.items()
            )
        return True

    def _record(self, refused: list[Refused], rejections: dict[tuple[str, str], tuple[str, float]]) -> None:
        with begin_immediate(self._engine) as connection:
            record_refusals(connection, refused)
            for (calling_ae, peer_address), (reason, at) in rejections.items():
                record_rejection(connection, calling_ae, peer_address, reason, at)

    def _log(self, until: float, association_id: str = "") -> None:
        """Write one log line per association, series and status for refusals that began before ``until``."""
        with self._changed:
            waiting = self._log_entries.items()
            due = [key for key, entry in waiting if entry.since <= until and association_id in ("", key[0])]
            entries = [self._log_entries.pop(key) for key in due]
        for entry in entries:
            first = entry.first
            with about(first.study_instance_uid, series=first.series_instance_uid):
                LOGGER.warning(
                    "%d images of %s from %s at %s %s: %s",
                    entry.images,
                    f"series {first.series_instance_uid}" if first.series_instance_uid else "an unknown series",
                    first.calling_ae,
                    first.peer_address,
                    "cut off" if first.status is None else f"refused with status 0x{first.status:04X}",
                    first.reason,
                )


def _refused(request: StoreRequest, beginning: PartialIdentity, refusal: Refusal | str) -> Refused:
    identity = beginning.identity
    known = is_uid(identity.study_instance_uid) and is_uid(identity.series_instance_uid)
    named = next((uid for uid in (identity.sop_instance_uid, request.sop_instance_uid) if is_uid(uid)), "")
    return Refused(
        study_instance_uid=identity.study_instance_uid if known else "",
        series_instance_uid=identity.series_instance_uid if known else "",
        sop_instance_uid=named,
        association_id=request.association.id,
        calling_ae=request.association.calling_ae,
        peer_address=request.association.peer_address,
        status=refusal.status if isinstance(refusal, Refusal) else None,
        reason=refusal.comment if isinstance(refusal, Refusal) else refusal,
        position=beginning.position,
        at=now(),
    )
