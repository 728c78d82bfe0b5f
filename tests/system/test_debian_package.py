"""The Debian package under a systemd of its own. For root, on request: AINODE_DEB=FILE (``make deb``)."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import real_peers
from dicom_files import ct_series, write
from live_systemd import Systemd, whole_machine

PACKAGE = os.environ.get("AINODE_DEB", "")
UNIT = "ainode.service"

pytestmark = pytest.mark.skipif(not PACKAGE or os.geteuid() != 0, reason="AINODE_DEB is not set, or not root")


def done(machine: Systemd, *command: str, seconds: float = 300.0) -> str:
    """Run a command that must succeed."""
    ended = machine.run(*command, seconds=seconds)
    assert ended.returncode == 0, f"{command}: {ended.stdout[-2000:]}{ended.stderr[-2000:]}"
    return ended.stdout + ended.stderr


def studies(machine: Systemd) -> int:
    return len(json.loads(done(machine, "runuser", "-u", "ainode", "--", "ainode", "status", "--json"))["studies"])


@pytest.mark.timeout(2700)
def test_the_package_is_installed_configured_upgraded_and_purged_without_losing_an_image(tmp_path: Path) -> None:
    port = real_peers.free_port()
    (image,) = write(ct_series(1), tmp_path / "sent")
    with whole_machine(tmp_path) as machine:
        assert "run 'ainode init'" in done(machine, "dpkg", "--install", str(Path(PACKAGE).absolute()), seconds=900)
        assert machine.run("systemctl", "is-enabled", UNIT).stdout.strip() == "disabled"
        assert machine.shows(UNIT, "ActiveState") == "inactive"
        assert "ainode" in done(machine, "ainode", "--version")
        done(machine, "test", "-s", "/usr/share/man/man1/ainode-doctor.1.gz")
        done(machine, "bash", "-n", "/usr/share/bash-completion/completions/ainode")

        pacs = ("--pacs-title", "PACS", "--pacs-host", "127.0.0.1", "--pacs-port", "104")
        line = ("ainode", "init", "--yes", *pacs, "--port", str(port), "--pipelines", "tumor", "--install-units")
        assert "/etc/systemd/system/ainode.service" not in done(machine, *line)
        done(machine, "sed", "-i", "s/^min_free_gib = .*/min_free_gib = 0.0/", "/etc/ainode/config.toml")
        configured = done(machine, "cat", "/etc/ainode/config.toml")
        machine.ctl("enable", "--now", UNIT)
        real_peers.dcmtk("storescu", "-aec", "AINODE", "127.0.0.1", port, image)
        assert studies(machine) == 1

        first = machine.shows(UNIT, "MainPID")
        done(machine, "dpkg", "--install", str(Path(PACKAGE).absolute()), seconds=900)
        machine.until(UNIT, "SubState", "running")
        assert machine.shows(UNIT, "MainPID") != first
        assert done(machine, "cat", "/etc/ainode/config.toml") == configured
        real_peers.dcmtk("echoscu", "-aec", "AINODE", "127.0.0.1", port)
        assert studies(machine) == 1

        said = done(machine, "dpkg", "--purge", "ainode")
        assert "/var/lib/ainode is kept" in said
        assert machine.run("test", "-e", "/opt/ainode").returncode != 0
        assert machine.run("test", "-e", "/etc/ainode/config.toml").returncode != 0
        assert machine.run("systemctl", "cat", UNIT).returncode != 0
        assert done(machine, "find", "/var/lib/ainode", "-name", "*.dcm").count(".dcm") == 1
