"""Every room opens stored files through the spool, which fetches those that only another machine has."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "node"
OWN = {
    "fleet/copy_repair.py",
    "fleet/housekeeping.py",
    "object_store/local_copies.py",
    "operate/purge.py",
    "operate/study_labels.py",
    "operate/verify.py",
    "receive/recovery.py",
    "receive/storage.py",
}
"""What looks at this machine's own folder and says so; ``study_labels`` names the place of a file that is absent."""


@pytest.mark.thorough
def test_rooms_ask_the_spool_for_readable_files_and_not_for_their_places():
    users = {
        str(path.relative_to(ROOT))
        for path in ROOT.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr == "absolute" and "spool" in ast.unparse(node.value).lower()
    }
    assert users == OWN
