"""Results without a mask: numbers, judgements and probabilities in report, PDF and handover."""

from __future__ import annotations

from pathlib import Path

import pytest
from analyses import analysis, source_of, two_lesions
from dicom_files import ct_series
from pydicom import Dataset

from node.inference.findings_document import read_findings, write_findings
from node.pipeline import Assertion, Code, Findings, Measurement, MeasurementGroup, codes
from node.results.analysis import Analysis, EncodedObject, outcome_of
from node.results.encode import encode
from node.results.gate.check import check
from node.results.prior.report import read_prior
from node.results.report_text import measured_lines
from node.studies.source import SourceSeries
from node.web.report_table import findings_in

SCORE = Code("AGATSTON", "99TEST", "Agatston score")
FAT = Code("FAT-FRACTION", "99TEST", "Fat fraction")
GRADE = Code("GRADE", "99TEST", "Grade")
MILD = Code("MILD", "99TEST", "Mild")
BLEEDING = codes.SCT.Hemorrhage


def number(name: Code, value: float, unit: Code = codes.UCUM.NoUnits, derivation: Code | None = None) -> Measurement:
    return Measurement(name=name, value=value, unit=unit, derivation=derivation)


LIVER = MeasurementGroup(
    label="Liver",
    finding=codes.SCT.Liver,
    measurements=(number(FAT, 12, codes.UCUM.Percent), number(codes.SCT.Volume, 1500, Code("ml", "UCUM", "ml"))),
    evaluations={GRADE: MILD},
)
LUNG = MeasurementGroup(
    label="Left lung",
    finding=codes.SCT.Lung,
    site=codes.SCT.Lung,
    laterality=codes.SCT.Left,
    measurements=(
        number(FAT, 1, codes.UCUM.Percent, codes.SCT.Mean),
        number(FAT, 3, codes.UCUM.Percent, codes.SCT.Maximum),
    ),
)
ALL = Findings(
    assertions=(
        Assertion.at(BLEEDING, 0.03, present_from=0.5, absent_below=0.2),
        Assertion.at(codes.SCT.Nodule, 0.3, present_from=0.5, absent_below=0.2),
    ),
    measurements=(number(SCORE, 0),),
    groups=(LIVER, LUNG),
)


def encoded_kinds(of: Analysis, source: SourceSeries, *kinds: str) -> dict[str, EncodedObject]:
    """By kind, after the gate."""
    objects = encode(of, source, kinds)
    check(objects, source)
    return {entry.kind: entry for entry in objects}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> SourceSeries:
    return source_of(tmp_path_factory.mktemp("series"), ct_series(6, 40))


@pytest.mark.parametrize(
    ("probability", "presence"),
    [
        (0.0, "absent"),
        (0.19, "absent"),
        (0.2, "indeterminate"),
        (0.49, "indeterminate"),
        (0.5, "present"),
        (1, "present"),
    ],
)
def test_the_operating_point_decides_what_a_probability_means(probability: float, presence: str) -> None:
    assert Assertion.at(BLEEDING, probability, present_from=0.5, absent_below=0.2).presence == presence


def test_an_operating_point_reads_as_it_decides() -> None:
    both = Assertion.at(BLEEDING, 0.41, present_from=0.5, absent_below=0.3).in_words()
    assert both == "Hemorrhage: indeterminate (probability 41 %, present from 50 %, absent below 30 %)."
    assert Assertion.at(BLEEDING, 0.83, present_from=0.5).in_words().endswith("(probability 83 %, present from 50 %).")
    with pytest.raises(ValueError, match="two ascending values"):
        Assertion.at(BLEEDING, 0.8, present_from=0.3, absent_below=0.5)


@pytest.mark.parametrize(
    ("findings", "outcome"),
    [
        (Findings(measurements=ALL.measurements), "measured"),
        (Findings(groups=(LIVER,)), "measured"),
        (Findings(groups=(LIVER,), looked_for=(BLEEDING,)), "no findings"),
        (ALL, "indeterminate"),
    ],
)
def test_what_is_measured_claims_nothing(findings: Findings, outcome: str) -> None:
    assert outcome_of(findings) == outcome


