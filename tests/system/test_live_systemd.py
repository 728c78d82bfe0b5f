"""The unit under a real systemd: ready, watched, reloaded, stopped, shut in. For root, on request: AINODE_SYSTEMD=1."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import real_peers
from dicom_files import ct_series, write
from live_systemd import Systemd, systemd

UNIT = "ainode.service"

pytestmark = pytest.mark.skipif(
    not os.environ.get("AINODE_SYSTEMD") or os.geteuid() != 0, reason="AINODE_SYSTEMD is not set, or not root"
)


@pytest.fixture(scope="module")
def port() -> int:
    return real_peers.free_port()


@pytest.fixture(scope="module")
def manager(tmp_path_factory: pytest.TempPathFactory, port: int) -> Iterator[Systemd]:
    config = f"""
[ae]
address = "127.0.0.1"
port = {port}
[storage]
min_free_gib = 0.0
[series]
quiet_seconds = 2.0
[devices]
use = ["cpu"]
cpu_threads = 1
[web]
enabled = false
[pipelines.bright]
factory = "bright_pipeline:create"
[destinations.out]
folder = "/var/lib/ainode/out"
[[rules]]
name = "everything"
pipelines = ["bright"]
destinations = ["out"]
[rules.match]
Modality = "CT"
"""
    with systemd(tmp_path_factory.mktemp("systemd"), UNIT, config) as running:
        running.ctl("start", UNIT)
        yield running


def _until_logged(manager: Systemd, words: str) -> None:
    deadline = time.monotonic() + 240
    while words not in manager.log():
        assert time.monotonic() < deadline, manager.log()[-4000:]
        time.sleep(0.5)


def test_started_means_that_images_are_accepted(manager: Systemd, port: int) -> None:
    real_peers.dcmtk("echoscu", "-aec", "AINODE", "127.0.0.1", port)
    assert manager.shows(UNIT, "SubState") == "running"
    manager.until(UNIT, "StatusText", "receiving")


def test_the_service_is_shut_in_and_its_models_further(manager: Systemd) -> None:
    status = manager.run("cat", f"/proc/{manager.shows(UNIT, 'MainPID')}/status").stdout
    fields = {key: value.split() for key, _, value in (line.partition(":") for line in status.splitlines())}
    assert fields["Uid"][0] != "0"
    assert (fields["CapEff"], fields["NoNewPrivs"], fields["Seccomp"]) == (["0000000000000000"], ["1"], ["2"])
    _until_logged(manager, "pipeline bright loaded on cpu")
    assert "namespaces: own files, network and IPC and processes; control group: one" in manager.log()
    assert "Landlock: ABI" in manager.log()


def test_a_study_walks_through(manager: Systemd, port: int, tmp_path: Path) -> None:
    series = ct_series(n=6, size=32)
    write(series, tmp_path)
    real_peers.dcmtk("storescu", "-aec", "AINODE", "+sd", "127.0.0.1", port, tmp_path)
    _until_logged(manager, "objects stored at out")


def test_a_reload_takes_the_configuration_and_keeps_the_main_process(manager: Systemd, port: int) -> None:
    before = manager.shows(UNIT, "MainPID")
    manager.ctl("reload", UNIT)
    assert manager.shows(UNIT, "MainPID") == before
    _until_logged(manager, "configuration reloaded")
    manager.until(UNIT, "StatusText", "receiving")
    real_peers.dcmtk("echoscu", "-aec", "AINODE", "127.0.0.1", port)


def test_a_main_process_that_hangs_is_killed_by_the_watchdog_and_started_again(manager: Systemd, port: int) -> None:
    manager.run("kill", f"-{signal.SIGSTOP.value}", manager.shows(UNIT, "MainPID"))
    manager.until(UNIT, "NRestarts", "1")
    manager.until(UNIT, "SubState", "running")
    real_peers.dcmtk("echoscu", "-aec", "AINODE", "127.0.0.1", port)


def test_a_stop_ends_all_of_it_without_a_fault(manager: Systemd) -> None:
    manager.ctl("stop", UNIT)
    assert (manager.shows(UNIT, "ActiveState"), manager.shows(UNIT, "Result")) == ("inactive", "success")
    assert manager.run("pgrep", "-u", "ainode").stdout == ""
