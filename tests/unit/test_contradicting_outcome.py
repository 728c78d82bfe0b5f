"""An outcome that the findings contradict is refused in words, not with the key of a table."""

from __future__ import annotations

from pathlib import Path

import pytest
from analyses import analysis, source_of, two_lesions
from dicom_files import ct_series

from node.errors import EncodeError
from node.outcome import Outcome
from node.pipeline import Findings, codes
from node.results.encode import encode

NOTHING = Findings(looked_for=(codes.SCT.Nodule,))
WITH_LESIONS = {Outcome.FINDINGS, Outcome.PARTIAL}
WITHOUT = {Outcome.NO_FINDINGS, Outcome.PARTIAL, Outcome.NOT_APPLICABLE, Outcome.FAILED}
ALL = set(Outcome) - {Outcome.DERIVED}
"""An outcome *derived* has no report."""


def report(outcome: Outcome, folder: Path, *, lesions: bool) -> int:
    source = source_of(folder, ct_series(5, 32))
    findings = two_lesions(source) if lesions else NOTHING
    return len(encode(analysis(findings, outcome=outcome, reason="a reason"), source, ("sr",)))


@pytest.mark.parametrize(
    ("outcome", "lesions"),
    [
        *((outcome, True) for outcome in sorted(ALL - WITH_LESIONS)),
        *((outcome, False) for outcome in sorted(ALL - WITHOUT)),
    ],
)
def test_an_outcome_that_contradicts_the_findings_is_refused_in_words(
    outcome: Outcome,
    lesions: bool,  # noqa: FBT001
    tmp_path: Path,
) -> None:
    with pytest.raises(EncodeError, match=f"Analysis.outcome is '{outcome}', which its findings contradict"):
        report(outcome, tmp_path, lesions=lesions)


@pytest.mark.parametrize(
    ("outcome", "lesions"),
    [*((outcome, True) for outcome in sorted(WITH_LESIONS)), *((outcome, False) for outcome in sorted(WITHOUT))],
)
def test_every_other_outcome_has_a_report(outcome: Outcome, lesions: bool, tmp_path: Path) -> None:  # noqa: FBT001
    assert report(outcome, tmp_path, lesions=lesions) == 1
