"""Outcomes of an analysis: the words of reports, dashboard and ledger.

``node.results.report_text`` makes the sentences around them.
"""

from __future__ import annotations

from enum import StrEnum


class Outcome(StrEnum):
    """Outcome of an analysis."""

    FINDINGS = "findings"
    """Something is present."""
    NO_FINDINGS = "no findings"
    """Nothing that was looked for is present."""
    INDETERMINATE = "indeterminate"
    """The pipeline cannot decide."""
    MEASURED = "measured"
    """Structures were outlined without a claim."""
    PARTIAL = "partial"
    """Only a part was analysed, with or without findings."""
    DERIVED = "derived"
    """Only new images were made."""
    NOT_APPLICABLE = "not applicable"
    FAILED = "failed"


ANALYSED: frozenset[Outcome] = frozenset(
    {Outcome.FINDINGS, Outcome.NO_FINDINGS, Outcome.INDETERMINATE, Outcome.MEASURED, Outcome.PARTIAL, Outcome.DERIVED}
)
"""Outcomes of a pipeline that ran to its end and said something."""
