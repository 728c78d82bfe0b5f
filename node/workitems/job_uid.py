"""UIDs of workitems whose analyses the rules have decided on: derived from the id of the job, and read back to it."""

from __future__ import annotations

import re
import secrets
import uuid
from functools import cached_property

from sqlalchemy import Engine

from node.ledger.engine import begin_immediate
from node.ledger.secrets import keep_secret, stored_secret

_NAME = "workitems"
_PREFIX_BITS, _JOB_BITS = 58, 64
_FORM = re.compile(r"2\.25\.([1-9][0-9]{0,38})")


class JobUids:
    """UIDs of one node (PS3.5 B.2): a UUID of version 8 (RFC 9562) from a number of the ledger and the id of the job.

    Two nodes that analyse the same series have jobs with the same id, and other numbers.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @cached_property
    def _prefix(self) -> int:
        with self._engine.connect() as connection:
            number = stored_secret(connection, _NAME)
        if number is None:
            with begin_immediate(self._engine) as connection:
                number, _ = keep_secret(connection, _NAME, f"{secrets.randbits(_PREFIX_BITS):x}")
        return int(number, 16)

    @staticmethod
    def new() -> str:
        """Return a UID for a workitem that its requester gave none."""
        return f"2.25.{uuid.uuid4().int}"

    def uid(self, job_id: str) -> str:
        """Return the UID of the workitem of a job."""
        bits = self._prefix << _JOB_BITS | int(job_id, 16)
        high, middle, low = bits >> 74, bits >> 62 & 0xFFF, bits & (1 << 62) - 1
        return f"2.25.{high << 80 | 8 << 76 | middle << 64 | 0b10 << 62 | low}"

    def job_id(self, uid: str) -> str:
        """Return the id of the job of a workitem; empty: the UID is none of this node's."""
        form = _FORM.fullmatch(uid)
        if form is None:
            return ""
        value = int(form[1])
        bits = value >> 80 << 74 | (value >> 64 & 0xFFF) << 62 | value & (1 << 62) - 1
        job_id = f"{bits & (1 << _JOB_BITS) - 1:016x}"
        return job_id if uid == self.uid(job_id) else ""
