"""What a trial shows, in words."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from node.feedback.quality import LEAST, Estimate
from node.feedback.quality_report import written
from node.feedback.trial import Side, Trial


def as_text(trial: Trial) -> str:
    """Return the report for a terminal."""
    champion, other = trial.champion, trial.candidate
    if not trial.analyses:
        nothing = (
            f"No series was analysed by both {champion.pipeline} and {other.pipeline} in a trial; a rule with "
            f'shadow = ["{other.pipeline}"] begins one.'
        )
        return "\n".join([nothing, *_waiting(trial)])
    lines = [f"{trial.analyses} series, analysed by {_named(champion)} (champion) and {_named(other)} (candidate)"]
    lines += _waiting(trial)
    for side in (champion, other):
        lines += list(_cost(side, trial.analyses))
    lines += [*lesion_lines(trial), *hit_lines(trial)]
    number = len(trial.disagreements)
    lines += ["", f"They disagree on {number} series{' (pages of the dashboard):' if number else '.'}"]
    lines += [f"  /study/{d.study_instance_uid}  {d.scanner or 'no scanner'}: {d.what}" for d in trial.disagreements]
    return "\n".join(lines)


def _waiting(trial: Trial) -> Iterator[str]:
    if trial.untried.since is not None:
        since = datetime.fromtimestamp(trial.untried.since, UTC).astimezone()
        yield f"{trial.untried.series} series not tried for lack of idle time, the first since {since:%Y-%m-%d %H:%M}"


def lesion_lines(trial: Trial) -> Iterator[str]:
    """Return lesions of both and of one alone, and how far both agree."""
    yield (
        f"lesions: {trial.paired} of both, {trial.champion.lesions_alone} of the champion alone, "
        f"{trial.candidate.lesions_alone} of the candidate alone"
    )
    yield f"  mean Dice of both: {_agreement(trial.dice, '')}"
    yield f"  mean volume difference, candidate - champion: {_agreement(trial.volume_difference, '%')}"
    if trial.limits_of_agreement is not None:
        low, high = trial.limits_of_agreement
        yield f"  limits of agreement of volumes: {low:+.1f} to {high:+.1f} %"
    if trial.without_masks:
        purged = f"; of {trial.without_images} retention has purged the images" if trial.without_images else ""
        yield f"  {trial.without_masks} series without masks that can be compared{purged}"


def _agreement(of: Estimate | None, unit: str) -> str:
    return f"too few pairs of lesions (under {LEAST})" if of is None else written(of, 1.0, unit)


def _named(side: Side) -> str:
    return " ".join((side.pipeline, "/".join(side.versions))).strip()


def _cost(side: Side, analyses: int) -> Iterator[str]:
    parts = [f"{side.failed} of {analyses} failed"]
    parts += [f"run time {run_time(side)}"] if side.run_seconds is not None else []
    for where, mib in (("host", side.host_mib), ("device", side.device_mib)):
        parts += [f"peak memory ({where}) {mib:.0f} MiB"] if mib is not None else []
    yield f"  {side.pipeline}: {', '.join(parts)}"


def run_time(side: Side) -> str:
    """Return the run time of a side, empty when it is not known."""
    return "" if side.run_seconds is None else "median {:.1f} s, 90 % within {:.1f} s".format(*side.run_seconds)


def hit_lines(trial: Trial) -> Iterator[str]:
    """Return who reports the lesions that readers confirmed or added."""
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