@pytest.mark.parametrize(
    ("make", "fault"),
    [
        (lambda: MeasurementGroup(label="Liver", finding=codes.SCT.Liver), "says nothing"),
        (lambda: MeasurementGroup(label="", finding=codes.SCT.Liver, evaluations={GRADE: MILD}), "use 1 to 64"),
        (
            lambda: MeasurementGroup(label="Head", finding=codes.SCT.Brain, evaluations={BLEEDING: codes.SCT.Present}),
            "use Findings.assertions",
        ),
        (lambda: Findings(groups=(LIVER, LIVER)), "labels of groups or regions repeat"),
        (
            lambda: Findings(measurements=(number(SCORE, 1), number(SCORE, 2))),
            "'AGATSTON' of the study is given 2 times",
        ),
    ],
)
def test_statements_that_would_mislead_are_refused(make: object, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        make()  # type: ignore[operator]


def test_the_handover_keeps_every_statement() -> None:
    arrays: dict[str, object] = {}
    again = read_findings(write_findings(ALL, arrays), arrays)  # type: ignore[arg-type]
    assert (again.assertions, again.measurements) == (ALL.assertions, ALL.measurements)
    assert [vars(group) for group in again.groups] == [vars(group) for group in ALL.groups]


def groups_of(report: Dataset) -> dict[str, dict[str, list[str]]]:
    """Tracking Identifier -> finding, numbers with unit, and evaluations of a measurement group."""
    groups = {}
    (measured,) = [c for c in report.ContentSequence if c.ConceptNameCodeSequence[0].CodeValue == "126010"]
    for group in measured.ContentSequence:
        items = [
            (i.ConceptNameCodeSequence[0].CodeMeaning, i)
            for i in group.ContentSequence
            if "ConceptNameCodeSequence" in i
        ]
        (name,) = [str(i.TextValue) for meaning, i in items if meaning == "Tracking Identifier"]
        groups[name] = {
            "finding": [i.ConceptCodeSequence[0].CodeMeaning for meaning, i in items if meaning == "Finding"],
            "numbers": [
                f"{meaning} {i.MeasuredValueSequence[0].NumericValue} "
                f"{i.MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0].CodeValue}"
                for meaning, i in items
                if i.ValueType == "NUM"
            ],
            "judged": [
                f"{meaning}: {i.ConceptCodeSequence[0].CodeMeaning}"
                for meaning, i in items
                if i.ValueType == "CODE" and i.RelationshipType == "CONTAINS" and meaning != "Finding"
            ],
        }
    return groups


def test_the_report_of_a_normal_patient_has_every_number(source: SourceSeries, tmp_path: Path) -> None:
    objects = encoded_kinds(analysis(ALL), source, "sr", "pdf")
    groups = groups_of(objects["sr"].dataset)
    assert groups["Analysis"]["numbers"] == ["Agatston score 0 1"]
    assert groups["Hemorrhage: absent"] == {
        "finding": ["All algorithms succeeded; without findings"],
        "numbers": ["Certainty of Finding 3 %", "CAD Operating Point 50 %"],
        "judged": ["Hemorrhage: Absent"],
    }
    assert groups["Nodule: indeterminate"]["judged"] == ["Nodule: Indeterminate"]
    assert groups["Liver"] == {
        "finding": ["Liver"],
        "numbers": ["Fat fraction 12 %", "Volume 1500 ml"],
        "judged": ["Grade: Mild"],
    }
    assert groups["Left lung"]["numbers"] == ["Fat fraction 1 %", "Fat fraction 3 %"]
    path = tmp_path / "report.dcm"
    path.write_bytes(objects["sr"].data)
    rows = findings_in(path)
    assert {row.label: row.remarks for row in rows}["Liver"] == ["Grade: Mild"]
    shown = {row.label: row.measurements for row in rows}
    assert shown["Liver"] == {"Fat fraction": "12 %", "Volume": "1500 ml"}
    assert shown["Left lung"] == {"Fat fraction, mean": "1 %", "Fat fraction, maximum": "3 %"}


def test_lesions_and_numbers_stand_in_one_report(source: SourceSeries) -> None:
    lesions = two_lesions(source)
    findings = Findings(lesions=lesions.lesions, measurements=ALL.measurements, groups=(LIVER,))
    groups = groups_of(encoded_kinds(analysis(findings), source, "seg", "sr")["sr"].dataset)
    assert {"Analysis", "Liver"} < groups.keys()
    assert len(groups) == 2 + len(lesions.all_segments)


def test_an_organ_that_was_measured_is_no_finding_of_the_prior(source: SourceSeries) -> None:
    prior = read_prior(encoded_kinds(analysis(ALL), source, "sr")["sr"].dataset)
    assert prior is not None
    assert prior.findings == ()


def test_measurements_read_as_one_line_each() -> None:
    assert measured_lines(ALL) == (
        "Agatston score 0",
        "Liver; Fat fraction 12 %; Volume 1500 ml; Grade: Mild",
        "Left lung; Fat fraction (mean) 1 %; Fat fraction (maximum) 3 %",
    )
