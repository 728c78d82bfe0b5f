"""CPU time and memory of a server's processes, however many it has at a time."""

from __future__ import annotations

import threading
from contextlib import suppress
from pathlib import Path

import psutil

_EVERY_SECONDS = 0.2
_WARM_PASSES = 3
"""Memory that was freed last is not always reused first."""


def warm_memory(folder: Path, data: bytes, count: int) -> None:
    """Write a file of ``count`` times ``data`` and give it up, so that the next one finds memory that is ready.

    A virtual machine gives memory that has been free for a while back to its host (free page reporting). To take a page
    again costs ten times what it costs to fill it: without this, only who starts at once finds that of the run before.
    """
    with (folder / "warm").open("wb", buffering=0) as file:
        for _ in range(_WARM_PASSES):
            for _ in range(count):
                file.write(data)
            file.truncate(0)
            file.seek(0)


class Usage:
    """Follows a process and its descendants from ``start`` to ``stop``."""

    def __init__(self, pid: int) -> None:
        self._root = psutil.Process(pid)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._before = 0.0
        self.cpu_seconds = 0.0
        """Used by all of them, ended ones included."""
        self.largest_mb = 0.0
        """Peak resident memory of the largest process."""
        self.together_mb = 0.0
        """Peak of the sum; pages that processes share count several times."""

    def start(self) -> None:
        self._before = self._cpu()
        self._thread.start()

    def stop(self) -> None:
        """Take the last measure; later ones are not ours."""
        self._stopped.set()
        self._thread.join()
        self._look()
        self.cpu_seconds = self._cpu() - self._before

    def _follow(self) -> None:
        while not self._stopped.wait(_EVERY_SECONDS):
            self._look()

    def _tree(self) -> list[psutil.Process]:
        return [self._root, *self._root.children(recursive=True)]

    def _cpu(self) -> float:
        """Time of living processes and of those that they have waited for."""
        seconds = 0.0
        for process in self._tree():
            with suppress(psutil.NoSuchProcess):
                seconds += sum(process.cpu_times()[:4])
        return seconds

    def _look(self) -> None:
        together = 0.0
        for process in self._tree():
            with suppress(psutil.NoSuchProcess, OSError, KeyError):
                words = dict(line.split(":") for line in Path(f"/proc/{process.pid}/status").read_text().splitlines())
                peak, now = (int(words[key].split()[0]) * 1024 / 1e6 for key in ("VmHWM", "VmRSS"))
                together += now
                self.largest_mb = max(self.largest_mb, peak)
        self.together_mb = max(self.together_mb, together, self.largest_mb)
