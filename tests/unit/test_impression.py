"""The impression says what the report states, in every language the same, and nothing else."""

from __future__ import annotations

import re
import string
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from importlib.resources import files
from io import BytesIO
from pathlib import Path
from typing import Any, get_args

import pytest
from analyses import OUTCOMES, analysis, one, source_of, two_lesions
from babel.messages.pofile import read_po
from dicom_files import ct_series
from drawn_examples import examples
from fhir_server import validate
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from pdf_pages import page
from pydicom import Dataset, FileDataset, dcmread

from node.config import FhirVersion, Language
from node.outcome import Outcome
from node.pipeline import Assertion, Code, Findings, Lesion, Measurement, codes
from node.pipeline.assertion import CODES
from node.results.encode import encode
from node.results.fhir_report import report_bundle
from node.results.gate.check import check
from node.results.hl7_report import Addressee, report_message
from node.results.impression.sentences import impression_of
from node.results.impression.translation import LANGUAGES, translation
from node.results.report_codes import CHANGE, DOUBLING_TIME, EARLIER_VOLUME, PRESENCES
from node.results.report_statement import read_statement
from node.studies.source import SourceSeries
from node.wording import digits, quantity
from pipelines.brain.anatomy import STRUCTURES
from pipelines.nodule.appearance import (
    MALIGNANCY,
    NON_SOLID,
    PART_SOLID,
    POSITION,
    SCORES,
    SOLID,
    TEXTURE,
    THIRDS,
)
from pipelines.tumor.pipeline import ABNORMALITY, _position

EVERY: tuple[Language, ...] = get_args(Language)
SIDES = (codes.SCT.Left, codes.SCT.Right)
SIDE_WORDS = {
    "en": ("left", "right"),
    "de": ("link", "recht"),
    "fr": ("gauche", "droit"),
    "es": ("izquierd", "derech"),
    "zh": ("左", "右"),
    "ja": ("左", "右"),
}
PERCENT, MM3, DAYS = codes.UCUM.Percent, codes.UCUM.CubicMillimeter, Code("d", "UCUM", "day")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> SourceSeries:
    return source_of(tmp_path_factory.mktemp("images"), ct_series(8, 48))


def report_on(source: SourceSeries, **of: Any) -> FileDataset:
    return one(encode(analysis(**of), source, ["sr alone"]), "sr alone")


def numbers(text: str) -> list[str]:
    return [number.replace(",", ".") for number in re.findall(r"\d+(?:[.,]\d+)?", text)]


def catalog(language: str) -> dict[str, str]:
    file = files("node.results.impression").joinpath("catalogs", f"{language}.po")
    return {str(m.id): str(m.string) for m in read_po(BytesIO(file.read_bytes())) if m.id}


def placeholders(phrase: str) -> list[str]:
    return sorted(name for _, name, _, _ in string.Formatter().parse(phrase) if name)


def test_every_catalog_translates_every_phrase_with_the_same_values() -> None:
    assert tuple(LANGUAGES) == EVERY
    phrases = catalog("en")
    for language in EVERY:
        translated = catalog(language)
        assert set(translated) == set(phrases), language
        assert all(translated.values()), language
        assert {p: placeholders(t) for p, t in translated.items()} == {p: placeholders(p) for p in phrases}, language


def test_every_term_of_our_pipelines_is_in_the_catalogs() -> None:
    thirds = ("anterior", "middle", "posterior")
    places = [*(p.meaning for p in THIRDS), *(_position(third, midline=False).meaning for third in thirds)]
    terms = {f"{side.meaning} {place}".lower() for side in SIDES for place in places}
    terms |= {_position(third, midline=True).meaning for third in thirds}
    terms |= {code.meaning for code in (SOLID, PART_SOLID, NON_SOLID, codes.SCT.Nodule, MALIGNANCY, ABNORMALITY)}
    terms |= {code.meaning for code in SCORES} | {structure.code.meaning for structure in STRUCTURES}
    assert terms - set(catalog("en")) == set()


