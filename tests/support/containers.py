"""Real container images, made here from this machine's Python, and an engine of the tests' own that runs them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import pytest

PYTHON = Path("/usr/bin/python3")
_LEFT_OUT = ("test", "idlelib", "tkinter", "site-packages", "dist-packages", "lib2to3", "pydoc_data")
BOUNDS = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=4096:4096")
"""Of every container: an engine of root in a container may not raise the limits that it was given."""
_ACCOUNTS = {"passwd": "root:x:0:0::/root:/bin/sh\n", "group": "root:x:0:\n", "shadow": "root:*:::::::\n"}
"""Files of ``/etc`` in an image that gets users."""
_HYBRID = 'exec unshare -m sh -c "umount /sys/fs/cgroup/unified; exec \\"\\$@\\"" - '
"""crun takes no machine that has both versions of control groups; without the second it uses the first."""


@dataclass(frozen=True)
class Podman:
    """podman with a storage of its own."""

    command: Path
    folder: Path

    def run(self, *words: str | Path, given: bytes | None = None, seconds: float = 120.0) -> str:
        done = subprocess.run([self.command, *words], input=given, capture_output=True, check=False, timeout=seconds)
        if done.returncode != 0:
            raise RuntimeError(done.stderr.decode()[-500:])
        return done.stdout.decode().strip()

    def unmount(self) -> None:
        """Take away what the storage has mounted, so that its folder can be removed."""
        mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
        for mount in sorted((mount for mount in mounts if mount.startswith(f"{self.folder}/")), reverse=True):
            subprocess.run(["umount", "--lazy", mount], check=True)

    def image(self, name: str, files: dict[str, bytes], entry: list[str], *, python: bool = True) -> str:
        """Make an image of these files and return its factory."""
        archive = BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            if python:
                _add_python(tar)
            for path, content in files.items():
                about = tarfile.TarInfo(path.lstrip("/"))
                about.size, about.mode = len(content), 0o755
                tar.addfile(about, BytesIO(content))
        changes = ["--change", f"ENTRYPOINT {json.dumps(entry)}", "--change", "USER 1000"]
        self.run("import", *changes, "-", f"localhost/{name}:1", given=archive.getvalue())
        digest = self.run("image", "inspect", f"localhost/{name}:1", "--format", "{{.Digest}}")
        return f"container:localhost/{name}:1@{digest}"


def podman_of(folder: Path, driver: str = "vfs") -> Podman:
    """An engine with its storage in ``folder``; skips the test where none is installed, or the kernel allows none.

    ``driver``: of its storage. ``"vfs"`` works on every file system, and copies every layer whole.
    """
    program = shutil.which("podman")
    if program is None:
        pytest.skip("no container engine is installed (Debian package podman)")
    if os.geteuid() != 0:
        pytest.skip("this engine of the tests is started as root")
    options = (
        f"--root {folder / 'storage'} --runroot {folder / 'state'} --storage-driver {driver} --cgroup-manager cgroupfs "
        f"--events-backend none --tmpdir {folder / 'tmp'}"
    )
    command = folder / "podman"
    engine = Podman(command=command, folder=folder)
    for prefix in ("exec ", _HYBRID):
        command.write_text(f'#!/bin/sh\n{prefix}{program} {options} "$@"\n')
        command.chmod(0o755)
        try:
            if not engine.run("images", "-q"):
                engine.image("trial", {"/bin/true": _static_true()}, ["/bin/true"], python=False)
            limits = ("--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024", "--memory=256m", "--pids-limit=64")
            engine.run("run", "--rm", "--network=none", "--read-only", *limits, "localhost/trial:1")
        except (RuntimeError, OSError) as error:
            reason = str(error)
        else:
            return engine
    pytest.skip(f"this machine runs no container: {reason[-200:]}")


def add_machine(into: BytesIO, tools: Iterable[str], libraries: Iterable[str], folders: Mapping[str, Path]) -> None:
    """Write a root file system to ``into``: Python, ``tools`` and ``libraries`` of this machine, and ``folders``.

    ``folders``: by their place in it. What other users of it need beside that is empty.
    """
    with tarfile.open(fileobj=into, mode="w") as tar:
        for name in ("bin", "usr/bin", "etc", "var/lib", "tmp", "source"):
            about = tarfile.TarInfo(name)
            about.type, about.mode = tarfile.DIRTYPE, 0o1777 if name == "tmp" else 0o755
            tar.addfile(about)
        paths = {tool: Path(shutil.which(tool, path="/usr/sbin:/usr/bin") or "").resolve(strict=True) for tool in tools}
        for tool, path in paths.items():
            tar.add(path, f"bin/{tool}")
        known = subprocess.run(["/sbin/ldconfig", "--print-cache"], capture_output=True, text=True, check=True).stdout
        shared = [line.split()[-1] for line in known.splitlines() if line.split()[:1] and line.split()[0] in libraries]
        for name in ("python3", PYTHON.resolve().name):  # where its virtual environments look for it
            about = tarfile.TarInfo(f"usr/bin/{name}")
            about.type, about.linkname = tarfile.SYMTYPE, "/bin/python3"
            tar.addfile(about)
        _add_python(tar, {*_linked(paths.values()), *shared})
        for name, text in (
            ("passwd", "root:x:0:0::/root:/bin/sh\n"),
            ("group", "root:x:0:\n"),
            ("shadow", "root:*:::::::\n"),
        ):
            about = tarfile.TarInfo(f"etc/{name}")
            about.size, about.mode = len(text), 0o644
            tar.addfile(about, BytesIO(text.encode()))
        for place, folder in folders.items():
            tar.add(folder, place)


def _linked(programs: Iterable[Path]) -> set[str]:
    libraries: set[str] = set()
    for program in programs:
        told = subprocess.run(["ldd", program], capture_output=True, text=True, check=False).stdout
        libraries |= {word for word in told.split() if word.startswith("/")}
    return libraries


def _static_true() -> bytes:
    busybox = shutil.which("busybox")
    if busybox is None:
        pytest.skip("busybox is not installed (Debian package busybox-static)")
    return Path(busybox).read_bytes()


def _add_python(tar: tarfile.TarFile, more: AbstractSet[str] = frozenset()) -> None:
    """The interpreter of the system with its standard library, the libraries that it is linked with, and ``more``."""
    if not PYTHON.exists():
        pytest.skip("the system has no Python to put into an image (Debian package python3)")
    binary = PYTHON.resolve()
    tar.add(binary, "bin/python3")
    ask = [str(binary), "-c", "import sysconfig; print(sysconfig.get_path('stdlib'))"]
    version = subprocess.run(ask, capture_output=True, text=True, check=True).stdout.strip()
    dynamic = [*Path(version, "lib-dynload").glob("*.so")]
    for library in sorted(_linked((binary, *dynamic)) | more):
        tar.add(Path(library).resolve(), library.lstrip("/"))
    tar.add(version, version.lstrip("/"), filter=_of_standard_library)


def _of_standard_library(about: tarfile.TarInfo) -> tarfile.TarInfo | None:
    parts = about.name.split("/")
    if any(part in _LEFT_OUT or part.startswith("config-") for part in parts) or about.name.endswith(".pyc"):
        return None
    return about
