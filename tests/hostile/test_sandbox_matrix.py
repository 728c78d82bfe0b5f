"""What holds where a machine lacks some of what confines a model: the table of docs/development/sandbox.md."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from sandbox_matrix import AS_USER, MACHINES, MAY, escaped, outcomes

PAGE = Path(__file__).parents[2] / "docs" / "development" / "sandbox.md"
TABLES = dict(
    zip(("model", "reader"), PAGE.read_text(encoding="utf-8").split("## Readers of received files"), strict=True)
)


def rows(who: str) -> list[list[str]]:
    return [line.strip("| ").split(" | ") for line in TABLES[who].splitlines() if "| held" in line]


def documented(machine: str, who: str) -> dict[str, bool]:
    """Escape -> whether it is open, as the page says."""
    header = next(line for line in TABLES[who].splitlines() if line.startswith("| Escape"))
    column = header.strip("| ").split(" | ").index(machine)
    return {row[0]: row[column] == "**open**" for row in rows(who)}


@pytest.mark.parametrize("who", TABLES)
@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.timeout(900)
def test_nobody_escapes_but_where_the_page_says_so(machine: str, who: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, to be each of the users")
    if subprocess.run([*AS_USER, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("this machine allows no user namespaces")
    tried = outcomes(MACHINES[machine], who)
    assert all(escaped(tried, attempt) for attempt in MAY if who == "model"), "a model works the same everywhere"
    assert {attempt: escaped(tried, attempt) for attempt in tried["tried"] if attempt not in MAY} == documented(
        machine, who
    )


def test_at_least_forty_escapes_are_tried() -> None:
    assert len(rows("model")) >= 40
