"""``ainode bench infer``: it times what applies to a series, in a worker's process."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from click.testing import CliRunner
from dicom_files import ct_series, write

from node.__main__ import main


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
