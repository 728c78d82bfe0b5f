"""A file system that hangs: FUSE whose server never answers, in a mount namespace of its own."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_REC_PRIVATE = 16384 | 262144
"""MS_REC and MS_PRIVATE of mount(2): what is mounted here is not mounted elsewhere."""


def run_with_hung_disk(script: str, *arguments: Path) -> str:
    """Run a script of Python that mounts with ``hung``, and return what it prints; skips where no FUSE is allowed."""
    own_space = ["unshare", *(["-Ur"] if os.geteuid() else []), "--mount"]
    command = [*own_space, sys.executable, "-c", script, *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": f"{Path(__file__).parent}:{Path(__file__).parents[2]}"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60.0, env=environment)
    if "unshare failed" in done.stderr or "'/dev/fuse'" in done.stderr:
        pytest.skip(done.stderr.splitlines()[-1])
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextmanager
def hung(folder: Path) -> Iterator[None]:
    """Whoever asks the file system of ``folder`` waits until the end of the block, and gets an error then."""
    libc = ctypes.CDLL(None, use_errno=True)
    server = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={server},rootmode=40000,user_id={os.getuid()},group_id={os.getgid()}"
    for arguments in (
        (b"none", b"/", None, _REC_PRIVATE, None),
        (b"hung", str(folder).encode(), b"fuse", 0, options.encode()),
    ):
        if libc.mount(*arguments):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(folder))
    try:
        yield
    finally:
        os.close(server)
