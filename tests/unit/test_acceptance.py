"""An acceptance test: what counts as truth, how lesions are compared, what is stated of how many, and the report."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from analyses import encoded, one
from click.testing import CliRunner, Result
from dicom_files import ct_series, mr_series, write
from pydicom import Dataset
from reader_edits import arrays_of, cube, outlines, workstation_rtstruct, workstation_seg
from reader_site import Site

from node.__main__ import main
from node.errors import InputError
from node.feedback.acceptance import figures_of
from node.feedback.acceptance_figures import AcceptanceCase, Figures
from node.feedback.truth import TruthPart, read_truth_folder
from node.feedback.truth_comparison import (
    CaseComparison,
    CaseFiles,
    ComparedStructure,
    FalseReport,
    TruthLesion,
    compare_with_truth,
)
from node.feedback.verified_cases import read_verified_cases
from node.ledger.analysis_statistics import record_statistics
from node.ledger.engine import begin_immediate
from node.outcome import Outcome
from node.studies.source import SourceSeries

SHAPE = (8, 32, 32)
MIDDLE = cube(SHAPE, (3, 14, 14), (5, 18, 18))
"""What the scripted pipeline reports."""


def save(dataset: Dataset, path: Path) -> Path:
    dataset.save_as(path, enforce_file_format=True)
    return path


def studies(folder: Path, *truths: dict[str, np.ndarray]) -> Path:
    """Series of images, each with a segmentation of these lesions; without any: no truth."""
    for number, lesions in enumerate(truths):
        images = ct_series(n=8, size=32)
        for image in images:
            image.PatientID = f"patient {number}"
        paths = write(images, folder / f"study{number}")
        if lesions:
            save(workstation_seg(SourceSeries.read(paths), lesions), folder / f"study{number}" / "truth.dcm")
    return folder


@pytest.mark.thorough
def test_a_folder_gives_the_series_that_are_outlined_and_says_what_it_left_out(tmp_path: Path):
    studies(tmp_path, {"A": MIDDLE}, {})
    write(mr_series(n=4, size=16), tmp_path / "mr")
    paths = write(ct_series(n=8, size=32), tmp_path / "contours")
    contours = workstation_rtstruct(SourceSeries.read(paths), {"A": outlines(MIDDLE)})
    save(contours, tmp_path / "contours" / "rt.dcm")
    lost = workstation_seg(SourceSeries.read(write(ct_series(n=8, size=32), tmp_path.parent / "lost")), {"A": MIDDLE})
    save(lost, tmp_path / "lost.dcm")
    own = workstation_seg(SourceSeries.read(paths), {"A": MIDDLE}, manufacturer="AI node")
    save(own, tmp_path / "own.dcm")
    folder = read_truth_folder(tmp_path, lambda *_: None, negatives=False)
    assert sorted(part.path.name for case in folder.cases for part in case.parts) == ["rt.dcm", "truth.dcm"]
    assert (folder.without_truth, folder.without_images, folder.of_this_software) == (2, 1, 1)
    with pytest.raises(InputError, match="none of 4 files"):
        read_truth_folder(tmp_path / "mr", lambda *_: None, negatives=False)


def test_lesions_are_found_missed_and_reported_falsely_with_the_certainty_of_the_report(tmp_path: Path):
    source, objects = encoded(tmp_path / "ct")
    seg, sr = one(objects, "seg"), one(objects, "sr")
    masks = arrays_of(seg, source)
    names = list(masks)
    moved = np.roll(masks[names[0]], 1, axis=2)
    elsewhere = np.zeros_like(moved)
    elsewhere[0, 1:4, 1:4] = True
    truth = save(workstation_seg(source, {"moved": moved, "elsewhere": elsewhere}), tmp_path / "truth.dcm")
    files = CaseFiles(
        images=source.paths,
        segmentation=save(seg, tmp_path / "seg.dcm"),
        report=save(sr, tmp_path / "sr.dcm"),
        parts=(TruthPart(path=truth),),
        pictures=2,
    )
    compared = compare_with_truth(files)
    detected, missed = compared.lesions
    assert (detected.label, detected.hit, missed.label, missed.hit) == ("moved", True, "elsewhere", False)
    voxels = int(masks[names[0]].sum())
    assert detected.dice == pytest.approx(2 * int((moved & masks[names[0]]).sum()) / (2 * voxels))
    assert detected.reported_mm3 == pytest.approx(detected.volume_mm3)
    assert detected.certainty == pytest.approx(0.83)
    assert [report.label for report in compared.false] == names[1:]
    assert [picture.caption for picture in compared.pictures] == ["missed", "reported falsely"]
    assert all(picture.jpeg.startswith(b"\xff\xd8") for picture in compared.pictures)
    assert compare_with_truth(replace(files, labels=("ELSEWHERE",))).lesions == (missed,)
    with pytest.raises(InputError, match="outlines as well"):
        compare_with_truth(replace(files, parts=(TruthPart(path=truth), TruthPart(path=truth))))


def lesion(*, hit: bool, volume: float = 500.0, certainty: float | None = 0.8) -> TruthLesion:
    if not hit:
        return TruthLesion(label="A", volume_mm3=volume, hit=False)
    return TruthLesion(label="A", volume_mm3=volume, hit=True, dice=0.8, reported_mm3=volume * 1.1, certainty=certainty)


def case(patient: str, *lesions: TruthLesion, false: int = 0, scanner: str = "Maker A") -> AcceptanceCase:
    comparison = CaseComparison(
        patient=patient,
        scanner=scanner,
        lesions=lesions,
        false=(FalseReport(label="B", volume_mm3=100.0, certainty=0.4),) * false,
    )
    return AcceptanceCase(
        study_instance_uid="1.2",
        series_instance_uid="1.2.3",
        outcome=Outcome.FINDINGS,
        seconds=2.0,
        comparison=comparison,
    )


def figures(*cases: AcceptanceCase) -> Figures:
    return figures_of(cases)


def test_no_rate_is_stated_of_fewer_than_twenty():
    few = figures(*(case(str(n), lesion(hit=True), false=1) for n in range(19)))
    assert (few.whole.hits, few.whole.lesions, few.whole.false) == (19, 19, 19)
    rates = (few.whole.sensitivity, few.whole.false_per_series, few.whole.dice, few.whole.volume_difference)
    assert rates == (None,) * 4
    assert (few.froc, few.by_size[0].sensitivity) == ((), None)
    enough = figures(*(case(str(n), lesion(hit=True), false=1) for n in range(20)))
    assert enough.whole.sensitivity is not None
    assert enough.whole.sensitivity.low == pytest.approx(0.8389, abs=1e-4)  # Wilson, 20 of 20
    assert enough.whole.volume_difference is not None
    assert enough.whole.volume_difference.value == pytest.approx(200 * 0.1 / 2.1)


def test_intervals_widen_where_lesions_of_a_patient_go_together():
    alike = [
        *(case("a", *[lesion(hit=True)] * 10) for _ in range(4)),
        *(case("b", lesion(hit=False)) for _ in range(4)),
    ]
    apart = [case(str(n), lesion(hit=n < 40)) for n in range(44)]
    together, independent = figures(*alike).whole.sensitivity, figures(*apart).whole.sensitivity
    assert together is not None
    assert independent is not None
    assert together.value == independent.value
    assert independent.low == pytest.approx(0.788, abs=0.005)
    assert together.low < 0.01  # one of the two patients has no lesion that was found


def test_figures_by_scanner_and_size_the_curve_and_the_calibration():
    cases = [
        *(case(str(n), lesion(hit=True, volume=50.0), scanner="Maker A") for n in range(20)),
        *(case(str(n), lesion(hit=n % 2 == 0, volume=5000.0), false=1, scanner="Maker B") for n in range(20, 40)),
    ]
    summary = figures(*cases)
    assert [(scanner.name, scanner.series, scanner.hits, scanner.false) for scanner in summary.by_scanner] == [
        ("Maker A", 20, 20, 0),
        ("Maker B", 20, 10, 20),
    ]
    assert [(band.from_mm, band.to_mm, band.lesions, band.hits) for band in summary.by_size] == [
        (0.0, 6.0, 20, 20),
        (20.0, 30.0, 20, 10),
    ]
    assert [(p.certainty, p.false_per_series, p.sensitivity) for p in summary.froc] == [
        (0.8, 0.0, 0.75),
        (0.4, 0.5, 0.75),
    ]
    assert summary.calibration is not None
    assert summary.calibration.brier == pytest.approx((30 * 0.2**2 + 20 * 0.4**2) / 50)
    assert [(band.lesions, band.true) for band in summary.calibration.bands] == [(20, 0), (30, 30)]
    assert len(summary.failed) == 20
    assert summary.failed[1].what == "missed 21 mm; 1 reported falsely"
    uncertain = case("x", lesion(hit=True, certainty=None))
    assert (figures(*cases, uncertain).froc, figures(*cases, uncertain).calibration) == ((), None)


def test_body_structures_and_series_without_a_comparison_are_told_apart():
    structure = ComparedStructure(label="Spleen", dice=0.4, volume_mm3=1000.0, reported_mm3=900.0)
    whole = case("a")
    assert whole.comparison is not None
    spleen = replace(whole, comparison=replace(whole.comparison, structures=(structure,)))
    broken = replace(whole, comparison=None, fault="not applicable: 4 mm slices", outcome=Outcome.NOT_APPLICABLE)
    summary = figures(spleen, broken)
    assert (summary.compared, summary.without_comparison) == (1, 1)
    assert [
        (agreement.label, agreement.series, agreement.median_dice, agreement.dice) for agreement in summary.structures
    ] == [("Spleen", 1, 0.4, None)]
    assert [failure.what for failure in summary.failed] == ["Spleen: Dice below 0.5", "not applicable: 4 mm slices"]


def ainode(tmp_path: Path, *arguments: object) -> Result:
    config = tmp_path / "config.toml"
    config.write_text(
        f'[storage]\nfolder = "{tmp_path / "node"}"\n'
        '[pipelines.x]\nfactory = "job_pipelines:create"\nrequire_acceptance = true\n'
    )
    verb, *rest = map(str, arguments)
    return CliRunner().invoke(main, [*verb.split(), *rest, "--config", str(config)])


@pytest.mark.thorough
def test_accept_records_a_report_that_an_operator_approves_and_withdraws(tmp_path: Path):
    folder, pdf = studies(tmp_path / "in", {"A": MIDDLE}, {}), tmp_path / "report.pdf"
    done = ainode(tmp_path, "accept", "x", folder, "--negatives", "--pdf", pdf)
    assert done.exit_code == 0, done.output
    assert "all: 2 series, 1 of 1 lesions found, 1 false reports" in done.output
    assert "patients: 2" in done.output
    assert pdf.read_bytes().startswith(b"%PDF")
    [listed] = json.loads(ainode(tmp_path, "acceptance list", "--json").stdout)
    assert (listed["pipeline"], listed["version"], listed["approved_at"]) == ("x", "1.2", None)
    assert ainode(tmp_path, "acceptance show", listed["id"][:6]).output.strip() in done.output
    assert ainode(tmp_path, "acceptance approve", listed["id"], "--reason", " ").exit_code
    assert "may be sent" in ainode(tmp_path, "acceptance approve", listed["id"], "--reason", "as before").output
    assert "already" in ainode(tmp_path, "acceptance approve", listed["id"], "--reason", "again").output
    assert ": approved by" in ainode(tmp_path, "acceptance list").output
    assert ainode(tmp_path, "acceptance withdraw", listed["id"], "--reason", "new scanner").exit_code == 0
    assert ": withdrawn" in ainode(tmp_path, "acceptance list").output


def truth_of(site: Site) -> dict[str, Any]:
    [verified] = read_verified_cases(site.engine, site.spool, "nodule").cases
    files = CaseFiles(images=verified.case.images, segmentation=None, report=None, parts=verified.case.parts)
    return {lesion.label: lesion.volume_mm3 for lesion in compare_with_truth(files).lesions}


@pytest.mark.thorough
def test_verdicts_of_readers_are_truth_where_they_say_all(site: Site):
    facts = {"outcome": "findings", "scanner": "Maker A", "slices": 8, "findings": 2, "scores": [], "device": "cpu"}
    with begin_immediate(site.engine) as connection:
        record_statistics(connection, site.job_id, "nodule", facts | {"run_seconds": 1.0})
    with pytest.raises(InputError, match="no analysis of pipeline 'nodule'"):
        read_verified_cases(site.engine, site.spool, "nodule")
    first, second = site.masks
    smaller = site.masks[second].copy()
    smaller[np.nonzero(smaller)[0].min()] = False
    third = np.zeros_like(smaller)
    third[0, :3, :3] = True
    site.collect(workstation_seg(site.source, {"kept": site.masks[first], "less": smaller, "more": third}))
    volumes = truth_of(site)
    own = float(site.masks[first].sum())
    assert volumes["less"] / volumes[first] == pytest.approx(smaller.sum() / own)
    assert volumes["more"] / volumes[first] == pytest.approx(9 / own)
    assert len(volumes) == 3
    site.collect(workstation_seg(site.source, {"only": smaller}), at=6000.0)
    assert list(truth_of(site)) == ["only"]
    with begin_immediate(site.engine) as connection:
        record_statistics(connection, site.job_id, "nodule", facts | {"run_seconds": 1.0, "findings": 3})
    with pytest.raises(InputError, match="1: a lesion without a verdict"):
        truth_of(site)
