"""What came back for a job from where its images were sent under pseudonyms."""

from __future__ import annotations

from sqlalchemy import Engine

from node.config import Config
from node.deidentify.key import deidentify_key
from node.deidentify.pseudonyms import Pseudonyms
from node.inference.task import ReturnedFiles
from node.ledger.jobs import Job, source_images
from node.ledger.returned_results import returned_paths
from node.spool import Spool


def returned_files(config: Config, engine: Engine, spool: Spool, job: Job) -> ReturnedFiles:
    """Return the files that came back, none for other pipelines. Raises as ``deidentify_key`` and ``all_readable``."""
    source = config.returned.get(job.pipeline)
    if source is None:
        return ReturnedFiles()
    pseudonym = Pseudonyms(deidentify_key(config, engine), source).uid
    with engine.connect() as connection:
        images = [image.sop_instance_uid for image in source_images(connection, job)]
        paths = returned_paths(connection, pseudonym(job.study_instance_uid))
    uids = (job.study_instance_uid, job.series_instance_uid, *images)
    return ReturnedFiles(
        paths=spool.all_readable(paths),
        uids={pseudonym(uid): uid for uid in uids},
    )
