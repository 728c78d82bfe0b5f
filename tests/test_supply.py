"""The dependency audit, and the lowest versions."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
AUDIT = ROOT / ".ci" / "audit"
FAULT = {"id": "PYSEC-1", "fix_versions": ["2.0"]}
CLEAN = {"name": "click", "version": "8", "vulns": []}
UNKNOWN = {"name": "torch", "skip_reason": "Dependency not found on PyPI"}


@pytest.mark.parametrize(
    ("answer", "status", "said"),
    [
        ({"dependencies": [CLEAN, {**CLEAN, "name": "old", "vulns": [FAULT]}]}, 1, "old 8: PYSEC-1, mended in 2.0"),
        ({"dependencies": [CLEAN, UNKNOWN]}, 0, "1 packages audited, 0 known vulnerabilities"),
        ({"dependencies": [CLEAN, UNKNOWN]}, 0, "does not know 1 of 2 versions: torch"),
        ({"dependencies": [UNKNOWN]}, 0, "nothing was audited, no index answers"),
        (None, 0, "nothing was audited, no index answers (no route to host)"),
    ],
)
def test_the_audit_says_what_it_knows(tmp_path: Path, answer: dict[str, Any] | None, status: int, said: str) -> None:
    tool = tmp_path / "pip-audit"
    (tmp_path / "answer").write_text("" if answer is None else json.dumps(answer))
    told = "" if answer is not None else "echo no route to host >&2; exit 1"
    tool.write_text(
        f'#!/bin/sh\nfor last; do :; done\ngrep -q "^click==" "$last" || exit 9\ncat {tmp_path}/answer\n{told}\n'
    )
    tool.chmod(0o755)
    done = subprocess.run([sys.executable, AUDIT, sys.executable, tool], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (status, "")
    assert said in done.stdout


def test_the_lowest_versions_are_the_bounds_of_every_dependency():
    done = subprocess.run([ROOT / ".ci" / "lowest"], capture_output=True, text=True, check=True)
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert done.stdout.splitlines() == [one.partition(",")[0].replace(">=", "==") for one in wanted]
