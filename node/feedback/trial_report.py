"""The report of a trial: reads ledger and masks, and puts what they show into words."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import sqlalchemy as sa

from node.confined import Bounds, ConfinedProcess
from node.errors import InputError
from node.feedback.mask_comparison import MaskComparison, TrialFiles, compare_masks
from node.feedback.quality import LEAST, Estimate
from node.feedback.quality_report import written
from node.feedback.trial import ComparedPair, Side, Trial, trial_of
from node.ledger.clicked_verdicts import current_verdicts
from node.ledger.engine import snapshot
from node.ledger.jobs import get_job, source_paths
from node.ledger.trials import TrialPair, added_lesions, segmentation_path, trial_pairs
from node.outcome import Outcome
from node.spool import Spool
from node.studies.attributes import SEGMENTATIONS

logger = logging.getLogger(__name__)

_BOUNDS = Bounds(memory_mib=4096, cpu_seconds=120, wall_seconds=300.0)
_WITHOUT_LESION = (Outcome.NO_FINDINGS,)
"""Outcomes without a segmentation that can be compared all the same."""


def read_trial(engine: sa.Engine, spool: Spool, champion: str, candidate: str, most: int) -> Trial:
    """Compare the latest ``most`` pairs of analyses."""
    with snapshot(engine) as connection:
        pairs = trial_pairs(connection, champion, candidate, most)
        files = [_files(connection, spool, pair) for pair in pairs]
        verdicts = current_verdicts(connection, [pair.sent.job_id for pair in pairs])
    process = ConfinedProcess("comparison of masks", readable=spool.data_folders, bounds=_BOUNDS)
    try:
        masks = [_masks(process, pair, of) for pair, of in zip(pairs, files, strict=True)]
    finally:
        process.close()
    compared = [
        ComparedPair(
            pair=pair,
            masks=of,
            verdicts={uid: one.verdict for uid, one in verdicts.get(pair.sent.job_id, {}).items()},
        )
        for pair, of in zip(pairs, masks, strict=True)
    ]
    return trial_of(champion, candidate, compared)


def _masks(process: ConfinedProcess, pair: TrialPair, files: TrialFiles | None) -> MaskComparison | None:
    if files is None:
        return None
    try:
        return process.call(f"trial on study {pair.study_instance_uid}", compare_masks, files)
    except InputError as error:
        logger.warning("study %s: its masks are not compared: %s", pair.study_instance_uid, error)
        return None


def _files(connection: sa.Connection, spool: Spool, pair: TrialPair) -> TrialFiles | None:
    paths: list[Path | None] = []
    for one in (pair.champion, pair.candidate):
        path = segmentation_path(connection, one.job_id, SEGMENTATIONS)
        if path is None and one.outcome not in _WITHOUT_LESION:
            return None
        paths.append(None if path is None else spool.readable(path))
    images = source_paths(connection, get_job(connection, pair.champion.job_id))
    return TrialFiles(
        images=spool.all_readable(images),
        champion=paths[0],
        candidate=paths[1],
        added=tuple((spool.readable(one.path), one.lesion) for one in added_lesions(connection, pair.sent.job_id)),
    )


def as_text(trial: Trial) -> str:
    """Return the report for a terminal."""
    one, other = trial.champion, trial.candidate
    if not trial.analyses:
        return (
            f"No series was analysed by both {one.pipeline} and {other.pipeline} in a trial; a rule with "
            f'shadow = ["{other.pipeline}"] begins one.'
        )
    lines = [f"{trial.analyses} series, analysed by {_named(one)} (champion) and {_named(other)} (candidate)"]
    for side in (one, other):
        lines += list(_cost(side, trial.analyses))
    lines.append(
        f"lesions: {trial.paired} of both, {one.lesions_alone} of the champion alone, "
        f"{other.lesions_alone} of the candidate alone"
    )
    lines.append(f"  mean Dice of both: {_agreement(trial.dice, '')}")
    lines.append(f"  mean volume difference, candidate - champion: {_agreement(trial.volume_difference, '%')}")
    if trial.limits_of_agreement is not None:
        low, high = trial.limits_of_agreement
        lines.append(f"  limits of agreement of volumes: {low:+.1f} to {high:+.1f} %")
    if trial.without_masks:
        lines.append(f"  {trial.without_masks} series without masks that can be compared")
    lines += list(_judged(trial))
    number = len(trial.disagreements)
    lines += ["", f"They disagree on {number} series{' (pages of the dashboard):' if number else '.'}"]
    lines += [f"  /study/{d.study_instance_uid}  {d.scanner or 'no scanner'}: {d.what}" for d in trial.disagreements]
    return "\n".join(lines)


def _agreement(of: Estimate | None, unit: str) -> str:
    return f"too few pairs of lesions (under {LEAST})" if of is None else written(of, 1.0, unit)


def _named(side: Side) -> str:
    return " ".join((side.pipeline, "/".join(side.versions))).strip()


def _cost(side: Side, analyses: int) -> Iterator[str]:
    parts = [f"{side.failed} of {analyses} failed"]
    if side.run_seconds is not None:
        parts.append("run time median {:.1f} s, 90 % within {:.1f} s".format(*side.run_seconds))
    for where, mib in (("host", side.host_mib), ("device", side.device_mib)):
        parts += [f"peak memory ({where}) {mib:.0f} MiB"] if mib is not None else []
    yield f"  {side.pipeline}: {', '.join(parts)}"


def _judged(trial: Trial) -> Iterator[str]:
    hits = trial.hits
    if hits is None:
        yield "No reader has judged any of these analyses: the numbers above are agreement, and say not who is right."
        return
    total = hits.both + hits.champion_only + hits.candidate_only + hits.neither
    yield (
        f"{total} lesions that readers confirmed or added: {hits.both} found by both, {hits.champion_only} by the "
        f"champion alone, {hits.candidate_only} by the candidate alone, {hits.neither} by neither"
    )
    yield f"  McNemar's exact test: p = {hits.p_value:.3g}"
    yield f"  {hits.rejected} lesions that readers rejected, {hits.rejected_both} of them reported by both"
    yield "  Lesions of the analysis in shadow that nobody else reports have no verdict."
