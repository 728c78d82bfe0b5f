"""Encodes one analysis and passes it through the gate.

An optional object with a fault is withheld; any other fault becomes a report of failure. ``node.results.encode`` says
which objects are made. It runs in ``node.inference.encode_process``, without ledger and spool.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydicom import Dataset, dcmread

from node.errors import EncodeError, InputError, error_code, not_analysed
from node.inference.encode_sources import take
from node.inference.encode_task import (
    EncodedEmbeddings,
    EncodedFile,
    EncodeTask,
    Encoding,
    Failure,
    NoteTask,
    PreviousFiles,
)
from node.inference.finding_embeddings import Examined, embeddings_of, searched_embeddings
from node.inference.handover import Handover, load
from node.jobs.failure import logged_error
from node.outcome import ANALYSED, Outcome
from node.pipeline import Algorithm
from node.results.analysis import OPTIONAL, Analysis, EncodedObject
from node.results.encode import encode
from node.results.escalation import UrgentMeasurement, urgent_measurement
from node.results.failure_report import encode_failure_reports, identity_of, stated_identity
from node.results.gate.check import check, check_rejection
from node.results.identity import Identity
from node.results.predecessor import Predecessor, superseding
from node.results.rejection import REJECTIONS, encode_rejection
from node.results.uids import analysis_key
from node.studies.header import read_header
from node.studies.minimal_series import MinimalSeries, minimal_header
from node.studies.source import SourceSeries
from node.translation import in_every_language, joined, sentence
from node.wording import together

logger = logging.getLogger(__name__)
_LARGEST_IMAGE = 1 << 22
"""Pixels of an image that nobody has read."""
_Withheld = list[tuple[list[str], EncodeError]]


def encode_analysis(task: EncodeTask) -> Encoding:
    """Encode the analysis of a task; what the gate refuses becomes the report of a failure.

    Raises ``EncodeError`` when that is refused as well, ``InputError`` when series or handover cannot be read.
    """
    sources = take(tuple(image.path for image in task.images))
    source = sources.series
    examined = Examined.of(source.datasets[0], task.salt)
    analysis = _analysis(
        task, sum(int(image.Rows) * int(image.Columns) for image in source.datasets if "Rows" in image)
    )
    if analysis.of_volumes:
        source = source.first_volume
    if analysis.images:
        source = source.of_images(analysis.images)
    files, withheld, fault = _encoded(task, analysis, source, sources.files, ())
    refused = fault
    if fault is not None and analysis.outcome != Outcome.FAILED:
        logger.warning("job %s: encode failed: %s", task.job_id, fault, exc_info=logged_error(fault))
        code = error_code(fault)
        reason = together(in_every_language(lambda: not_analysed(code, task.job_id)), task.incomplete)
        analysis = replace(analysis, outcome=Outcome.FAILED, reason=reason, findings=None)
        files, withheld, fault = _encoded(task, analysis, source, sources.files, files)
    if fault is not None:
        raise EncodeError(f"the report of a failure was refused as well: {fault}") from fault
    return Encoding(
        files=files,
        outcome=analysis.outcome,
        refused=None if refused is None else _fault(refused),
        withheld=tuple((kinds, _fault(why)) for kinds, why in withheld),
        urgent=_urgent(task, files) if task.limits and analysis.outcome in ANALYSED else None,
        embeddings=embeddings_of(analysis.findings, files, task.out, examined) if task.embeddings else None,
        repairs=sources.repairs,
    )


def _urgent(task: EncodeTask, files: Sequence[EncodedFile]) -> UrgentMeasurement | None:
    """Look for a measurement beyond a limit in the reports as they are sent."""
    reports = (
        dcmread(task.out / file.name) for file in files if file.kind.startswith("sr") and file.quarantine is None
    )
    return next(filter(None, (urgent_measurement(report, task.limits) for report in reports)), None)


def read_embeddings(task: EncodeTask) -> EncodedEmbeddings | None:
    """Return the embeddings in the handover of a task. Raises ``InputError`` when it cannot be read."""
    handover = load(task.handover, len(task.images) * _LARGEST_IMAGE)
    return searched_embeddings(handover.findings, Examined.of(read_header(task.images[0].path), task.salt))


def encode_failure(task: EncodeTask) -> Encoding:
    """Encode the report of a failure from UIDs and identity alone, which needs no readable image."""
    if not task.images:
        raise InputError(f"job {task.job_id}: its series has no image; send it again")
    source = MinimalSeries(
        paths=tuple(image.path for image in task.images),
        datasets=tuple(
            minimal_header(
                sop_class=image.sop_class_uid,
                uid=image.sop_instance_uid,
                study=task.study_instance_uid,
                series=task.series_instance_uid,
                modality=image.modality,
            )
            for image in task.images
        ),
    )
    analysis = _analysis(task, len(task.images) * _LARGEST_IMAGE)
    stated = stated_identity(source.paths)
    objects = encode_failure_reports(analysis, source, task.kinds, stated)
    made_by = {"analysis": analysis_key(analysis, source, identity_of(stated)), "version": analysis.version}
    files = tuple(_write(task.out, number, encoded, **made_by) for number, encoded in enumerate(objects))
    return Encoding(files=files, outcome=analysis.outcome, withheld=(([], None),))


def encode_note(task: NoteTask) -> EncodedFile:
    """Encode the rejection note of a task; see ``encode_rejection``. Raises ``GateError``."""
    analysis = Analysis(
        pipeline=task.pipeline,
        algorithm=Algorithm(name=task.pipeline, version=""),
        generation=task.generation,
        outcome=Outcome.FAILED,
        reason=task.stated or f"Withdrawn: {REJECTIONS[task.reason].meaning}",
        analysed_at=datetime.now(UTC),
        salt=task.salt,
    )
    note = encode_rejection(analysis, task.results, task.reason, task.replaced_at)
    check_rejection(note, task.results)
    return _write(task.out, 0, note)


def _encoded(
    task: EncodeTask,
    analysis: Analysis,
    source: SourceSeries,
    files_received: Mapping[Path, Dataset],
    before: tuple[EncodedFile, ...],
) -> tuple[tuple[EncodedFile, ...], _Withheld, EncodeError | None]:
    """Files of the objects of one analysis, after those from ``before``; which were withheld and why; the fault of all.

    Faulty objects are quarantined. One of an optional kind is withheld with its kind, and the report made without it
    says so.
    """
    files = [*before]
    withheld: _Withheld = []
    kinds = task.kinds

    def write(objects: Sequence[EncodedObject], fault: EncodeError | None, **made_by: Any) -> None:
        quarantine = str(fault) if fault else None
        files.extend(
            _write(task.out, number, encoded, quarantine=quarantine, **made_by)
            for number, encoded in enumerate(objects, len(files))
        )

    while True:
        objects: tuple[EncodedObject, ...] = ()
        fault: EncodeError | None = None
        bad = kinds
        predecessor = _predecessor(task.previous, analysis, source)
        analysis = superseding(analysis, predecessor, Identity.read(source).local(analysis.analysed_at))
        made_by = {
            "analysis": analysis_key(analysis, source),
            "version": analysis.version,
            "replaces": predecessor.made if predecessor is not None else None,
        }
        try:
            objects = encode(analysis, source, kinds, predecessor, profiles=task.profiles)
            check(objects, source, predecessor, files_received)
        except EncodeError as error:
            fault, bad = error, error.kinds & kinds & OPTIONAL
        if fault is None or not bad:
            write(objects, fault, **made_by)
            return tuple(files), withheld, fault
        write([encoded for encoded in objects if encoded.kind in bad], fault, **made_by)
        named = ", ".join(sorted(bad))
        logger.warning("job %s: %s withheld: %s", task.job_id, named, fault, exc_info=logged_error(fault))
        withheld.append((sorted(bad), fault))
        text = sentence(
            "Not sent: {kinds}, which could not be made. Details are in the log of the AI node, job {job}.",
            kinds=joined(map(sentence, sorted(bad)), ", "),
            job=task.job_id,
        )
        analysis = replace(analysis, withheld=(*analysis.withheld, text))
        kinds -= bad


def _analysis(task: EncodeTask, voxels: int) -> Analysis:
    handover = _handover(task, voxels)
    outcome: Any = task.outcome or Outcome.FAILED  # Analysis checks the word
    return Analysis(
        pipeline=task.pipeline,
        algorithm=handover.algorithm if handover else Algorithm(name=task.pipeline, version=""),
        generation=task.generation,
        outcome=outcome,
        title=task.title,
        reason=task.reason,
        findings=handover.findings if handover and outcome in ANALYSED else None,
        analysed_at=handover.analysed_at if handover else datetime.fromtimestamp(task.created_at, UTC),
        timings=handover.timings if handover else {},
        inputs=handover.inputs if handover else (),
        images=handover.images if handover and outcome in ANALYSED else (),
        of_volumes=handover is not None and handover.of_volumes and outcome in ANALYSED,
        salt=task.salt,
        caveat=task.caveat,
        languages=task.languages,
        link=task.link,
        similar=task.similar,
    )


def _handover(task: EncodeTask, voxels: int) -> Handover | None:
    """Return the handover of the last attempt; after a failure there may be none."""
    try:
        return load(task.handover, voxels)
    except InputError:
        if task.outcome in ANALYSED:
            raise
        return None


def _predecessor(previous: Sequence[PreviousFiles], analysis: Analysis, source: SourceSeries) -> Predecessor | None:
    """Return the predecessor: the result of an earlier attempt of the job, or of an earlier generation.

    A repeated encoding finds its own, and takes the place of what that one did.
    """
    for files in previous:
        if files.analysis != analysis_key(replace(analysis, version=files.version), source):
            return Predecessor.read(files.paths, files.version)
        if files.version > 1:
            return Predecessor.of_repeated(files.paths, files.version, files.replaces)
    return None


def _write(out: Path, number: int, encoded: EncodedObject, **made_by: Any) -> EncodedFile:
    name = f"{number:05d}.dcm"
    (out / name).write_bytes(encoded.data)
    return EncodedFile(name=name, kind=encoded.kind, description=encoded.description, **made_by)


def _fault(error: EncodeError) -> Failure:
    return Failure(code=error_code(error), message=str(error))
