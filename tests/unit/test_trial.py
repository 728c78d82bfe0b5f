"""What a trial says of champion and candidate: lesions by overlap, hits by verdicts, agreement, cost."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest
from dicom_files import ct_series, write
from reader_edits import cube, workstation_seg

from node.feedback.mask_comparison import MaskComparison, PairedLesion, SingleLesion, TrialFiles, compare_masks
from node.feedback.trial import ComparedPair, Trial, mcnemar, trial_of
from node.feedback.trial_disagreements import by_scanner, disagreements_of
from node.feedback.trial_report import as_text
from node.ledger.trials import TrialAnalysis, TrialPair, Untried
from node.studies.source import SourceSeries

SHAPE = (8, 64, 64)


def test_lesions_of_two_analyses_are_paired_by_overlap_and_readers_lesions_looked_for_in_both(tmp_path: Path):
    paths = write(ct_series(8, 64), tmp_path / "ct")
    source = SourceSeries.read(paths)
    boxes = {
        "A": cube(SHAPE, (1, 5, 5), (4, 15, 15)),
        "A moved": cube(SHAPE, (1, 6, 5), (4, 16, 15)),
        "B": cube(SHAPE, (5, 40, 40), (7, 50, 50)),
        "C": cube(SHAPE, (1, 40, 5), (3, 50, 15)),
    }
    tracked = {name: f"1.2.{number}" for number, name in enumerate(boxes)}

    def saved(name: str, *labels: str) -> Path:
        seg = workstation_seg(source, {label: boxes[label] for label in labels}, tracking=tracked)
        seg.save_as(tmp_path / name, enforce_file_format=True)
        return tmp_path / name

    reader = saved("reader.dcm", "B", "C")
    comparison = compare_masks(
        TrialFiles(
            images=tuple(paths),
            champion=saved("champion.dcm", "A", "B"),
            candidate=saved("candidate.dcm", "A moved"),
            added=((reader, tracked["B"]), (reader, tracked["C"])),
        )
    )
    [both] = comparison.both
    assert (both.champion, both.candidate) == (tracked["A"], tracked["A moved"])
    assert both.dice == pytest.approx(0.9)
    assert both.champion_mm3 == both.candidate_mm3 > 0
    assert [single.lesion for single in comparison.champion_only] == [tracked["B"]]
    assert comparison.champion_only[0].mm3 == pytest.approx(both.champion_mm3 * 2 / 3)
    assert (comparison.candidate_only, comparison.as_added) == ((), (tracked["B"],))
    assert comparison.added == ((True, False), (False, False))
    nothing = compare_masks(TrialFiles(images=tuple(paths), champion=None, candidate=reader))
    assert (nothing.both, len(nothing.candidate_only)) == ((), 2)


def analysis(job: str, *, in_shadow: bool, outcome: str = "findings", seconds: float = 10.0) -> TrialAnalysis:
    return TrialAnalysis(
        job_id=job,
        created_at=1000.0,
        outcome=outcome,
        in_shadow=in_shadow,
        version="1",
        weights="0123456789abcdef" if in_shadow else None,
        run_seconds=seconds,
        host_mib=900.0,
        device_mib=None,
    )


def compared(
    masks: MaskComparison | None, verdicts: dict[str, str] | None = None, *, promoted: bool = False, **candidate: object
) -> ComparedPair:
    return ComparedPair(
        pair=TrialPair(
            study_instance_uid="1.2",
            scanner="A One",
            champion=analysis("one", in_shadow=promoted),
            candidate=analysis("other", in_shadow=not promoted, **candidate),
        ),
        masks=masks,
        verdicts=verdicts or {},
    )


def lesion(number: int, dice: float = 0.9, candidate_mm3: float = 110.0) -> PairedLesion:
    return PairedLesion(
        champion=f"c{number}", candidate=f"n{number}", dice=dice, champion_mm3=100.0, candidate_mm3=candidate_mm3
    )


def alone(*names: str) -> tuple[SingleLesion, ...]:
    return tuple(SingleLesion(lesion=name, mm3=50.0) for name in names)


def test_hits_are_the_lesions_that_readers_confirmed_or_added():
    masks = MaskComparison(
        both=(lesion(1), lesion(2)),
        champion_only=alone("c3", "c4"),
        candidate_only=alone("n5"),
        added=((False, True), (False, False)),
    )
    verdicts = {"c1": "accepted", "c2": "rejected", "c3": "edited", "c4": "rejected", "slice 3": "added"}
    hits = trial_of("nodule", "nodule-2", [compared(masks, verdicts)]).hits
    assert hits is not None
    assert (hits.both, hits.champion_only, hits.candidate_only, hits.neither) == (1, 1, 1, 1)
    assert (hits.rejected, hits.rejected_both) == (2, 1)
    after = {"n1": "accepted", "n5": "accepted"}  # the candidate was sent
    hits = trial_of("nodule", "nodule-2", [compared(masks, after, promoted=True)]).hits
    assert hits is not None
    assert (hits.both, hits.champion_only, hits.candidate_only, hits.neither) == (1, 0, 2, 1)
    assert trial_of("nodule", "nodule-2", [compared(MaskComparison())]).hits is None


@pytest.mark.parametrize(("one", "other", "p"), [(0, 0, 1.0), (5, 5, 1.0), (10, 0, 2 / 2**10), (1, 7, 18 / 2**8)])
def test_the_test_is_mcnemars_exact_one(one: int, other: int, p: float):
    assert mcnemar(one, other) == pytest.approx(p)


def many(number: int) -> Trial:
    pairs = [
        compared(MaskComparison(both=(lesion(n, dice=0.8 + 0.005 * n, candidate_mm3=100.0 + n),)), seconds=20.0)
        for n in range(number)
    ]
    return trial_of("nodule", "nodule-2", pairs)


def test_weights_tell_apart_what_has_the_same_version():
    text = as_text(trial_of("a", "b", [compared(None)]))
    assert "1 series, analysed by a 1 (champion) and b 1, weights 01234567 (candidate)" in text


def test_agreement_is_shown_from_twenty_pairs_on():
    few, enough = many(19), many(25)
    assert (few.dice, few.volume_difference, few.limits_of_agreement) == (None, None, None)
    assert "mean Dice of both: too few pairs of lesions (under 20)" in as_text(few)
    assert as_text(few).endswith("They disagree on 0 series.")
    assert enough.dice is not None
    assert enough.dice.value == pytest.approx(0.86)
    assert enough.volume_difference is not None
    assert 10 < enough.volume_difference.value < 12
    low, high = enough.limits_of_agreement or (0.0, 0.0)
    assert low < enough.volume_difference.value < high
    assert enough.candidate.run_seconds == (20.0, 20.0)


def test_disagreements_are_listed_with_what_differs():
    pairs = [
        compared(MaskComparison(both=(lesion(1),))),
        compared(None, outcome="failed"),
        compared(MaskComparison(both=(lesion(1, dice=0.2),), candidate_only=alone("a", "b"))),
    ]
    trial = trial_of("nodule", "nodule-2", pairs)
    assert [case.what for case in trial.disagreements] == [
        "findings against failed",
        "2 lesions of the candidate alone, 1 lesion with a Dice below 0.5",
    ]
    assert (trial.candidate.failed, trial.champion.failed, trial.without_masks) == (1, 0, 1)
    text = as_text(trial)
    assert "nodule-2: 1 of 3 failed" in text
    assert "/study/1.2  A One: findings against failed" in text
    assert "say not who is right" in text
    assert "shadow" in as_text(trial_of("nodule", "nodule-2", []))


@pytest.mark.parametrize("pairs", [[], [compared(None)]], ids=["nothing tried", "one tried"])
def test_what_a_busy_node_has_not_tried_is_counted(pairs: list[ComparedPair]):
    at = datetime(2026, 11, 26, 13, 5).astimezone()
    text = as_text(trial_of("a", "b", pairs, Untried(series=12, since=at.timestamp())))
    assert "12 series not tried for lack of idle time, the first since 2026-11-26 13:05" in text.splitlines()
    assert "idle time" not in as_text(trial_of("a", "b", pairs))


def test_disagreements_on_lesions_come_by_size_with_the_verdict_on_what_was_sent():
    masks = MaskComparison(
        both=(lesion(1), lesion(2, dice=0.2)),
        champion_only=alone("c3"),
        candidate_only=alone("n4", "n5"),
        as_added=("n5",),
    )
    pairs = [compared(masks, {"c2": "edited", "c3": "rejected"}), compared(None)]
    disagreements = disagreements_of(pairs)
    assert [(case.lesion.champion, case.lesion.candidate, case.verdict) for case in disagreements] == [
        ("c2", "n2", "edited"),
        ("c3", "", "rejected"),
        ("", "n4", ""),
        ("", "n5", "added"),
    ]
    assert [case.differing_mm3 for case in disagreements] == pytest.approx([0.8 * 210, 50, 50, 50])
    promoted = disagreements_of([compared(masks, {"n2": "accepted", "n4": "accepted"}, promoted=True)])
    assert [case.verdict for case in promoted] == ["accepted", "", "accepted", "added"]
    [counts] = by_scanner(pairs)
    assert (counts.scanner, counts.series, counts.both, counts.apart) == ("A One", 2, 2, 1)
    assert (counts.champion_only, counts.candidate_only) == (1, 2)
