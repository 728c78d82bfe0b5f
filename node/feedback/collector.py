"""Collects verdicts of readers from objects that the node receives, most often forwarded by the PACS.

An object is read once. What it says is recorded with the hash of whom it names; the object is neither changed nor sent.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from pathlib import Path

from sqlalchemy import Engine

from node.actor import look_every, surviving
from node.config.feedback import Feedback
from node.confined import Bounds, ConfinedProcess
from node.errors import AbsentFileError, InputError
from node.feedback.confined_reading import read_reader_object
from node.feedback.object_reading import AnalysisFiles, ObjectReading, named_person, refused
from node.ledger.clock import clock_of
from node.ledger.engine import begin_immediate
from node.ledger.jobs import get_job, source_paths
from node.ledger.reader_hash import reader_hash
from node.ledger.verdict import SourceKind, Verdict
from node.ledger.verdict_recording import (
    AnalysisOfStudy,
    ReaderObject,
    analyses_before,
    record_no_verdict,
    record_verdicts,
    unread_objects,
)
from node.log import about
from node.reasons import ReasonCode, reason
from node.spool import Spool
from node.studies.attributes import SEGMENTATIONS, STRUCTURE_SET, STRUCTURED_REPORTS

logger = logging.getLogger(__name__)

POLL_SECONDS = 5.0
_BACK_SECONDS = 600.0
"""How far back every look goes: rows of stored files may come late, and a process that failed is asked again."""
_WHOLE_SECONDS = 3600.0
"""Between two looks at everything."""
_BOUNDS = Bounds(memory_mib=4096, cpu_seconds=120, wall_seconds=300.0)
_MODALITIES = ("SEG", "RTSTRUCT", "SR", "KO")
_REPORTS = tuple(f"{STRUCTURED_REPORTS}{end}" for end in ("22", "33", "34"))
"""Enhanced, Comprehensive and Comprehensive 3D SR, which TID 1500 is written as."""
_KINDS = {
    **dict.fromkeys((*SEGMENTATIONS, STRUCTURE_SET), SourceKind.SEGMENTATION),
    **dict.fromkeys(_REPORTS, SourceKind.REPORT),
    f"{STRUCTURED_REPORTS}59": SourceKind.REJECTION_NOTE,
}
"""By SOP class."""


class Collector:
    """Looks for objects that nobody has read; a second one does no harm, because each is recorded once."""

    def __init__(self, engine: Engine, spool: Spool, feedback: Feedback | None = None) -> None:
        self._engine = engine
        self._spool = spool
        codes = feedback.assessment_codes if feedback is not None else ()
        self._codes = {(code.code, code.scheme): Verdict(code.verdict) for code in codes}
        self._process = ConfinedProcess("reader of verdicts", readable=spool.data_folders, bounds=_BOUNDS)
        self._whole_at = 0.0

    def run(self, stop: threading.Event) -> None:
        """Look every five seconds until ``stop`` is set."""
        look_every(POLL_SECONDS, stop, "collection of verdicts", self.step)

    def step(self) -> int:
        """Read what is new; return how many objects were read."""
        at = clock_of(self._engine)
        is_whole = at - self._whole_at >= _WHOLE_SECONDS
        with self._engine.connect() as connection:
            objects = unread_objects(connection, tuple(_KINDS), _MODALITIES, 0.0 if is_whole else at - _BACK_SECONDS)
        for instance in objects:
            if not self._is_readable(instance.path):
                continue
            with about(instance.study_instance_uid), surviving(f"verdicts of {instance.sop_instance_uid}"):
                self._collect(instance)
        if is_whole:
            self._whole_at = at
        return len(objects)

    def _is_readable(self, path: str) -> bool:
        try:
            return self._spool.stored_size(path) is not None
        except AbsentFileError:  # a later look may find its machine
            return False

    def _collect(self, of: ReaderObject) -> None:
        try:
            reading = self._read(of)
        except InputError as error:
            reading = refused(reason(ReasonCode.UNREADABLE_OBJECT, explanation=str(error)))
        with begin_immediate(self._engine) as connection:
            if reading.refused is not None:
                record_no_verdict(connection, of, reading.refused)
                return
            record_verdicts(
                connection,
                of,
                reading.verdicts,
                kind=_KINDS[of.sop_class_uid],
                reader=reader_hash(connection, named_person(reading.reader)),
                content_time=reading.content_time,
                is_whole=reading.is_whole,
            )
        logger.info("object %s holds verdicts on %d lesions", of.sop_instance_uid, len(reading.verdicts))

    def _read(self, of: ReaderObject) -> ObjectReading:
        with self._engine.connect() as connection:
            analyses = [
                AnalysisFiles(
                    job_id=analysis.job_id,
                    pipeline=analysis.pipeline,
                    series_instance_uid=analysis.series_instance_uid,
                    images=self._paths(source_paths(connection, get_job(connection, analysis.job_id))),
                    segmentation=next(iter(self._objects(analysis, SEGMENTATIONS)), None),
                    reports=self._objects(analysis, _REPORTS),
                    objects=tuple(own.sop_instance_uid for own in analysis.objects),
                )
                for analysis in analyses_before(connection, of.study_instance_uid, of.received_at)
            ]
        return self._process.call(
            f"object {of.sop_instance_uid}",
            read_reader_object,
            self._spool.readable(of.path),
            _KINDS[of.sop_class_uid],
            analyses,
            self._codes,
        )

    def _objects(self, of: AnalysisOfStudy, classes: Sequence[str]) -> tuple[Path, ...]:
        return self._paths([instance.path for instance in of.objects if instance.sop_class_uid in classes])

    def _paths(self, paths: list[str]) -> tuple[Path, ...]:
        return self._spool.all_readable(paths)
