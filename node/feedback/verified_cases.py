"""Verdicts as truth: analyses of which readers have judged every lesion, with an outline of each that is there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from node.errors import InputError
from node.feedback.quality import REPORTED
from node.feedback.truth import TruthCase, TruthPart
from node.ledger.engine import snapshot
from node.ledger.judged_cases import CaseVerdict, JudgedCase, judged_cases
from node.ledger.verdict import SourceKind, Verdict
from node.spool import Spool
from node.studies.attributes import SEGMENTATIONS

_COMPLETE = (Verdict.ADDED, Verdict.NOTHING_MISSED)
_COULD_ADD = (SourceKind.SEGMENTATION, SourceKind.REPORT)


@dataclass(frozen=True, kw_only=True)
class VerifiedCase:
    """A judged analysis and the truth that follows from its verdicts."""

    judged: JudgedCase
    case: TruthCase


@dataclass(frozen=True, kw_only=True)
class VerifiedCases:
    """What the ledger holds of a pipeline."""

    cases: tuple[VerifiedCase, ...]
    left_out: dict[str, int]
    """Why other judged analyses cannot be used, and how many."""


def read_verified_cases(engine: sa.Engine, spool: Spool, pipeline: str) -> VerifiedCases:
    """Return the verified cases of a pipeline. Raises ``InputError`` when there is none."""
    with snapshot(engine) as connection:
        judged = judged_cases(connection, pipeline, REPORTED, SEGMENTATIONS)
    cases, left_out = [], Counter[str]()
    for case in judged:
        if why := _unusable(case):
            left_out[why] += 1
        else:
            cases.append(VerifiedCase(judged=case, case=_case(case, spool)))
    if not cases:
        reasons = "; ".join(f"{number}: {why}" for why, number in left_out.items())
        raise InputError(
            f"no analysis of pipeline {pipeline!r} that is still stored has been judged completely"
            f"{f' ({reasons})' if reasons else ''}; see docs/verdicts.md for how readers judge"
        )
    return VerifiedCases(cases=tuple(cases), left_out=dict(left_out))


def _unusable(judged: JudgedCase) -> str:
    """Why the verdicts are no whole truth; empty: they are."""
    given = judged.verdicts
    on_ours = [verdict for verdict in given if verdict.verdict not in _COMPLETE]
    drawn = [verdict for verdict in given if verdict.verdict in (Verdict.EDITED, Verdict.ADDED)]
    if not any(verdict.kind in _COULD_ADD or verdict.verdict == Verdict.NOTHING_MISSED for verdict in given):
        return "no reader says whether a lesion was missed"
    if len(on_ours) < judged.findings:
        return "a lesion without a verdict"
    if any(verdict.kind != SourceKind.SEGMENTATION for verdict in drawn):
        return "a lesion that was edited or added without an outline"
    lacks_ours = judged.segmentation is None and any(verdict.verdict == Verdict.ACCEPTED for verdict in given)
    if not judged.images or lacks_ours or any(verdict.path is None for verdict in drawn):
        return "its images or outlines are no longer stored"
    return ""


def _case(judged: JudgedCase, spool: Spool) -> TruthCase:
    ours = None if judged.segmentation is None else spool.readable(judged.segmentation)
    parts = []
    if ours is not None and (accepted := _lesions(judged.verdicts, Verdict.ACCEPTED)):
        parts.append(TruthPart(path=ours, lesions=accepted))
    for path in dict.fromkeys(verdict.path for verdict in judged.verdicts if verdict.path is not None):
        given = [verdict for verdict in judged.verdicts if verdict.path == path]
        added, edited = _lesions(given, Verdict.ADDED), _lesions(given, Verdict.EDITED)
        if added or edited:
            parts.append(TruthPart(path=spool.readable(path), lesions=added, edits=edited, edited=ours))
    return TruthCase(
        study_instance_uid=judged.study_instance_uid,
        series_instance_uid=judged.series_instance_uid,
        images=spool.all_readable(judged.images),
        parts=tuple(parts),
    )


def _lesions(given: Sequence[CaseVerdict], wanted: Verdict) -> tuple[str, ...]:
    return tuple(verdict.lesion for verdict in given if verdict.verdict == wanted)
