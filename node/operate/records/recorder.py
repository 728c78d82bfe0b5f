"""The recorder: writes a decision record of every finished study, and lets records expire.

It can be killed at any instruction: a record is one row, written in one transaction with the look at what it says. What
is recorded already is not recorded twice; whatever happens to the study later makes another record.
"""

from __future__ import annotations

import hashlib
import json
import logging
import threading
from typing import Any

import sqlalchemy as sa

from node.actor import look_every, surviving
from node.config import Config
from node.confined import Bounds, shared_process
from node.errors import NodeError
from node.ledger.clock import clock_of, ledger_clock
from node.ledger.decision_records import (
    StoredRecord,
    add_record,
    expired_before,
    hold_chain,
    last_record,
    remove_through,
    unrecorded_studies,
)
from node.ledger.engine import begin_immediate
from node.ledger.leadership import Leadership
from node.ledger.patient_hash import patient_hash
from node.ledger.study_record import a_path, study_state
from node.log import about
from node.operate.records.signing_key import SigningKey, signing_key
from node.spool import Spool
from node.studies.attributes import attributes

logger = logging.getLogger(__name__)

POLL_SECONDS = 30.0
_YEAR_SECONDS = 365.25 * 86400
_EXPIRY_SECONDS = 86400.0
_BOUNDS = Bounds(cpu_seconds=10, wall_seconds=60.0)
BEGINNING = "0" * 64
"""Stands in the first record for the digest of a record before it."""


class Recorder:
    """Adds to the chain. Several may run at once."""

    def __init__(self, config: Config, engine: sa.Engine, spool: Spool) -> None:
        self._config = config
        self._engine = engine
        self._spool = spool
        self._leads = Leadership(engine, "decision records")
        self._reader = shared_process("reader of patients for records", spool.data_folders, _BOUNDS, decodes=False)
        self._unchanged: dict[str, float] = {}
        """Time of the last event of studies whose state is recorded although something happened after the record."""
        self._expired_at = 0.0

    def run(self, stop: threading.Event) -> None:
        """Look every 30 seconds until ``stop`` is set."""
        look_every(POLL_SECONDS, stop, "decision records", lambda: self.step(clock_of(self._engine)))
        self.close()

    def close(self) -> None:
        """Leave the work to others."""
        self._leads.release()

    def step(self, at: float) -> int:
        """Record what has finished; return how many records were written."""
        if not self._leads.is_ours():
            return 0
        written = 0
        if self._config.records.years:
            with self._engine.connect() as connection:
                waiting = unrecorded_studies(connection, at)
            self._unchanged = {study: last for study, last in self._unchanged.items() if study in waiting}
            for study, last in waiting.items():
                if self._unchanged.get(study) == last:
                    continue
                with about(study), surviving(f"decision record of study {study}"):
                    if self.record(study):
                        written += 1
                    else:
                        self._unchanged[study] = last
            if at - self._expired_at > _EXPIRY_SECONDS:
                self._expire(at - self._config.records.years * _YEAR_SECONDS)
                self._expired_at = at
        return written

    def record(self, study: str) -> bool:
        """Record the present state of a study, finished or not; ``False``: its latest record says the same."""
        patient = self._patient(study)
        with begin_immediate(self._engine) as connection:
            hold_chain(connection)
            state = study_state(connection, study)
            if is_recorded(connection, study, state):
                return False
            key = patient_hash(connection, patient) if patient else ""
            self._add(connection, study, {"kind": "study", "patient": key, **state}, digest_of(state), key)
        return True

    def _add(self, connection: sa.Connection, study: str, values: dict[str, Any], state: str, patient: str) -> None:
        last, at, key = last_record(connection), ledger_clock(connection), self._key()
        number = last.number + 1 if last else 1
        chained = {
            "number": number,
            "previous": hashlib.sha256(last.record.encode()).hexdigest() if last else BEGINNING,
            "recorded_at": round(at, 3),
            "key": key.public,
            **values,
        }
        record = canonical(chained)
        add_record(
            connection,
            StoredRecord(
                number=number,
                study_instance_uid=study,
                state_digest=state,
                patient=patient,
                record=record,
                signature=key.sign(record),
                recorded_at=at,
            ),
        )

    def _key(self) -> SigningKey:
        return signing_key(self._config)

    def _expire(self, before: float) -> None:
        """Remove records that are too old; a new one says where the chain begins now."""
        with begin_immediate(self._engine) as connection:
            hold_chain(connection)
            last = expired_before(connection, before)
            if last is None:
                return
            digest = hashlib.sha256(last.record.encode()).hexdigest()
            self._add(connection, "", {"kind": "expiry", "through": last.number, "digest": digest}, "", "")
            remove_through(connection, last.number)
        logger.info("decision records up to number %d have expired", last.number)

    def _patient(self, study: str) -> str:
        """Patient ID and its issuer, of one image; empty when that cannot be read, or has none."""
        with self._engine.connect() as connection:
            path = a_path(connection, study)
        if path is None:
            return ""
        try:
            keywords = ("PatientID", "IssuerOfPatientID")
            values = self._reader.call(path, attributes, self._spool.readable(path), keywords)
        except NodeError as error:
            logger.warning("the decision record of study %s names no patient: %s", study, error)
            return ""
        return f"{values['IssuerOfPatientID']}\\{values['PatientID']}" if values["PatientID"] else ""


def is_recorded(connection: sa.Connection, study: str, state: dict[str, Any]) -> bool:
    """Whether the latest record of a study says what its state is."""
    last = last_record(connection, study)
    return last is not None and last.state_digest == digest_of(state)


def digest_of(state: dict[str, Any]) -> str:
    """SHA-256 of a state."""
    return hashlib.sha256(canonical(state).encode()).hexdigest()


def canonical(values: dict[str, Any]) -> str:
    """JSON in one form only: sorted keys, no spaces, ASCII."""
    return json.dumps(values, sort_keys=True, separators=(",", ":"))
