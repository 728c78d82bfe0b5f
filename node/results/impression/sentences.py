"""The impression of a report (PS3.16, 121073): one sentence for each finding, made from coded content alone.

Size and volume are given of findings, volume alone of structures. What the report says only in its own words, such as
why a part was not analysed, is left to the report (``node.results.report_text``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from node.config import Language
from node.outcome import Outcome
from node.results.impression.translation import Translation, translation
from node.results.report_codes import ATTENUATION, CHANGE, DOUBLING_TIME, EARLIER_VOLUME, PRESENCES, SUMMARIES
from node.results.report_statement import MeasuredValue, ReportStatement, StatedFinding, is_presence, read_statement

_KINDS = ("C41144",)
"""Evaluations (NCIt, Texture) whose value names the finding more exactly."""
_POSITIONS = ("lung-position", "head-position")
"""Evaluations (99AINODE) whose value is the place of the finding."""
_AXES = (codes.SCT.LongAxis, codes.SCT.ShortAxis)
_GROWTH = {EARLIER_VOLUME: "previously {quantity}", CHANGE: "{quantity}", DOUBLING_TIME: "doubling time {quantity}"}
_CERTAINTY = (codes.DCM.CertaintyOfFinding, codes.DCM.CADOperatingPoint)
_ELSEWHERE = (*_AXES, *_GROWTH, codes.SCT.Volume, *_CERTAINTY, *ATTENUATION)
"""Measurements with a phrase of their own, or with none."""
_ROUGH = (codes.DCM.QualityAssessment, codes.DCM.UsableDoesNotMeetTheQualityControlStandard)
"""The images are too coarse for the size of the finding."""
_OUTCOMES = {
    Outcome.NO_FINDINGS: "No finding above the operating point of the algorithm.",
    Outcome.INDETERMINATE: "The result is indeterminate.",
    Outcome.PARTIAL: "Only a part of the images was assessed; the report of the algorithm says why.",
    Outcome.NOT_APPLICABLE: "Not assessed: the images do not meet the requirements of the algorithm.",
    Outcome.FAILED: "Not assessed: the analysis failed.",
}


def impression_of(report: Dataset, language: Language) -> str:
    """Return the impression of a report, one sentence on each line.

    Raises ``InputError`` when the report is not one of this node.
    """
    return "\n".join(_sentences(read_statement(report), translation(language)))


def _sentences(statement: ReportStatement, words: Translation) -> Iterator[str]:
    asserted = {finding.asserted[0]: finding for finding in statement.findings if finding.asserted}
    for finding in statement.findings:
        if finding.asserted is None:
            is_outcome = finding.finding in SUMMARIES.values()
            structure = statement.outcome == Outcome.MEASURED
            parts = _others(finding, words) if is_outcome else _finding(finding, words, structure=structure)
            yield from [_sentence(parts, words)] if parts else []
    for name, value in statement.evaluations.items():
        if is_presence(value):
            sentence = words.of(f"{{finding}}: {PRESENCES[value.value]}", finding=words.term(name.meaning))
            yield _sentence([sentence, *_probability(asserted.get(name), words)], words)
        else:
            yield _sentence(_judged({name: value}, words), words)
    if statement.outcome in _OUTCOMES:
        yield words.of(_OUTCOMES[statement.outcome])


def _sentence(parts: list[str], words: Translation) -> str:
    text = words.of(", ").join(parts)
    return words.of("{sentence}.", sentence=text[:1].upper() + text[1:])


def _finding(finding: StatedFinding, words: Translation, *, structure: bool) -> list[str]:
    kind = next((value for name, value in finding.evaluations.items() if name.value in _KINDS), finding.finding)
    parts = [] if kind is None else [words.term(kind.meaning)]
    parts += _place(finding, words)
    long, short, volume = (_number(finding, name) for name in (*_AXES, codes.SCT.Volume))
    if long and short and not structure:
        parts.append(_size(long, short, words))
    growth = words.of(", ").join(_growth(finding, words))
    if volume:
        parts.append(_quantity(volume, words))
    if growth:
        parts[-1] = words.of("{phrase} ({remark})", phrase=parts[-1], remark=growth)
    return parts + _others(finding, words)


def _place(finding: StatedFinding, words: Translation) -> Iterator[str]:
    """Side and place in one phrase where the catalog has it."""
    position = next((value for name, value in finding.evaluations.items() if name.value in _POSITIONS), None)
    side = finding.laterality.meaning.lower() if finding.laterality else ""
    for place in filter(None, (position, finding.site)):
        phrase = f"{side} {place.meaning.lower()}".strip()
        if words.has(phrase):
            yield words.of(phrase)
            return
    if finding.site is not None and finding.site != finding.finding:
        yield words.term(finding.site.meaning)
    if side:
        yield words.of(side)
    if position is not None:
        yield words.term(position.meaning)


def _size(long: MeasuredValue, short: MeasuredValue, words: Translation) -> str:
    """Return ``13 x 12 mm``, the unit once where both have it."""
    first, second = _quantity(long, words), _quantity(short, words)
    unit = first.removeprefix(words.number(long.number))
    return f"{first.removesuffix(unit) if second.endswith(unit) else first} x {second}"


def _growth(finding: StatedFinding, words: Translation) -> Iterator[str]:
    for name, phrase in _GROWTH.items():
        value = _number(finding, name)
        if value is not None and name == CHANGE:
            signed = f"{'+' if float(value.number) > 0 else ''}{words.number(value.number)}"
            yield words.of("{number} %", number=signed)
        elif value is not None:
            yield words.of(phrase, quantity=_quantity(value, words))


def _others(finding: StatedFinding, words: Translation) -> list[str]:
    """What else was measured and judged, with its name; not what describes the values of the images."""
    measured = [
        words.of("{name} {quantity}", name=words.term(m.name.meaning), quantity=_quantity(m, words))
        for m in finding.measurements
        if m.derivation is None and m.name not in _ELSEWHERE
    ]
    known = (codes.DCM.SummaryOfAnalyses.value, *_KINDS, *_POSITIONS)
    return measured + _judged({k: v for k, v in finding.evaluations.items() if k.value not in known}, words)


def _judged(evaluations: Mapping[Code, Code], words: Translation) -> list[str]:
    return [
        words.of("measurement of limited quality")
        if (name, value) == _ROUGH
        else words.of("{name}: {value}", name=words.term(name.meaning), value=words.term(value.meaning))
        for name, value in evaluations.items()
    ]


def _probability(finding: StatedFinding | None, words: Translation) -> Iterator[str]:
    value = None if finding is None else _number(finding, codes.DCM.CertaintyOfFinding)
    if value is not None:
        yield words.of("probability {quantity}", quantity=_quantity(value, words))


def _quantity(value: MeasuredValue, words: Translation) -> str:
    return words.quantity(value.number, value.unit.value)


def _number(finding: StatedFinding, name: Code) -> MeasuredValue | None:
    return next((m for m in finding.measurements if m.name == name and m.derivation is None), None)
