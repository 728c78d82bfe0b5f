"""``ainode try``: a pipeline on a folder, without network and ledger."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from dicom_files import ct_series, mr_series, write
from pydicom import dcmread

from node.config import PipelineTable
from node.errors import NotFoundError
from node.inference.try_pipeline import Trial, run_trial


def run(folder: Path, out: Path | None, steps: list[Any], **options: Any) -> Trial:
    table = PipelineTable(factory="job_pipelines:create", options=options)
    return run_trial("scripted", table, folder, out, device="cpu", progress=lambda *step: steps.append(step))


def test_series_that_meets_the_needs_is_analysed_and_its_objects_are_written(tmp_path: Path) -> None:
    write(mr_series(n=5, size=16), tmp_path / "in" / "mr")
    write(ct_series(n=4, size=16), tmp_path / "in" / "ct")
    (tmp_path / "in" / "notes.txt").write_text("no DICOM")
    steps: list[Any] = []
    trial = run(tmp_path / "in", tmp_path / "out", steps)
    found, unsuited = trial.series
    assert (found.modality, found.images, found.outcome, found.fault) == ("CT", 4, "findings", "")
    assert (found.lesions, found.segments) == (1, ("Nodule 1",))
    assert [dcmread(path).Modality for path in found.files] == ["SEG", "SR"]
    assert (unsuited.outcome, unsuited.reason, unsuited.files) == (
        "not applicable",
        "Modality is MR, needed is CT",
        (),
    )
    assert trial.skipped == 1
    assert steps[0][0] == "reading headers"
    assert steps[-1] == ("done", 2, 2)


def test_without_a_folder_for_results_nothing_is_written(tmp_path: Path) -> None:
    write(ct_series(n=4, size=16), tmp_path / "in")
    before = sorted(tmp_path.rglob("*"))
    assert run(tmp_path / "in", None, []).series[0].outcome == "findings"
    assert sorted(tmp_path.rglob("*")) == before


def test_unsuitable_series_gives_its_reason(tmp_path: Path) -> None:
    write(ct_series(n=4, size=16), tmp_path / "in")
    [series] = run(tmp_path / "in", None, [], does="unsuitable").series
    assert (series.outcome, series.reason) == ("not applicable", "the lungs are not in the picture")


def test_result_that_a_node_would_not_send_says_why(tmp_path: Path) -> None:
    write(ct_series(n=4, size=16), tmp_path / "in")
    [series] = run(tmp_path / "in", tmp_path / "out", [], does="outside").series
    assert "outside the source images" in series.fault
    assert series.files == ()


def test_folder_without_dicom_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no DICOM")
    with pytest.raises(NotFoundError, match="no DICOM file among 1 files; give the folder"):
        run(tmp_path, None, [])
