"""Packs and releases on one machine in a process of its own, which ends with SIGKILL at a step."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

from node.config import Config
from node.object_store import packing
from node.object_store.local_copies import LocalCopies
from node.object_store.packing import Packing
from node.object_store.store import Objects, open_objects
from node.service import open_storage
from node.spool import Spool

STEPS = ("before upload", "after upload", "after row", "in deletion", "after deletion")
LATER_SECONDS = 30 * 86400.0


def kill_packing(config: Config, step: str) -> int:
    """Run it on a machine, and return the exit status, which is that of SIGKILL."""
    path = f"{Path(__file__).parents[2]}:{Path(__file__).parent}"
    environment = {**os.environ, "PYTHONPATH": path}
    command = [sys.executable, __file__, step]
    return subprocess.run(command, env=environment, input=pickle.dumps(config), check=False).returncode


def _killed(*_of: object, **_named: object) -> Any:
    os.kill(os.getpid(), signal.SIGKILL)


def _first_deleted(spool: Spool, paths: Iterable[str], **_named: object) -> None:
    spool.absolute(min(paths)).unlink()
    _killed()


def _all_deleted(spool: Spool, paths: Iterable[str], **_named: object) -> None:
    for path in paths:
        spool.absolute(path).unlink()
    _killed()


def main(config: Config, step: str) -> None:
    engine, spool = open_storage(config)
    table = config.storage.object_store
    open_store = partial(open_objects, table)
    match step:
        case "before upload":
            Objects.put_new = _killed  # type: ignore[method-assign]
        case "after upload":
            packing.is_whole = _killed
        case "after row":
            packing.end_packing = _killed
        case "in deletion":
            Spool.purge = _first_deleted  # type: ignore[method-assign, assignment]
        case "after deletion":
            Spool.purge = _all_deleted  # type: ignore[method-assign, assignment]
    Packing(table, engine, spool, open_store).look(threading.Event())
    at = time.time() + LATER_SECONDS
    LocalCopies(table, engine, spool, open_store, None).look(at, threading.Event())


if __name__ == "__main__":
    main(pickle.load(sys.stdin.buffer), sys.argv[1])  # noqa: S301 - of the test
