"""What came back for a job from where its images were sent under pseudonyms."""

from __future__ import annotations

import time

from sqlalchemy import Engine

from node.config import Config
from node.deidentify.key import deidentify_key
from node.deidentify.pseudonyms import Pseudonyms
from node.deidentify.sent_study import frames_of_reference
from node.errors import NodeError
from node.inference.task import ReturnedFiles
from node.ledger.instances import series_files
from node.ledger.jobs import Job, source_images
from node.ledger.returned_results import returned_objects, returned_paths, series_sent_to, still_arriving
from node.spool import Spool

_QUIET_PERIODS = 3
"""For which others are awaited."""
_LOOK_SECONDS = 0.5


def returned_files(config: Config, engine: Engine, spool: Spool, job: Job) -> ReturnedFiles:
    """Return the files that came back, none for other pipelines.

    Waits while others of the study arrive: a SEG and the SR that belongs to it are two series. Raises as
    ``deidentify_key`` and ``all_readable``, and ``NodeError`` when they do not end.
    """
    source = config.returned.get(job.pipeline)
    if source is None:
        return ReturnedFiles()
    pseudonym = Pseudonyms(deidentify_key(config, engine), source).uid
    study = pseudonym(job.study_instance_uid)
    _await_others(engine, study, _QUIET_PERIODS * config.series.quiet_seconds)
    with engine.connect() as connection:
        images = [image.sop_instance_uid for image in source_images(connection, job)]
        paths = returned_paths(connection, study, job.id)
        sent = series_sent_to(connection, source, job.study_instance_uid)
        others = {
            pseudonym(uid): pseudonym(series.series_instance_uid)
            for series in sent
            if series.series_instance_uid != job.series_instance_uid
            for uid in series_files(connection, series.study_instance_uid, series.series_instance_uid)
        } | returned_objects(connection, study)
    uids = (job.study_instance_uid, job.series_instance_uid, *images)
    return ReturnedFiles(
        paths=spool.all_readable(paths),
        uids={pseudonym(uid): uid for uid in uids},
        sent=frames_of_reference(engine, spool, sent, pseudonym),
        others=others,
    )


def _await_others(engine: Engine, study: str, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while True:
        with engine.connect() as connection:
            if not still_arriving(connection, study):
                return
        if time.monotonic() > deadline:
            raise NodeError(f"other results of the study have been arriving for {seconds:g} s; they are awaited")
        time.sleep(_LOOK_SECONDS)
