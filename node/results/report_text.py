"""Text of reports: outcome, reason, scope, remarks and the superseded report, as sentences for a radiologist.

The words of the outcomes are those of ``node.outcome``. They are English but where a language is spoken, as by the PDF
for a destination with one; what a third-party pipeline says in its own words stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from node.outcome import ANALYSED, Outcome
from node.pipeline import Findings, Measurement
from node.results.analysis import Analysis, is_positive, outcome_of
from node.results.terms import evaluation_lines, label_in_words, label_of, term
from node.translation import current_language, gettext
from node.wording import in_words


def headline_of(analysis: Analysis) -> str:
    """Return the first line of every report: outcome, reason, and for *no findings* what the algorithm looks for."""
    scope = analysis.algorithm.scope if analysis.outcome == Outcome.NO_FINDINGS else ""
    outcome = gettext("Outcome: {outcome}", outcome=gettext(str(analysis.outcome)))
    return gettext(" ").join(_sentence(f"{text}") for text in (outcome, analysis.reason, scope) if text)


def scope_of(analysis: Analysis) -> str:
    """Return what the algorithm detects and misses, unless the headline states it or nothing was analysed."""
    states = analysis.outcome in ANALYSED - {Outcome.NO_FINDINGS, Outcome.DERIVED}
    return f"{analysis.algorithm.scope}" if states else ""


def supersession_of(analysis: Analysis) -> str:
    """Return a sentence that names the superseded report; empty for a first result."""
    if not analysis.replaces:
        return ""
    return gettext("Version {version}; replaces {report}.", version=analysis.version, report=analysis.replaces)


def remarks_of(analysis: Analysis) -> tuple[str, ...]:
    """Return remarks in order: missing images, assertions, targets, remarks of the pipeline, withheld objects."""
    return tuple(f"{remark}" for remark in _remarks(analysis))


def _remarks(analysis: Analysis) -> tuple[str, ...]:
    caveat = (analysis.caveat,) if analysis.caveat else ()
    if analysis.findings is None:
        return (*caveat, *analysis.withheld)
    return (
        *caveat,
        *(assertion.in_words(term) for assertion in analysis.asserted),
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
        gettext("; ").join(
            (
                label_in_words(group.label, group.finding.meaning, group.laterality),
                *_measured(group.measurements),
                *evaluation_lines(group.evaluations),
            )
        )
        for group in findings.groups
    )
    return (*([gettext("; ").join(study)] if study else []), *groups)


def _measured(measurements: Iterable[Measurement]) -> tuple[str, ...]:
    return tuple(
        in_words(
            term(m.name.meaning)
            if m.derivation is None
            else f"{term(m.name.meaning)} ({term(m.derivation.meaning.lower())})",
            m.value,
            m.unit.value,
        )
        for m in measurements
    )


def _sentence(text: str) -> str:
    if text.endswith((".", "!", "?", "。")):
        return text
    return f"{text}{'。' if current_language() == 'zh' else '.'}"


def _looked_for(findings: Findings) -> Iterator[str]:
    """Return a sentence that says what the absence of findings means."""
    if findings.looked_for and not is_positive(findings):
        names = gettext(", ").join(dict.fromkeys(term(code.meaning) for code in findings.looked_for))
        yield gettext("Looked for: {names}; none was found in what was analysed.", names=names)
    elif outcome_of(findings) == Outcome.MEASURED and all(s.empty for s in findings.segments):
        names = gettext(", ").join(f"{label_of(segment)}" for segment in findings.segments)
        if names:
            yield gettext("Not seen in these images: {names}.", names=names)
