"""The outcome says what is asserted, never more, and every object says the same as the outcome."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from analyses import JUDGED, MOMENT, NOTHING, UNCLEAR, analysis, halved, one, source_of, two_lesions
from dicom_files import ct_series
from highdicom import Volume

from node.config import Destination
from node.inference.run_pipeline import analyse
from node.outcome import ANALYSED, Outcome
from node.pipeline import Algorithm, Assertion, Code, Findings, Lesion, Map, Needs, Presence, Segment, codes
from node.results.analysis import Analysis, of_part, outcome_of, reason_of
from node.results.encode import encode
from node.results.gate.check import check
from node.results.report_text import remarks_of

BLEEDING, NODULE = codes.SCT.Hemorrhage, codes.SCT.Nodule
GRID = Volume(np.zeros((4, 8, 8), np.uint8), np.eye(4), "PATIENT")


def outlined(kind: Code = codes.SCT.Spleen, *, empty: bool = False, category: Code | None = None) -> Segment:
    mask = np.zeros(GRID.spatial_shape, np.uint8)
    mask[1:3, 2:6, 2:6] = not empty
    return Segment(
        label=kind.meaning, mask=GRID.with_array(mask), category=category or codes.SCT.AnatomicalStructure, type=kind
    )


def says(presence: Presence, finding: Code = BLEEDING) -> Findings:
    return Findings(assertions=(Assertion(finding=finding, presence=presence),))


LESION = Findings(lesions=(Lesion(segment=outlined(NODULE), finding=NODULE),))
HEAT = Map(name="Heat", volume=Volume(np.zeros((4, 8, 8), np.float32), np.eye(4), "PATIENT"), quantity=NODULE)
CASES: dict[str, tuple[Findings, Outcome]] = {
    "a lesion": (LESION, "findings"),
    "a lesion of what was looked for": (replace(LESION, looked_for=(NODULE,)), "findings"),
    "something asserted to be present": (says("present"), "findings"),
    "one absent, another present": (
        Findings(assertions=(*says("absent").assertions, *says("present", codes.SCT.Edema).assertions)),
        "findings",
    ),
    "an outline of what was looked for": (Findings(segments=(outlined(NODULE),), looked_for=(NODULE,)), "findings"),
    "an outline of something abnormal": (
        Findings(segments=(outlined(codes.SCT.Neoplasm, category=codes.SCT.MorphologicallyAbnormalStructure),)),
        "findings",
    ),
    "indeterminate": (says("indeterminate"), "indeterminate"),
    "indeterminate, and nothing of what was looked for": (
        replace(says("indeterminate"), looked_for=(BLEEDING,)),
        "indeterminate",
    ),
    "nothing of what was looked for": (NOTHING, "no findings"),
    "asserted to be absent": (says("absent"), "no findings"),
    "an organ, and nothing of what was looked for": (
        Findings(segments=(outlined(),), looked_for=(NODULE,)),
        "no findings",
    ),
    "an organ": (Findings(segments=(outlined(),)), "measured"),
    "an organ that is not there": (Findings(segments=(outlined(empty=True),)), "measured"),
    "something abnormal that is not there": (
        Findings(segments=(outlined(NODULE, empty=True, category=codes.SCT.MorphologicallyAbnormalStructure),)),
        "measured",
    ),
    "a judgement that is no presence": (JUDGED, "measured"),
    "a map": (Findings(maps=(HEAT,)), "measured"),
    "nothing at all": (Findings(), "failed"),
    "a remark": (Findings(remarks=("Motion.",)), "failed"),
    "the quality of the images": (
        Findings(evaluations={codes.DCM.ImageQuality: codes.DCM.PoorImageQuality}),
        "failed",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_outcome_follows_from_what_is_asserted(case: str) -> None:
    findings, outcome = CASES[case]
    assert outcome_of(findings) == outcome
    assert bool(reason_of(findings)) == (outcome == "failed")


@pytest.mark.parametrize(("case", "why"), list(product(CASES, ("partial", "cut_off", "left out"))))
def test_a_part_is_never_more_than_a_part_whatever_was_found(case: str, why: str) -> None:
    findings, _ = CASES[case]
    sentence = "The lower end was not seen."
    part = of_part(findings, sentence) if why == "left out" else replace(findings, **{why: sentence})
    assert (outcome_of(part), reason_of(part)) == ("partial", sentence)


def test_what_was_left_out_is_said_once(tmp_path: Path) -> None:
    gap = "slices are missing: 1 at 1 place"
    part = of_part(of_part(Findings(), f"{gap}; of 3 images"), gap)
    assert part.partial == f"{gap}; of 3 images"


def test_new_images_alone_are_derived_and_structures_beside_them_are_measured(tmp_path: Path) -> None:
    made = halved(source_of(tmp_path, ct_series(4, 16)))
    assert outcome_of(made) == "derived"
    poor = replace(made, evaluations={codes.DCM.ImageQuality: codes.DCM.PoorImageQuality})
    assert outcome_of(poor) == "derived"
    assert outcome_of(replace(made, segments=(outlined(),))) == "measured"
    assert outcome_of(replace(made, looked_for=(NODULE,))) == "no findings"


WORDS: dict[Presence, list[Code]] = {
    "present": [
        codes.SCT.Present, codes.DCM.Present, codes.SCT.Yes, codes.SCT.Positive, Code("52101004", "SCT", "Present"),
        Code("G-A203", "SRT", "Present"), Code("RID28472", "RADLEX", "present"), Code("1", "99ELSE", " Positive"),
    ],
    "absent": [
        codes.SCT.Absent, codes.DCM.Absent, codes.SCT.No, codes.SCT.Negative, Code("2667000", "SCT", "Absent"),
        Code("RID28473", "RADLEX", "absent"), Code("260415000", "SCT", "Not detected"),
    ],
    "indeterminate": [
        codes.SCT.Indeterminate, codes.SCT.Equivocal, codes.SCT.Undetermined, codes.SCT.Unknown,
        Code("C0205258", "UMLS", "Indeterminate"), Code("2", "99ELSE", "inconclusive"),
    ],
}  # fmt: skip
OUTCOMES: dict[Presence, Outcome] = {
    "present": "findings",
    "absent": "no findings",
    "indeterminate": "indeterminate",
}


@pytest.mark.parametrize(("presence", "value"), [(p, value) for p, values in WORDS.items() for value in values])
def test_an_evaluation_that_says_whether_something_is_present_decides_the_outcome(
    presence: Presence, value: Code
) -> None:
    judged = Findings(evaluations={BLEEDING: value})
    assert judged.all_assertions == (Assertion(finding=BLEEDING, presence=presence),)
    assert outcome_of(judged) == OUTCOMES[presence]
    assert outcome_of(replace(judged, looked_for=(NODULE,))) == OUTCOMES[presence]


def test_statements_that_contradict_one_another_are_refused() -> None:
    with pytest.raises(ValueError, match="'Hemorrhage' is said to be absent and present"):
        replace(says("absent"), evaluations={BLEEDING: codes.SCT.Present})
    with pytest.raises(ValueError, match="'Nodule' is said to be present and absent"):
        replace(LESION, evaluations={NODULE: codes.SCT.Negative})
    with pytest.raises(ValueError, match="said to be absent in its evaluations"):
        Lesion(segment=outlined(NODULE), finding=NODULE, evaluations={NODULE: codes.SCT.Absent})
    with pytest.raises(ValueError, match="use one of present, absent, indeterminate"):
        Assertion(finding=NODULE, presence="maybe")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="use 0 to 1"):
        Assertion(finding=NODULE, presence="present", probability=83.0)
    agreed = replace(says("present"), evaluations={BLEEDING: codes.SCT.Positive})
    assert len(agreed.all_assertions) == 1
    spiculated = Lesion(segment=outlined(NODULE), finding=NODULE, evaluations={codes.SCT.Edema: codes.SCT.Absent})
    assert outcome_of(Findings(lesions=(spiculated,))) == "findings", "a property of a lesion is no statement about it"


def texts(report: object) -> list[str]:
    return [
        text
        for item in getattr(report, "ContentSequence", ())
        for text in ([str(item.TextValue)] if item.ValueType == "TEXT" else texts(item))
    ]


def coded(report: object) -> list[tuple[str, str]]:
    """Name and value of every code of a report."""
    pairs = []
    for item in getattr(report, "ContentSequence", ()):
        if item.ValueType == "CODE":
            pairs.append((item.ConceptNameCodeSequence[0].CodeValue, item.ConceptCodeSequence[0].CodeValue))
        pairs += coded(item)
    return pairs


SUMMARY = {
    "findings": "111242",
    "no findings": "111241",
    "indeterminate": "280416009",
    "measured": "258104002",
}


@pytest.mark.parametrize("case", [name for name, (_, outcome) in CASES.items() if outcome in SUMMARY])
def test_title_codes_and_words_of_the_report_say_what_the_outcome_says(tmp_path: Path, case: str) -> None:
    source = source_of(tmp_path, ct_series(4, 16))
    findings, outcome = CASES[case]
    place = source.geometry.affine @ np.diag([1, 2, 2, 1])
    grid = {"affine": place, "coordinate_system": "PATIENT"}

    def moved(segment: Segment) -> Segment:
        return replace(segment, mask=Volume(segment.mask.array, **grid))

    findings = replace(
        findings,
        lesions=tuple(replace(lesion, segment=moved(lesion.segment)) for lesion in findings.lesions),
        segments=tuple(map(moved, findings.segments)),
        maps=tuple(replace(entry, volume=Volume(entry.volume.array, **grid)) for entry in findings.maps),
    )
    objects = encode(analysis(findings), source, ["seg", "sr", "pdf"])
    check(objects, source)
    report = one(objects, "sr")
    assert {value for name, value in coded(report) if name == "111017"} == {SUMMARY[outcome]}
    assert report.SeriesDescription == f"{outcome.upper()} - AI nodule report"


def test_a_positive_classification_reaches_a_destination_that_only_wants_findings(tmp_path: Path) -> None:
    """It was delivered as *no findings*, and such a destination got nothing."""
    source = source_of(tmp_path, ct_series(4, 16))
    findings = Findings(assertions=(Assertion(finding=BLEEDING, presence="present", probability=0.83),))
    assert outcome_of(findings) in Destination(folder="/archive", outcomes=("findings",)).outcomes
    report = one(encode(analysis(findings), source), "sr")
    assert report.SeriesDescription == "FINDINGS - AI nodule report"
    said = coded(report)
    assert ("121071", BLEEDING.value) in said, "the finding of its measurement group"
    assert (BLEEDING.value, "52101004") in said
    assert "Hemorrhage: present (probability 83 %)." in remarks_of(analysis(findings))
    assert any("83 %" in text for text in texts(report))
    for presence in ("absent", "indeterminate"):
        said = coded(one(encode(analysis(says(presence)), source), "sr"))
        assert ("121071", BLEEDING.value) not in said, "nobody may read it as found"


class Silent:
    """A pipeline of somebody who thinks that no lesion means no finding."""

    algorithm = Algorithm(name="Silent", version="1")
    needs = Needs(modalities=frozenset({"CT"}))

    def run(self, series: object) -> Findings:
        return Findings()


def test_a_result_that_says_nothing_is_no_negative_and_names_the_remedy(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = source_of(tmp_path, ct_series(4, 16))
    outcome, reason, findings = analyse(Silent(), source)
    assert (outcome, findings) == ("failed", findings)
    assert reason.startswith("NOT ANALYSED: ")
    assert "looked_for" not in reason, "the report is for radiologists"
    assert "Findings(looked_for=...)" in caplog.text
    report = one(encode(analysis(None, outcome=outcome, reason=reason), source), "sr")
    assert {value for name, value in coded(report) if name == "111017"} == {"111245"}


def test_every_outcome_is_known_wherever_outcomes_are_listed() -> None:
    for outcome in Outcome:
        findings = {
            "findings": LESION, "no findings": NOTHING, "indeterminate": UNCLEAR, "measured": JUDGED,
            "partial": replace(NOTHING, partial="a part"), "derived": Findings(derived=()),
        }.get(outcome)  # fmt: skip
        assert (outcome in ANALYSED) == (findings is not None)
        reason = "because" if outcome in ("partial", "not applicable", "failed") else ""
        made = Analysis(
            pipeline="p",
            algorithm=Silent.algorithm,
            generation=1,
            outcome=outcome,
            reason=reason,
            findings=findings,
            analysed_at=MOMENT,
        )
        assert made.outcome in Destination(folder="/archive").outcomes


def test_a_report_says_what_was_looked_for(tmp_path: Path) -> None:
    source = source_of(tmp_path, ct_series(4, 16))
    assert "Looked for: Nodule; none was found in what was analysed." in remarks_of(analysis(NOTHING))
    assert remarks_of(analysis(replace(NOTHING, partial="a part"))) == remarks_of(analysis(NOTHING))
    assert not remarks_of(analysis(replace(two_lesions(source), looked_for=(NODULE,))))[:-1]
    assert remarks_of(analysis(Findings(segments=(outlined(empty=True),)))) == ("Not seen in these images: Spleen.",)
