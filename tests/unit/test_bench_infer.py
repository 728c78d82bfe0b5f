"""``ainode bench infer``: it times what applies to a series, in a worker's process."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from dicom_files import ct_series, write

from node.__main__ import main
from node.bench.infer import Timed, aim_seconds, markdown


@pytest.mark.thorough
def test_a_pipeline_is_timed_on_the_series_that_it_applies_to(tmp_path: Path):
    tissue = np.rint(np.random.default_rng(1).normal(40, 25, (4, 96, 96))).astype(np.int32)
    write(ct_series(volume=tissue), tmp_path)
    command = ["bench", "infer", str(tmp_path), "--device", "cpu", "--threads", "1", "--rounds", "1", "--json"]
    done = CliRunner().invoke(main, [*command, "--pipeline", "denoise", "--pipeline", "tumor"], catch_exceptions=False)
    (line,) = json.loads(done.stdout)["lines"]
    assert (line["pipeline"], line["images"], line["outcome"], line["device"]) == ("denoise", 4, "derived", "cpu")
    assert 0 < line["run_seconds"] < line["seconds"][0]
    assert line["host_mib"] > 50
    assert line["device_mib"] is None


def timed(pipeline: str, device: str, images: int, seconds: float, host_mib: float = 900.0) -> Timed:
    told = {"outcome": "findings", "load_seconds": 1.0, "read_seconds": 0.1, "run_seconds": 1.0, "device_mib": None}
    return Timed(pipeline=pipeline, device=device, images=images, seconds=(seconds,), host_mib=host_mib, **told)


def test_the_page_says_which_aims_were_met():
    machine = {"date": "2026-01-31", "processor": "P", "system": "S", "load": "load 0"}
    lines = [timed("nodule", "cuda:0", 300, 1.5), timed("denoise", "cuda:0", 600, 2.5, 4000.0)]
    page = markdown([*lines, timed("spleen", "cuda:0", 300, 9.0)], "cuda:0", machine)
    assert "| nodule | 300 | findings | 1.50 (1.50-1.50) | 2, met |" in page
    assert "| denoise | 600 | findings | 2.50 (2.50-2.50) | 2, missed |" in page
    assert "| spleen | 300 | findings | 9.00 (9.00-9.00) |  |" in page
    assert page.endswith("At most 4000 MiB of host memory (aim: 3072, missed).\n")
    aims = [("nodule", 133), ("nodule", 300), ("tumor", 24), ("tumor", 155), ("denoise", 150)]
    assert [aim_seconds(name, "cpu", images) for name, images in aims] == [30.0, 30.0, 4.0, 10.0, 22.5]