def test_the_words_of_presence_are_those_that_pipelines_state() -> None:
    assert {code.value: presence for presence, code in CODES.items()} == PRESENCES


def described(source: SourceSeries, *changes: dict[str, Any]) -> Findings:
    findings = two_lesions(source)
    lesions = (replace(lesion, **change) for lesion, change in zip(findings.lesions, changes, strict=False))
    return replace(findings, lesions=tuple(lesions))


FOLLOWED = {
    "evaluations": {TEXTURE: SOLID, POSITION: THIRDS[0]},
    "laterality": codes.SCT.Right,
    "measurements": (
        Measurement(name=codes.SCT.LongAxis, value=13.2, unit=codes.UCUM.Millimeter),
        Measurement(name=codes.SCT.ShortAxis, value=11.8, unit=codes.UCUM.Millimeter),
        Measurement(name=codes.SCT.Volume, value=1120.0, unit=MM3),
        Measurement(name=EARLIER_VOLUME, value=412.0, unit=MM3),
        Measurement(name=CHANGE, value=171.8, unit=PERCENT),
        Measurement(name=DOUBLING_TIME, value=180.2, unit=DAYS),
    ),
}
SAID = {
    "en": "Solid pulmonary nodule, right lower lung zone, 1.1 ml (previously 412 mm³, +172 %, doubling time 180 days).",
    "de": "Solider Lungenrundherd, rechtes Lungenunterfeld, 1,1 ml (zuvor 412 mm³, +172 %, Verdopplungszeit 180 Tage).",
    "fr": "Nodule pulmonaire solide, champ pulmonaire inférieur droit, 1,1 ml (antérieurement 412 mm³, +172 %, temps "
    "de doublement 180 jours).",
    "es": "Nódulo pulmonar sólido, campo pulmonar inferior derecho, 1,1 ml (previamente 412 mm³, +172 %, tiempo de "
    "duplicación 180 días).",
    "zh": "实性肺结节，右肺下野，1.1 ml（既往 412 mm³，+172%，倍增时间 180 天）。",
    "ja": "充実型肺結節、右下肺野、1.1 ml（前回 412 mm³、+172%、倍加時間 180 日）。",
}


@pytest.mark.parametrize("language", EVERY)
def test_a_nodule_reads_as_a_radiologist_writes_it(source: SourceSeries, language: Language) -> None:
    report = report_on(source, findings=described(source, FOLLOWED))
    text = impression_of(report, language)
    size = "13 x 12 mm"
    assert size in text
    assert text.replace(size + translation(language).of(", "), "") == SAID[language]


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_each_outcome_has_a_sentence_and_states_no_finding(source: SourceSeries, outcome: str) -> None:
    report = report_on(source, **OUTCOMES[outcome])
    statement = read_statement(report)
    assert statement.outcome == outcome
    for language in EVERY:
        text = impression_of(report, language)
        assert text
        assert not any(word in text for word in (codes.SCT.Nodule.meaning, "mm"))


def test_only_a_part_was_assessed_is_said_next_to_the_findings(source: SourceSeries) -> None:
    report = report_on(source, findings=replace(two_lesions(source), partial="The lower lobes are not shown."))
    assert read_statement(report).outcome == Outcome.PARTIAL
    assert impression_of(report, "en").splitlines()[-1].startswith("Only a part of the images was assessed")


def test_a_classifier_speaks_of_presence_with_its_probability(source: SourceSeries) -> None:
    asserted = Assertion.at(codes.SCT.Hemorrhage, 0.83, present_from=0.5)
    assert impression_of(report_on(source, findings=Findings(assertions=(asserted,))), "de") == (
        "Blutung: vorhanden, Wahrscheinlichkeit 83 %."
    )


def stored(report: Dataset) -> dict[str, str]:
    """Language -> text of the items in a report."""
    evaluations = next(i for i in report.ContentSequence if i.ConceptNameCodeSequence[0].CodeValue == "C0034375")
    items = (i for i in evaluations.ContentSequence if i.ConceptNameCodeSequence[0].CodeValue == "121073")
    return {i.ContentSequence[0].ConceptCodeSequence[0].CodeValue: i.TextValue.replace("\r\n", "\n") for i in items}


