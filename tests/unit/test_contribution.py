"""What contributors meet: hooks, hosted CI and templates follow the project's own commands and pages."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
GITHUB = ROOT / ".github"


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def test_the_hooks_are_the_commands_of_make_lint():
    (local,) = read(ROOT / ".pre-commit-config.yaml")["repos"]
    recipe = re.search(r"^lint: install\n((?:\t.+\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert recipe is not None
    wanted = [line.strip().replace("$(BIN)", ".venv/bin") for line in recipe[1].splitlines()]
    assert [hook["entry"] for hook in local["hooks"]] == wanted
    for hook in local["hooks"]:
        assert (hook["language"], hook["pass_filenames"]) == ("system", False)


def test_hosted_ci_runs_what_must_pass_before_anything_lands():
    jobs = read(GITHUB / "workflows" / "ci.yml")["jobs"]
    commands = {name: [step["run"] for step in job["steps"] if "run" in step] for name, job in jobs.items()}
    assert commands == {"test": [".ci/run"], "docs": ["make docs"]}
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


@pytest.mark.parametrize("form", ["bug", "proposal"])
def test_issue_forms_have_what_the_host_requires(form: str):
    content = read(GITHUB / "ISSUE_TEMPLATE" / f"{form}.yml")
    assert content["name"]
    assert content["description"]
    fields = [part for part in content["body"] if part["type"] != "markdown"]
    assert len({part["id"] for part in fields}) == len(fields) > 0
    assert all(part["attributes"]["label"] for part in fields)


def test_a_report_is_asked_not_to_show_a_patient():
    assert "Never attach images" in (GITHUB / "ISSUE_TEMPLATE" / "bug.yml").read_text()
    assert "no patient data" in (GITHUB / "PULL_REQUEST_TEMPLATE.md").read_text()
