"""`ainode join` lets the service write published rules into its file, and nothing else of root's beside it."""

from __future__ import annotations

import os
import pwd
import subprocess
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from node.init import files

USER = "daemon"
"""In every passwd; it stands for the user of the service."""


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder like /etc/ainode after the installation, where another user can get."""
    if os.geteuid() != 0:
        pytest.skip("needs root to give files away")
    monkeypatch.setattr(files, "_USER", USER)
    with TemporaryDirectory() as above:
        Path(above).chmod(0o755)
        folder = Path(above) / "ainode"
        (folder / "fleet").mkdir(parents=True)
        (folder / "fleet" / "ca.key").write_text("secret")
        (folder / "fleet" / "ca.key").chmod(0o600)
        (folder / "config.toml").write_text("old")
        for path in (folder, folder / "config.toml"):
            os.chown(path, 0, pwd.getpwnam(USER).pw_gid)
        folder.chmod(0o750)
        (folder / "config.toml").chmod(0o640)
        yield folder


def as_service(script: str, folder: Path) -> bool:
    return not subprocess.run(
        ["sh", "-c", script], cwd=folder, user=USER, group=USER, extra_groups=[], check=False, stderr=subprocess.DEVNULL
    ).returncode


REPLACE = "echo new > config.toml.part && mv -f config.toml.part config.toml"


def test_the_service_replaces_the_file_of_a_member_and_no_key(folder: Path):
    assert not as_service(REPLACE, folder)
    assert files.open_to_service(folder / "config.toml")
    assert as_service(REPLACE, folder)
    assert (folder / "config.toml").read_text() == "new\n"
    assert not as_service("mv fleet elsewhere", folder)
    assert not as_service("cat fleet/ca.key", folder)
    assert folder.stat().st_mode & 0o7777 == 0o1770


def test_a_folder_of_the_system_stays_as_it_is(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(files, "_USER", USER)
    before = Path("/etc").stat().st_mode
    assert not files.open_to_service(Path("/etc/ainode.toml"))
    assert Path("/etc").stat().st_mode == before