@pytest.mark.parametrize(
    ("character_set", "held"),
    [
        ("ISO_IR 192", {"de", "zh", "ja"}),
        ("GB18030", {"de", "zh", "ja"}),
        ("ISO_IR 100", {"de", "en"}),
        ("GBK", {"zh", "ja", "en"}),
        (["", "ISO 2022 IR 87"], {"en"}),  # pydicom does not return to ASCII behind Japanese letters
        (None, {"en"}),
        ("no such set", {"en"}),
    ],
)
def test_the_report_holds_what_its_character_set_can_write(
    tmp_path: Path, character_set: str | list[str] | None, held: set[str]
) -> None:
    def change(dataset: FileDataset) -> None:
        dataset.PatientName = "Test^Patient"
        dataset.SpecificCharacterSet = character_set

    images = ct_series(8, 48)
    source = source_of(tmp_path, images, change)
    findings = described(source, {**FOLLOWED, "laterality": codes.SCT.Left}, {})
    objects = encode(analysis(findings, languages=("de", "zh", "ja")), source, ["sr alone"])
    check(objects, source)
    path = tmp_path / "report.dcm"
    path.write_bytes(objects[0].data)
    report = dcmread(path)
    impressions = stored(report)
    assert set(impressions) >= held
    assert set(impressions) - {"en"} == held - {"en"}
    for language in held - {"en"}:
        assert impressions[language].replace("mm3", "mm³") == impression_of(report, language)


SIZES = st.floats(0.01, 60000, allow_nan=False)


def lesions() -> st.SearchStrategy[dict[str, Any]]:
    """What a pipeline may state of a lesion."""

    def measured(volume: float, growth: tuple[float, float, float] | None, score: float) -> tuple[Measurement, ...]:
        stated = [
            Measurement(name=codes.SCT.Volume, value=volume, unit=MM3),
            Measurement(name=Code("score", "99TEST", "Score"), value=score, unit=codes.UCUM.NoUnits),
        ]
        if growth:
            before, change, days = growth
            stated += [
                Measurement(name=EARLIER_VOLUME, value=before, unit=MM3),
                Measurement(name=CHANGE, value=change, unit=PERCENT),
                Measurement(name=DOUBLING_TIME, value=days, unit=DAYS),
            ]
        return tuple(stated)

    growth = st.none() | st.tuples(SIZES, st.floats(-99, 900), st.floats(0.2, 4000))
    return st.fixed_dictionaries(
        {
            "measurements": st.builds(measured, SIZES, growth, st.floats(-5, 5)),
            "laterality": st.none() | st.sampled_from(SIDES),
            "site": st.none() | st.just(codes.SCT.Lung),
            "probability": st.none() | st.floats(0, 1),
            "evaluations": st.fixed_dictionaries(
                {},
                optional={
                    TEXTURE: st.sampled_from([SOLID, PART_SOLID, NON_SOLID]),
                    POSITION: st.sampled_from(THIRDS),
                },
            ),
        }
    )


def stated_numbers(lesion: Lesion, report: Dataset) -> Iterator[str]:
    """Numbers of a lesion in the order of its sentence, from what the pipeline stated and the axes of the report."""
    group = next(g for g in read_statement(report).findings if g.label == lesion.segment.label)
    axes = [m for m in group.measurements if m.name in (codes.SCT.LongAxis, codes.SCT.ShortAxis)]
    yield from (quantity(float(m.number), m.unit.value) for m in axes)
    by_name = {m.name: m for m in lesion.measurements}
    for name in (codes.SCT.Volume, EARLIER_VOLUME, CHANGE, DOUBLING_TIME, Code("score", "99TEST", "Score")):
        if name in by_name:
            m = by_name[name]
            yield quantity(m.value, m.unit.value) if name != CHANGE else digits(m.value, "%")


