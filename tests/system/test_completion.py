"""Shells complete the command line of ``ainode``."""

from __future__ import annotations

import os
import re
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


@pytest.mark.parametrize(
    ("shell", "asked", "offered"),
    [
        ("zsh", {"COMP_WORDS": "ainode rero", "COMP_CWORD": "1"}, "reroute"),
        ("zsh", {"COMP_WORDS": "ainode retract --reason sa", "COMP_CWORD": "3"}, "safety"),
        ("fish", {"COMP_WORDS": "ainode rero", "COMP_CWORD": "rero"}, "reroute"),
        ("fish", {"COMP_WORDS": "ainode retract --reason sa", "COMP_CWORD": "sa"}, "safety"),
    ],
)
def test_the_command_answers_what_the_scripts_of_zsh_and_fish_ask(
    command: str, shell: str, asked: dict[str, str], offered: str
):
    def answer(instruction: str, **more: str) -> str:
        environment = {**os.environ, "PATH": command, "_AINODE_COMPLETE": f"{shell}_{instruction}", **more}
        return subprocess.run(["ainode"], env=environment, capture_output=True, text=True, check=True).stdout

    script = answer("source")
    assert f"_AINODE_COMPLETE={shell}_complete" in script
    assert all(name in script for name in asked)
    assert offered in re.split(r"[\n\t,]", answer("complete", **asked))


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_the_script_is_one_that_the_shell_can_read(command: str, shell: str, tmp_path: Path):
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"{shell} is not installed")
    environment = {**os.environ, "PATH": command, "_AINODE_COMPLETE": f"{shell}_source"}
    script = tmp_path / "script"
    script.write_text(subprocess.run(["ainode"], env=environment, capture_output=True, text=True, check=True).stdout)
    subprocess.run([program, "-n", str(script)], check=True)
