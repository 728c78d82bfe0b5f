"""Text of reports: outcome, reason, scope, remarks and the superseded report, as sentences for a radiologist.

The words of the outcomes are those of ``node.outcome``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from node.outcome import ANALYSED, Outcome
from node.pipeline import Findings, Measurement
from node.results.analysis import Analysis, is_positive, outcome_of
from node.wording import in_words


def headline_of(analysis: Analysis) -> str:
    """Return the first line of every report: outcome, reason, and for *no findings* what the algorithm looks for."""
    scope = analysis.algorithm.scope if analysis.outcome == Outcome.NO_FINDINGS else ""
    return " ".join(_sentence(text) for text in (f"Outcome: {analysis.outcome}", analysis.reason, scope) if text)


def scope_of(analysis: Analysis) -> str:
    """Return what the algorithm detects and misses, unless the headline states it or nothing was analysed."""
    return analysis.algorithm.scope if analysis.outcome in ANALYSED - {Outcome.NO_FINDINGS, Outcome.DERIVED} else ""


def supersession_of(analysis: Analysis) -> str:
    """Return a sentence that names the superseded report; empty for a first result."""
    return f"Version {analysis.version}; replaces {analysis.replaces}." if analysis.replaces else ""


def remarks_of(analysis: Analysis) -> tuple[str, ...]:
    """Return remarks in order: missing images, assertions, targets, remarks of the pipeline, withheld objects."""
    caveat = (analysis.caveat,) if analysis.caveat else ()
    if analysis.findings is None:
        return (*caveat, *analysis.withheld)
    return (
        *caveat,
        *(assertion.in_words() for assertion in analysis.asserted),
        *_looked_for(analysis.findings),
        *analysis.findings.remarks,
        *analysis.withheld,
    )


def measured_lines(findings: Findings | None) -> tuple[str, ...]:
    """Return what was measured and judged without a mask, one line for the study and one for each group."""
    if findings is None:
        return ()
    study = _measured(findings.measurements)
    groups = (
        "; ".join(
            (
                group.label,
                *_measured(group.measurements),
                *(f"{name.meaning}: {value.meaning}" for name, value in group.evaluations.items()),
            )
        )
        for group in findings.groups
    )
    return (*(["; ".join(study)] if study else []), *groups)


def _measured(measurements: Iterable[Measurement]) -> tuple[str, ...]:
    return tuple(
        in_words(
            m.name.meaning if m.derivation is None else f"{m.name.meaning} ({m.derivation.meaning.lower()})",
            m.value,
            m.unit.value,
        )
        for m in measurements
    )


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _looked_for(findings: Findings) -> Iterator[str]:
    """Return a sentence that says what the absence of findings means."""
    if findings.looked_for and not is_positive(findings):
        names = ", ".join(dict.fromkeys(code.meaning for code in findings.looked_for))
        yield f"Looked for: {names}; none was found in what was analysed."
    elif outcome_of(findings) == Outcome.MEASURED and all(s.empty for s in findings.segments):
        names = ", ".join(segment.label for segment in findings.segments)
        if names:
            yield f"Not seen in these images: {names}."
