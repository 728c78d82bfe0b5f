"""How the C library keeps or returns freed memory (mallopt(3)), if it is glibc; who ends when memory runs out.

Limits are in ``node.process.control_group``.
"""

from __future__ import annotations

import ctypes
from contextlib import suppress
from pathlib import Path

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -2, -3, -8
"""malloc.h."""


def return_freed_memory() -> None:
    """Return freed memory to the kernel immediately.

    By default one large block that is freed makes glibc keep all blocks up to its size from then on (mallopt(3),
    "dynamic mmap threshold"), in one of eight arenas for each core: a peer that sends one PDU of 16 MiB would make the
    process larger for good.
    """
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        library.mallopt(_M_MMAP_THRESHOLD, 1 << 17)
        library.mallopt(_M_ARENA_MAX, 2)


def keep_freed_memory() -> None:
    """Reuse freed memory instead of returning it to the kernel.

    A network frees and takes blocks of megabytes at every layer, and the kernel clears every page that it hands out:
    a quarter of the time of the denoiser. Blocks beyond 64 MiB (volumes) still go back at once.
    """
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        library.mallopt(_M_MMAP_THRESHOLD, 1 << 26)
        library.mallopt(_M_TRIM_THRESHOLD, 1 << 28)
        library.mallopt(_M_TOP_PAD, 1 << 26)


def trim_freed_memory() -> None:
    """Return freed memory to the kernel once."""
    library = ctypes.CDLL(None)
    if hasattr(library, "malloc_trim"):
        library.malloc_trim(0)


def end_before_parent() -> None:
    """Have the kernel end this process, and not its parent, when memory runs out (proc(5))."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500")
