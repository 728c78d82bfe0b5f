"""Results on a series of several volumes, as the validators of others judge them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from dicom_files import write
from diffusion import diffusion_series

from node.config import PipelineTable
from node.inference.try_pipeline import run_trial


def errors(program: str, *paths: Path) -> list[str]:
    command = [Path(sys.executable).with_name(program), *paths]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")]


def test_the_map_and_report_of_the_page_are_valid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    text = (Path(__file__).parents[2] / "docs" / "write-a-pipeline.md").read_text()
    examples = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    (code,) = (example for example in examples if "volumes_by" in example)
    (tmp_path / "adc_of_the_page.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    images = write(diffusion_series(), tmp_path / "in")
    kinds = ("parametric map", "sr", "pdf", "key object selection")
    table = PipelineTable(factory="adc_of_the_page:create")
    trial = run_trial("adc", table, tmp_path / "in", tmp_path / "out", device="cpu", progress=print, kinds=kinds)
    (analysed,) = trial.series
    assert len(analysed.files) >= 3
    assert [errors("dciodvfy", path) for path in analysed.files] == [[]] * len(analysed.files)
    assert errors("dcentvfy", *images, *analysed.files) == []
