"""Reads a trial from ledger and spool; masks are compared and pictures drawn in a confined process."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from node.confined import Bounds, ConfinedProcess
from node.errors import InputError
from node.feedback.mask_comparison import MaskComparison, TrialFiles, compare_masks
from node.feedback.trial import ComparedPair, Trial, trial_of
from node.feedback.trial_disagreements import LesionDisagreement, disagreements_of
from node.feedback.trial_pictures import SlicePicture, draw_disagreements
from node.ledger.clicked_verdicts import current_verdicts
from node.ledger.engine import snapshot
from node.ledger.jobs import get_job, source_paths
from node.ledger.trials import TrialPair, added_lesions, segmentation_path, trial_pairs, untried
from node.outcome import Outcome
from node.spool import Spool
from node.studies.attributes import SEGMENTATIONS

logger = logging.getLogger(__name__)

MOST_PICTURES = 40
"""Of disagreements, in a report."""
_BOUNDS = Bounds(memory_mib=4096, cpu_seconds=120, wall_seconds=300.0)
_WITHOUT_LESION = (Outcome.NO_FINDINGS,)
"""Outcomes without a segmentation that can be compared all the same."""


@dataclass(frozen=True, kw_only=True)
class TrialReading:
    """A trial, and what its report is made from."""

    trial: Trial
    pairs: tuple[ComparedPair, ...]
    pictures: Mapping[LesionDisagreement, SlicePicture | None]
    """Of the largest disagreements, the largest first; ``None``: its images cannot be drawn."""


def read_trial(
    engine: sa.Engine, spool: Spool, champion: str, candidate: str, most: int, *, pictures: int = 0
) -> TrialReading:
    """Compare the latest ``most`` pairs of analyses, and draw at most this number of ``pictures``."""
    with snapshot(engine) as connection:
        pairs = trial_pairs(connection, champion, candidate, most)
        images = [source_paths(connection, get_job(connection, pair.champion.job_id)) for pair in pairs]
        files = [_files(connection, spool, *arguments) for arguments in zip(pairs, images, strict=True)]
        waiting = untried(connection, champion, candidate)
        verdicts = current_verdicts(connection, [pair.sent.job_id for pair in pairs])
    process = ConfinedProcess("comparison of masks", readable=spool.data_folders, bounds=_BOUNDS)
    try:
        compared = tuple(
            ComparedPair(
                pair=pair,
                masks=_masks(process, pair, of),
                verdicts={uid: verdict.verdict for uid, verdict in verdicts.get(pair.sent.job_id, {}).items()},
                has_images=bool(stored),
            )
            for pair, of, stored in zip(pairs, files, images, strict=True)
        )
        by_job = {pair.champion.job_id: of for pair, of in zip(pairs, files, strict=True) if of is not None}
        drawn = _drawn(process, disagreements_of(compared)[:pictures], by_job)
    finally:
        process.close()
    return TrialReading(trial=trial_of(champion, candidate, compared, waiting), pairs=compared, pictures=drawn)


def _masks(process: ConfinedProcess, pair: TrialPair, files: TrialFiles | None) -> MaskComparison | None:
    if files is None:
        return None
    try:
        return process.call(f"trial on study {pair.study_instance_uid}", compare_masks, files)
    except InputError as error:
        logger.warning("study %s: its masks are not compared: %s", pair.study_instance_uid, error)
        return None


def _files(connection: sa.Connection, spool: Spool, pair: TrialPair, images: Sequence[str]) -> TrialFiles | None:
    paths: list[Path | None] = []
    for analysis in (pair.champion, pair.candidate):
        path = segmentation_path(connection, analysis.job_id, SEGMENTATIONS)
        if not images or (path is None and analysis.outcome not in _WITHOUT_LESION):
            return None
        paths.append(None if path is None else spool.readable(path))
    return TrialFiles(
        images=spool.all_readable(images),
        champion=paths[0],
        candidate=paths[1],
        added=tuple(
            (spool.readable(addition.path), addition.lesion) for addition in added_lesions(connection, pair.sent.job_id)
        ),
    )


def _drawn(
    process: ConfinedProcess, wanted: Sequence[LesionDisagreement], files: Mapping[str, TrialFiles]
) -> dict[LesionDisagreement, SlicePicture | None]:
    drawn: dict[LesionDisagreement, SlicePicture | None] = dict.fromkeys(wanted)
    for job_id in dict.fromkeys(disagreement.job_id for disagreement in wanted):
        of_job = [disagreement for disagreement in wanted if disagreement.job_id == job_id]
        uids = tuple((disagreement.lesion.champion, disagreement.lesion.candidate) for disagreement in of_job)
        study = of_job[0].study_instance_uid
        try:
            pictures = process.call(f"pictures of study {study}", draw_disagreements, files[job_id], uids)
        except InputError as error:
            logger.warning("study %s: its disagreements are not drawn: %s", study, error)
            continue
        drawn |= zip(of_job, pictures, strict=True)
    return drawn
