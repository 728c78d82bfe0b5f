"""``ainode try``: a pipeline on a folder, without network and ledger."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from dicom_files import ct_series, mr_series, write
from pydicom import dcmread

from node.__main__ import main
from node.config import PipelineTable
from node.errors import GateError, InputError, NotFoundError
from node.inference.try_pipeline import Trial, run_trial

pytestmark = pytest.mark.thorough


def run(folder: Path, out: Path | None, steps: list[Any], **options: Any) -> Trial:
    table = PipelineTable(factory="job_pipelines:create", options=options)
    return run_trial("scripted", table, folder, out, device="cpu", progress=lambda *step: steps.append(step))


def test_series_that_meets_the_needs_is_analysed_and_its_objects_are_written(tmp_path: Path) -> None:
    write(mr_series(n=5, size=16), tmp_path / "in" / "mr")
    write(ct_series(n=4, size=16), tmp_path / "in" / "ct")
    (tmp_path / "in" / "notes.txt").write_text("no DICOM")
    steps: list[Any] = []
    trial = run(tmp_path / "in", tmp_path / "out", steps)
    analysed, unsuited = trial.series
    assert (analysed.modality, analysed.images, analysed.outcome, analysed.fault) == ("CT", 4, "findings", "")
    assert analysed.cpu_seconds > 0
    assert analysed.peak_memory_mib["host"] > 10
    assert (analysed.lesions, analysed.segments) == (1, ("Nodule 1",))
    assert [dcmread(path).Modality for path in analysed.files] == ["SEG", "SR"]
    assert (unsuited.outcome, unsuited.reason, unsuited.files) == (
        "not applicable",
        "Modality is MR, needed is CT",
        (),
    )
    assert trial.skipped == 1
    assert steps[0][0] == "reading headers"
    assert steps[-1] == ("done", 2, 2)


def ainode_try(tmp_path: Path, does: str, *options: str) -> Result:
    write(ct_series(n=4, size=16), tmp_path / "in")
    (tmp_path / "config.toml").write_text(
        f'[storage]\nfolder = "{tmp_path / "node"}"\n[pipelines.x]\nfactory = "job_pipelines:create"\n'
        f'options = {{ does = "{does}" }}\n'
    )
    arguments = ["try", "--config", str(tmp_path / "config.toml"), "x", str(tmp_path / "in"), *options]
    return CliRunner().invoke(main, arguments)


def test_a_result_that_would_not_be_sent_gives_the_exit_status_of_the_gate(tmp_path: Path) -> None:
    result = ainode_try(tmp_path, "outside")
    assert (result.exit_code, "WOULD NOT BE SENT" in result.output) == (GateError.exit_code, True)


def test_companions_are_given_and_what_was_measured_is_printed(tmp_path: Path) -> None:
    write(mr_series(n=3, size=16), tmp_path / "t1c")
    given = ainode_try(tmp_path, "companion", "--companion", f"t1c={tmp_path / 't1c'}")
    assert (given.exit_code, "t1c has 3 slices, t2 is None" in given.output) == (0, True)
    measured = ainode_try(tmp_path, "measure")
    assert re.search(r"[\d.]+ s on cpu, [\d.]+ CPU seconds, peak memory \d+ MiB host, 0 objects", measured.output)
    assert (measured.exit_code, "Agatston score 12" in measured.output) == (0, True)


def test_a_folder_of_several_series_is_no_companion(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(mr_series(n=3, size=16), tmp_path / "both" / name)
    result = ainode_try(tmp_path, "companion", "--companion", f"t1c={tmp_path / 'both'}")
    assert result.exit_code == InputError.exit_code
    assert "holds 2 series; give the folder of one" in result.output


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
