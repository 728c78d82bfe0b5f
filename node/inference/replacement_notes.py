"""Withdrawal of a superseded result: the rejection note for one destination, made after the new result is stored."""

from __future__ import annotations

from sqlalchemy import Engine

from node.errors import GateError
from node.inference.encode_process import NOTE_SECONDS, EncodeProcess
from node.inference.node_secret import secret_of
from node.ledger.engine import begin_immediate
from node.ledger.jobs import Job, get_job
from node.ledger.missing_copies import record_results_held
from node.ledger.replaced_results import give_up_note, note_kind, schedule_note, to_withdraw
from node.reasons import Reason, ReasonCode, reason
from node.spool import Spool

REASON = "quality"
"""Of ``REJECTIONS``: no code of CID 7011 says *replaced*, and archives hide what is rejected with this one."""
STATED = "Replaced by a newer result of the same series"


class ReplacementNotes:
    """Makes the rejection notes for superseded results; any thread may call."""

    def __init__(self, *, engine: Engine, spool: Spool) -> None:
        self._engine = engine
        self._spool = spool
        self._encoder = EncodeProcess(spool, NOTE_SECONDS)

    def add_note(self, job_id: str, destination: str) -> None:
        """Schedule a note on the superseded results that ``destination`` holds; do nothing if there are none.

        The note's UIDs are derived from what it names: made again it is the same. A note that the gate refuses is
        given up, which the timeline shows.
        """
        job, paths = self._replaced(job_id, destination)
        if not paths:
            return
        files = self._spool.all_readable(paths.values())
        try:
            note = self._encoder.note(
                job,
                files,
                salt=secret_of(self._engine, self._spool.folder),
                reason=REASON,
                stated=STATED,
                replaced_at=destination,
            )
        except GateError as error:
            self.drop_note(job_id, destination, reason(ReasonCode.ERROR, error_code=error.code, explanation=str(error)))
            return
        row = note | {"kind": note_kind(destination)}
        with begin_immediate(self._engine) as connection:
            record_results_held(connection, self._spool.machine, self._spool.copies, [str(row["path"])])
            schedule_note(connection, job, destination, row, paths)

    def drop_note(self, job_id: str, destination: str, why: Reason) -> None:
        """Give up the note of this job, so that its stored results are not affected."""
        job, paths = self._replaced(job_id, destination)
        with begin_immediate(self._engine) as connection:
            give_up_note(connection, job, destination, paths, why)

    def _replaced(self, job_id: str, destination: str) -> tuple[Job, dict[str, str]]:
        with self._engine.connect() as connection:
            job = get_job(connection, job_id)
            held = to_withdraw(connection, job, destination)
        return job, {uid: path for uid, path in sorted(held.items()) if self._spool.stored_size(path) is not None}
