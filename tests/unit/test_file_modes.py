"""What the node writes is closed to other users of the machine, and `ainode check` names what is not."""

from __future__ import annotations

import os
import resource
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from certificates import Authority
from click.testing import CliRunner
from supervised import Supervised

from node.__main__ import main
from node.check.machine import secrets as secrets_check
from node.config import parse
from node.log import StudyLog, about
from node.service import open_storage

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def open_umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def open_to_others(folder: Path) -> list[str]:
    paths = [folder, *folder.rglob("*")]
    return [str(path) for path in paths if path.lstat().st_mode & stat.S_IRWXO]


def test_ledger_and_folders_are_closed_whatever_the_umask(tmp_path: Path) -> None:
    config = parse(f'[storage]\nfolder = "{tmp_path / "data"}"\n')
    engine, spool = open_storage(config)
    StudyLog(spool.logs, spool.holds_study)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE more (a)")
        assert (tmp_path / "data" / "ledger.sqlite-wal").exists()
        assert open_to_others(tmp_path / "data") == []
    engine.dispose()
    assert about  # the study log has a folder only


@pytest.mark.thorough
def test_a_running_node_opens_nothing_to_others_and_leaves_no_core(tmp_path: Path) -> None:
    running = Supervised(tmp_path)
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    running.start("max_associations = 8")
    try:
        for process in (running.process, *running.receivers()):
            assert process.rlimit(resource.RLIMIT_CORE) == (0, 0)
            assert _umask(process.pid) & 0o027 == 0o027
        assert open_to_others(tmp_path / "node") == []
    finally:
        running.kill()


def _umask(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("Umask")), 8)


def test_check_names_secrets_that_others_can_read(tmp_path: Path, authority: Authority) -> None:
    folder = tmp_path / "data"
    paths = {
        "[web] key": tmp_path / "web.key",
        "[ae.tls] key": tmp_path / "ae.key",
        "[web] proxy_secret_file": tmp_path / "proxy",
        "[web] users_file": folder / "web-users",
        "[storage] folder": folder / "salt",
        "[destinations.pacs] token_file": tmp_path / "token",
        "[destinations.ris] client_secret_file": tmp_path / "secret",
    }
    folder.mkdir()
    for path in paths.values():
        path.write_text("secret")
        path.chmod(0o600)
    text = f"""
[storage]
folder = "{folder}"
[ae.tls]
key = "{paths["[ae.tls] key"]}"
[web]
certificate = "{authority.pem("ainode")}"
key = "{paths["[web] key"]}"
proxy_header = "X-Remote-User"
proxy_secret_file = "{paths["[web] proxy_secret_file"]}"
[destinations.pacs]
url = "https://pacs.example"
token_file = "{paths["[destinations.pacs] token_file"]}"
[destinations.ris]
fhir = "https://ris.example/fhir"
token_url = "https://ris.example/token"
client_id = "ainode"
client_secret_file = "{paths["[destinations.ris] client_secret_file"]}"
"""
    assert secrets_check(parse(text)).good
    for key, path in paths.items():
        for mode in (0o604, 0o602, 0o644, 0o620):
            path.chmod(mode)
            result = secrets_check(parse(text))
            assert not result.good
            assert key in result.found
            assert str(path) in result.found
            assert f"chmod g-w,o-rwx {path}" in result.remedy
        path.chmod(0o640)
        assert secrets_check(parse(text)).good, "a group may read it: ssl-cert, ainode"


def test_the_verb_fails_for_a_key_that_all_can_read(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(f'[storage]\nfolder = "{tmp_path}"\n[ae]\nport = 0\n'.replace("port = 0", "port = 11999"))
    (tmp_path / "salt").write_text("0" * 64)
    (tmp_path / "salt").chmod(0o644)
    shown = CliRunner().invoke(main, ["check", "--config", str(config)])
    assert "FAIL secrets: [storage] folder" in shown.output
    assert shown.exit_code == 1


@pytest.mark.parametrize("unit", sorted((ROOT / "systemd").glob("*.service")), ids=lambda path: path.name)
def test_no_unit_leaves_a_core(unit: Path) -> None:
    assert "\nLimitCORE=0\n" in unit.read_text()


@pytest.mark.thorough
def test_a_verb_run_by_hand_leaves_a_closed_ledger(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(f'[storage]\nfolder = "{tmp_path / "data"}"\n')
    command = [sys.executable, "-m", "node", "status", "--config", str(config)]
    subprocess.run(command, check=True, capture_output=True, cwd=ROOT)
    assert open_to_others(tmp_path / "data") == []
