"""One series through one pipeline: the needs, the run, and what the node adds to its findings."""

from __future__ import annotations

from collections.abc import Callable

from node.pipeline import Findings, Pipeline
from node.results import Outcome, of_part, outcome_of, plausible
from node.results.growth import compare
from node.studies.preflight import unmet
from node.studies.source import SourceSeries


def analyse(
    pipeline: Pipeline,
    source: SourceSeries,
    *,
    admit: Callable[[], None] | None = None,
    without_prior: str = "",
    incomplete: str = "",
) -> tuple[Outcome, str, Findings]:
    """Outcome, its reason and the findings.

    ``admit`` is called once the needs are met, before the run; ``without_prior``: see ``compare``; ``incomplete``: what
    is known to be missing from the series. Raises what the pipeline raises, ``Unsuitable`` too.
    """
    reason = unmet(pipeline.needs, source)
    if reason:
        return "not applicable", reason, Findings()
    if admit is not None:
        admit()
    findings = of_part(of_part(pipeline.run(source), incomplete), source.left_out)
    findings = plausible(compare(findings, source, pipeline.algorithm, without_prior), source)
    return outcome_of(findings), findings.partial, findings
