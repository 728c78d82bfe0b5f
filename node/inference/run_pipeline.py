"""Run one pipeline on one series: preflight, analysis, and the node's additions to the findings."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import replace

from node.errors import IdentityError
from node.inference.task import ResultFiles
from node.outcome import Outcome
from node.pipeline import Algorithm, Findings, Pipeline, Result, Unsuitable
from node.results.analysis import in_order, of_part, outcome_of, reason_of
from node.results.plausibility import plausible, unfit
from node.results.prior.lesion_matching import compare
from node.studies.identity import PATIENT, contradictions
from node.studies.image_needs import taken_images
from node.studies.preflight import unmet
from node.studies.source import SourceSeries
from node.studies.source_result import SourceResult
from node.studies.volumes import differences
from node.translation import gettext, in_every_language, sentence
from node.wording import together

logger = logging.getLogger(__name__)
_NO_CODE = re.compile(r"No matching code for keyword '(\w+)'")
"""What pydicom says of ``codes.SCT.Infarct``."""


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
    is known to be missing from the series, which the reason does not repeat. Raises what the pipeline raises,
    ``Unsuitable`` too.
    """
    reason = unmet(pipeline.needs, source)
    if reason:
        return Outcome.NOT_APPLICABLE, reason, Findings()
    if admit is not None:
        admit()
    taken, others = taken_images(pipeline.needs, source) if pipeline.needs.images else (source, "")
    findings = with_results(pipeline.run(taken), source.results)
    if others:
        findings = replace(findings, remarks=(in_every_language(lambda: _beginning(others)), *findings.remarks))
    if pipeline.needs.volumes_by:
        keys = [key for key, _ in source.parts]
        given = sentence(
            "The {number} volumes of the series were analysed together: {attributes}.",
            number=len(keys),
            attributes=differences(keys),
        )
        findings = replace(findings, remarks=(given, *findings.remarks))
        source = source.first_volume
    if reason := unfit(findings, source):
        logger.error("%s: %s check activation and threshold of the model", pipeline.algorithm.name, reason)
        return Outcome.FAILED, reason, Findings()
    if source.grid.assumption:
        findings = replace(findings, remarks=(source.grid.assumption, *findings.remarks))
    stated = of_part(findings, "" if source.left_out in incomplete else source.left_out).partial
    findings = in_order(of_part(of_part(findings, incomplete), source.left_out))
    algorithm = chained_algorithm(pipeline.algorithm, described(source.results))
    findings = plausible(compare(findings, source, algorithm, without_prior), source)
    outcome = outcome_of(findings)
    if outcome == Outcome.FAILED:
        logger.error(
            "%s returned no result and does not say what it looks for; return Findings(looked_for=...) so that finding "
            "nothing means *no findings*, or Findings(assertions=...)",
            pipeline.algorithm.name,
        )
    reason = together(stated, findings.cut_off) if outcome == Outcome.PARTIAL else reason_of(findings)
    return outcome, reason, findings


def stated_reason(unsuitable: Unsuitable) -> str:
    """Return why a series is not applicable, with its translations where the pipeline gave them."""
    stated = unsuitable.args[0] if len(unsuitable.args) == 1 else ""
    return (stated if isinstance(stated, str) else str(unsuitable)) or sentence("the pipeline gave no reason")


def broken(pipeline: str, error: Exception) -> str:
    """Say that a pipeline raised ``error``, with advice where it names a code that pydicom does not have."""
    message = f"pipeline {pipeline!r} broke: {type(error).__name__}: {error}"
    sought = _NO_CODE.match(str(error)) if isinstance(error, AttributeError) else None
    if sought is None:
        return message
    words = re.sub("(?<=[a-z])(?=[A-Z])", " ", sought[1]).lower()
    return f"{message}; `ainode codes find {words}` searches for it, and any other code is Code(value, scheme, meaning)"


def _beginning(text: str) -> str:
    """Return a part of a sentence as one."""
    shown = f"{text}"
    return gettext("{sentence}.", sentence=f"{shown[0].upper()}{shown[1:]}")


def results_of(files: Mapping[str, ResultFiles], source: SourceSeries) -> dict[str, SourceResult]:
    """Return the results for a pipeline. ``source``: the images that they are about. Raises ``InputError``."""
    return {
        name: SourceResult(of.described_by, of.segmentation, source, partial=of.partial) for name, of in files.items()
    }


def described(results: Mapping[str, Result]) -> dict[str, str]:
    """Algorithm, version and weights of each result, by the name of its pipeline."""
    return {
        name: ", weights ".join(filter(None, (f"{of.algorithm} {of.version}".strip(), of.weights_sha256)))
        for name, of in results.items()
    }


def chained_algorithm(algorithm: Algorithm, described: Mapping[str, str]) -> Algorithm:
    """``algorithm`` with those whose results it used among its parameters, as ``described`` has them."""
    if not described:
        return algorithm
    used = {f"after {name}": text for name, text in described.items()}
    return replace(algorithm, parameters={**algorithm.parameters, **used})


def with_results(findings: Findings, results: Mapping[str, Result]) -> Findings:
    """``findings`` with a remark on each result that was used; they say no more than a partial one allows."""
    for name, of in results.items():
        named = {"name": name, "algorithm": f"{of.algorithm} {of.version}".strip()}
        used = sentence("Based on the result of {name} ({algorithm}).", **named)
        findings = replace(findings, remarks=(*findings.remarks, used))
        if of.partial:
            partial = sentence("the result of {name} ({algorithm}) is partial: {why}", **named, why=of.partial)
            findings = of_part(findings, partial)
    return findings


def licensed(findings: Findings, licence: str) -> Findings:
    """``findings`` with a remark on the licence of the model, where one is configured."""
    if not licence:
        return findings
    return replace(findings, remarks=(*findings.remarks, sentence("Licence of the model: {licence}.", licence=licence)))


def licensed_algorithm(algorithm: Algorithm, licence: str) -> Algorithm:
    """``algorithm`` with the licence among its parameters: reports that differ must not share UIDs."""
    return replace(algorithm, parameters={**algorithm.parameters, "license": licence}) if licence else algorithm


def one_patient(source: SourceSeries) -> None:
    """Raise ``IdentityError`` when a companion is of another patient than ``source``."""
    for name, companion in source.companions.items():
        if keywords := contradictions((*source.datasets, *companion.datasets), PATIENT):
            raise IdentityError(f"{', '.join(keywords)}: companion {name!r} contradicts the series; nothing is sent")
