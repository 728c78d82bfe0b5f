"""A systemd of our own, process 1 of its own namespaces, that runs a unit of the node.

Needs root. Nothing of the machine changes: ``/etc``, or all folders, are covered by an overlay in memory, ``/run`` is
empty, and all of it ends with the process.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
_SCRIPT = """
set -e
mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/upper /run/work /run/lock
mount -t overlay -o lowerdir=/etc,upperdir=/run/upper,workdir=/run/work overlay /etc
mount -t tmpfs -o mode=755 tmpfs /var/lib
mount -t tmpfs -o mode=755 tmpfs /var/cache
umount -l /sys/fs/cgroup || true
mount -t cgroup2 cgroup2 /sys/fs/cgroup
useradd --system --user-group --home-dir /var/lib/ainode --shell /usr/sbin/nologin ainode
install -d -o ainode -g ainode /var/lib/ainode /var/lib/ainode/out
install -D -m 0640 -g ainode "$1/config.toml" /etc/ainode/config.toml
export container=unshare SYSTEMD_UNIT_PATH="$1"
exec /usr/lib/systemd/systemd --system --unit=idle.target --log-target=console --show-status=0
"""
_WHOLE_SCRIPT = """
set -e
mount --make-rprivate /
mkdir "$1/over"
mount -t tmpfs tmpfs "$1/over"
cd "$1/over"
mkdir upper work root
mount -t overlay -o lowerdir=/,upperdir=upper,workdir=work overlay root
mount --rbind /dev root/dev
mount -t sysfs sysfs root/sys
mount -t cgroup2 cgroup2 root/sys/fs/cgroup
mount -t proc proc root/proc
mount -t tmpfs -o mode=755 tmpfs root/run
mkdir root/run/lock root/run/old
rm -f root/usr/sbin/policy-rc.d
pivot_root root root/run/old
cd /
umount -l /run/old
export container=unshare SYSTEMD_UNIT_PATH="/etc/systemd/system:/lib/systemd/system:$1"
exec /usr/lib/systemd/systemd --system --unit=idle.target --log-target=console --show-status=0
"""
_TARGETS = ("idle", "sysinit", "basic", "shutdown", "exit", "network-online", "time-sync", "multi-user")
"""Empty ones: what units of a whole machine wait for."""


class Systemd:
    """A running one."""

    def __init__(self, folder: Path, pid: int) -> None:
        self.folder = folder
        self._pid = pid

    def run(self, *command: str, seconds: float = 300.0) -> subprocess.CompletedProcess[str]:
        """Run a command beside its services."""
        inside = ["nsenter", "--target", str(self._pid), "--mount", "--pid", "--cgroup", "--ipc", "--uts"]
        return subprocess.run([*inside, *command], capture_output=True, text=True, timeout=seconds, check=False)

    def ctl(self, *arguments: str) -> str:
        """``systemctl``, which must succeed."""
        done = self.run("systemctl", *arguments)
        assert done.returncode == 0, f"{arguments}: {done.stderr}\n{self.log()[-4000:]}"
        return done.stdout.strip()

    def shows(self, unit: str, name: str) -> str:
        """A property of a unit."""
        return self.ctl("show", "--value", "--property", name, unit)

    def until(self, unit: str, name: str, value: str, seconds: float = 240.0) -> None:
        """Wait for a property."""
        deadline = time.monotonic() + seconds
        while (shown := self.shows(unit, name)) != value:
            assert time.monotonic() < deadline, f"{name} is {shown}, not {value}\n{self.log()[-4000:]}"
            time.sleep(0.5)

    def log(self) -> str:
        """What the services have logged."""
        return self.run("cat", "/run/ainode.log").stdout


@contextmanager
def systemd(folder: Path, unit: str, config: str) -> Iterator[Systemd]:
    """With ``unit`` of this checkout, run by this interpreter, and this configuration. The unit is not started."""
    text = (ROOT / "systemd" / unit).read_text().replace("/opt/ainode/.venv/bin/ainode", f"{sys.executable} -m node")
    (folder / unit).write_text(text)
    (folder / "config.toml").write_text(config)
    # Only what a checkout in a home or temporary folder needs; there is no journal here.
    shown = " ".join(sorted({sys.prefix, sys.base_prefix, str(ROOT)}))
    (folder / f"{unit}.d").mkdir()
    (folder / f"{unit}.d" / "here.conf").write_text(
        f"[Service]\nProtectHome=tmpfs\nBindReadOnlyPaths={shown}\nWatchdogSec=20\nTimeoutStartSec=240\n"
        f"Environment=PYTHONPATH={ROOT}:{ROOT / 'tests' / 'support'} OMP_NUM_THREADS=1\n"
        "StandardOutput=append:/run/ainode.log\nStandardError=inherit\n"
    )
    with _booted(folder, _SCRIPT) as running:
        yield running


@contextmanager
def whole_machine(folder: Path) -> Iterator[Systemd]:
    """With every folder of this machine, all of which may be written; packages may be installed and removed."""
    with _booted(folder, _WHOLE_SCRIPT) as running:
        yield running


@contextmanager
def _booted(folder: Path, script: str) -> Iterator[Systemd]:
    for name in _TARGETS:
        (folder / f"{name}.target").write_text("[Unit]\nDefaultDependencies=no\n")
    apart = ["unshare", "--fork", "--kill-child", "--pid", "--mount", "--mount-proc", "--cgroup", "--ipc", "--uts"]
    with (folder / "systemd.log").open("wb") as log:
        process = subprocess.Popen([*apart, "bash", "-c", script, "bash", str(folder)], stdout=log, stderr=log)
    try:
        yield Systemd(folder, _ready(process, folder))
    finally:
        process.kill()
        process.wait()


def _ready(process: subprocess.Popen[bytes], folder: Path) -> int:
    """The process 1 inside, as it is called outside, when it answers."""
    deadline = time.monotonic() + 60
    while True:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        if children and Systemd(folder, int(children[0])).run("systemctl", "is-active", "idle.target").returncode == 0:
            return int(children[0])
        assert process.poll() is None, (folder / "systemd.log").read_text()
        assert time.monotonic() < deadline, (folder / "systemd.log").read_text()
        time.sleep(0.2)