@pytest.mark.thorough
def test_every_rendering_states_the_same_numbers_and_sides(source: SourceSeries) -> None:
    @settings(max_examples=examples(60), deadline=None, phases=[Phase.generate])
    @given(changes=st.lists(lesions(), min_size=1, max_size=2))
    def agree(changes: list[dict[str, Any]]) -> None:
        check_agreement(source, changes)

    agree()


def check_agreement(source: SourceSeries, changes: list[dict[str, Any]]) -> None:
    findings = described(source, *changes)
    report = report_on(source, findings=findings)
    lines = {language: impression_of(report, language).splitlines() for language in EVERY}
    ordered = [finding.label for finding in read_statement(report).findings]
    assert all(len(of) == len(findings.lesions) for of in lines.values())
    for lesion in findings.lesions:
        place = ordered.index(lesion.segment.label)
        expected = [n for text in stated_numbers(lesion, report) for n in numbers(text.replace("mm³", ""))]
        for language, of in lines.items():
            text = of[place].replace("mm³", "")
            assert numbers(text) == expected, (language, of[place])
            words = SIDE_WORDS[language]
            assert {n for n, word in enumerate(words) if word in text} == (
                {SIDES.index(lesion.laterality)} if lesion.laterality else set()
            ), (language, text)
    for language in EVERY:
        message = report_message(report, Addressee(sender="AINODE", language=language))
        sent = next(f[5] for s in message.split("\r") if "|121073^" in s for f in [s.split("|")])
        assert sent.split("~") == lines[language]
        reported = [m.number for g in read_statement(report).findings for m in g.measurements]
        assert sorted(s.split("|")[5] for s in message.split("\r") if s.startswith("OBX") and "|NM|" in s) == sorted(
            reported
        )
    check_resources(report, "R4")
    check_resources(report, "R5")


def check_resources(report: Dataset, version: FhirVersion) -> None:
    """Every number, unit, side and code of the report is in the FHIR resources, and no other."""
    bundle = report_bundle(report, version=version)
    validate(bundle, version)
    entries = {entry["fullUrl"]: entry["resource"] for entry in bundle["entry"]}
    stated = {finding.label: finding for finding in read_statement(report).findings}
    observations = [resource for resource in entries.values() if resource["resourceType"] == "Observation"]
    findings = {observation["note"][0]["text"]: observation for observation in observations if "note" in observation}
    assert set(findings) == set(stated)
    for label, finding in findings.items():
        members = [entries[reference["reference"]] for reference in finding["hasMember"]]
        assert [
            (code_of(member["code"]), Decimal(str(member["valueQuantity"]["value"])), member["valueQuantity"]["code"])
            for member in members
        ] == [(m.name.value, Decimal(m.number), m.unit.value) for m in stated[label].measurements]
        components = {
            code_of(component["code"]): code_of(component["valueCodeableConcept"])
            for component in finding.get("component", ())
        }
        sides = {codes.SCT.Laterality: stated[label].laterality} if stated[label].laterality else {}
        assert components == {k.value: v.value for k, v in (sides | stated[label].evaluations).items()}
        assert code_of(finding["valueCodeableConcept"]) == stated[label].finding.value
        assert code_of(finding.get("bodySite")) == (stated[label].site.value if stated[label].site else None)
    measured = sum(len(finding.measurements) for finding in stated.values())
    assert len(observations) == 1 + len(stated) + measured


def code_of(concept: dict[str, Any] | None) -> str | None:
    return None if concept is None else concept["coding"][0]["code"]


@pytest.mark.thorough
def test_the_page_states_the_same_sentences_and_numbers(source: SourceSeries) -> None:
    @settings(max_examples=examples(20), deadline=None, phases=[Phase.generate])
    @given(changes=st.lists(lesions(), min_size=1, max_size=2))
    def agree(changes: list[dict[str, Any]]) -> None:
        findings = described(source, *changes)
        made = encode(analysis(findings=findings), source, ["sr alone", "pdf"])
        report, shown = one(made, "sr alone"), " ".join(page(one(made, "pdf")).split())
        for line in impression_of(report, "en").splitlines():
            assert line in shown
        for lesion in findings.lesions:
            for stated in stated_numbers(lesion, report):
                assert stated in shown

    agree()
