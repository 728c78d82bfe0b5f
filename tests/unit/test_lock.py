"""What is fetched is fixed: requirements.lock by hashes, the actions of the hosted workflow by commits."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def versions(text: str) -> dict[str, str]:
    matches = re.findall(r"^([A-Za-z0-9_.-]+)==([^\s\\]+)", text, re.MULTILINE)
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in matches}


def test_every_tested_version_but_pytorch_is_locked():
    tested = versions((ROOT / "constraints.txt").read_text())
    tested.pop("torch")  # builds of one version differ by index: docs/security.md
    assert versions((ROOT / "requirements.lock").read_text()) == tested


def test_every_locked_version_has_a_sha256_and_nothing_else_is_in_the_file():
    entries = re.split(r"\n(?=[A-Za-z])", (ROOT / "requirements.lock").read_text().rstrip("\n"))
    for entry in entries:
        assert re.fullmatch(r"[A-Za-z0-9_.-]+==[^\s\\]+( \\\n    --hash=sha256:[0-9a-f]{64})+", entry), entry[:80]


def test_make_install_checks_hashes_and_isolates_no_build():
    (recipe,) = re.findall(r"^\$\(INSTALLED\):.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert "--require-hashes --no-deps --requirement requirements.lock" in recipe
    assert "--no-build-isolation" in recipe


def test_the_hosted_workflow_pins_its_actions_and_may_only_read():
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    used = re.findall(r"uses: (\S+)", workflow)
    assert len(used) == 4
    assert all(re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", action) for action in used)
    assert re.findall(r"^permissions:\n((?:  .*\n)+)", workflow, re.MULTILINE) == ["  contents: read\n"]
