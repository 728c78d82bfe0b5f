"""Bash completes the command line of ``ainode``."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture
def command(tmp_path: Path) -> str:
    """Value of PATH with `ainode` first."""
    script = tmp_path / "ainode"
    script.write_text(f"#!{sys.executable}\nfrom ainode import main\nmain()\n")
    script.chmod(0o755)
    return f"{tmp_path}:{os.environ['PATH']}"


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("ainode rero", "reroute"),
        ("ainode rules re", "replay"),
        ("ainode backup --fi", "--files"),
        ("ainode retract --reason sa", "safety"),
    ],
)
def test_bash_completes_commands_options_and_values(command: str, line: str, offered: str):
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("bash is not installed")
    words = line.split()
    script = (
        'eval "$(_AINODE_COMPLETE=bash_source ainode)"\n'
        f"COMP_WORDS=({' '.join(words)}) COMP_CWORD={len(words) - 1}\n"
        '_ainode_completion ainode\nprintf "%s\\n" "${COMPREPLY[@]}"\n'
        "complete -p ainode"
    )
    done = subprocess.run(
        [bash, "-c", script], env={**os.environ, "PATH": command}, capture_output=True, text=True, check=False
    )
    assert offered in done.stdout.splitlines(), done.stdout + done.stderr
    assert "_ainode_completion" in done.stdout
