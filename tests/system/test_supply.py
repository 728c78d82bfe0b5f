"""The dependency audit, the bill of materials, the lowest versions and the source archive of a release."""

from __future__ import annotations

import io
import json
import runpy
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
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
        ({"dependencies": [UNKNOWN]}, 2, "nothing was audited: no index answers for these versions"),
        ({"dependencies": []}, 2, "nothing was audited"),
        (None, 2, "nothing was audited: no index answers (no route to host)"),
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
    assert done.stdout.splitlines() == [requirement.partition(",")[0].replace(">=", "==") for requirement in wanted]


def test_the_source_archive_has_the_same_bytes_for_the_same_files(tmp_path: Path) -> None:
    """Whoever packs them, whenever, in whatever order and with whatever rights."""
    files = {"node/a.py": (b"a = 1\n", 0o644), ".ci/run": (b"#!/bin/sh\n", 0o755), "README.md": (b"# Node\n", 0o644)}

    def archive(names: list[str], owner: str, moment: int, rights: int) -> bytes:
        raw = io.BytesIO()
        with tarfile.open(fileobj=raw, mode="w") as made:
            for name in names:
                data, mode = files[name]
                entry = tarfile.TarInfo(name)
                entry.size, entry.uname, entry.mtime, entry.mode = len(data), owner, moment, mode & rights
                made.addfile(entry, io.BytesIO(data))
        return raw.getvalue()

    pack = runpy.run_path(str(ROOT / ".ci" / "release"))["pack"]
    packed = []
    for names, owner, moment, rights in ((list(files), "anna", 1, 0o777), (sorted(files), "otto", 2, 0o700)):
        path = tmp_path / owner / "ainode-9.9.tar.gz"
        path.parent.mkdir()
        pack(path, archive(names, owner, moment, rights), b"Name: ainode\n", 1_700_000_000)
        packed.append(path.read_bytes())
    assert packed[0] == packed[1]
    with tarfile.open(fileobj=io.BytesIO(packed[0])) as made:
        modes = {entry.name: entry.mode for entry in made}
        assert modes == {"ainode-9.9/PKG-INFO": 0o644} | {f"ainode-9.9/{name}": files[name][1] for name in files}
        assert {(entry.mtime, entry.uid, entry.uname) for entry in made} == {(1_700_000_000, 0, "")}


def component(name: str, version: str, *licences: str) -> dict[str, Any]:
    """As cyclonedx-py writes it."""
    return {"name": name, "version": version, "licenses": [{"license": {"id": licence}} for licence in licences]}


def completed(path: Path, *components: dict[str, Any]) -> tuple[int, str, dict[str, Any]]:
    path.write_text(json.dumps({"components": components}))
    done = subprocess.run([ROOT / ".ci" / "bill", path], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.returncode, done.stdout, {part["name"]: part for part in json.loads(path.read_text())["components"]}


def test_the_bill_of_materials_gets_hashes_licences_and_weights(tmp_path: Path) -> None:
    (version,) = (
        line.partition("==")[2]
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if line.startswith("scipy==")
    )
    status, _, made = completed(tmp_path / "bill", component("scipy", version), component("torch", "2.13.0", "MIT"))
    assert status == 0
    assert made["scipy"]["licenses"][0]["license"]["id"] == "BSD-3-Clause"
    assert len(made["scipy"]["externalReferences"][0]["hashes"]) > 5
    assert "index" in made["torch"]["properties"][0]["value"]
    digest = (ROOT / "pipelines" / "tumor" / "weights.sha256").read_text().split()[0]
    assert made["tumor"]["hashes"] == [{"alg": "SHA-256", "content": digest}]
    assert made["tumor"]["licenses"][0]["license"]["id"] == "CC-BY-NC-SA-4.0"


def test_a_component_without_version_licence_or_hash_fails_the_bill(tmp_path: Path) -> None:
    status, said, _ = completed(tmp_path / "bill", component("stranger", ""))
    assert status == 1
    assert [f"stranger has no {what}" in said for what in ("version", "licence", "hash")] == [True] * 3
