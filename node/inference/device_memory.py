"""Memory of the device that this process computes on, and whether the device still works after a failure."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from node.errors import PlatformError
from node.process.memory import trim_freed_memory

CLEAR_REFS = Path("/proc/self/clear_refs")
"""Resets the peak of memory (proc(5))."""
_MIB = 2**20


def on_cuda(device: str) -> bool:
    """Whether ``device`` is one of CUDA; no other has memory of its own."""
    return device.startswith("cuda")


def reset_peak(device: str) -> None:
    """Measure the peak from now on. Raises ``PlatformError`` when PyTorch has no CUDA device."""
    with suppress(OSError):  # a hardened kernel may forbid it: the peak is then that of the process
        CLEAR_REFS.write_text("5")
    if on_cuda(device):
        import torch

        if not torch.cuda.is_available():
            raise PlatformError(f"device {device}: PyTorch has no CUDA device; install its driver or change [devices]")
        torch.cuda.reset_peak_memory_stats(device)


def peak_mib(device: str) -> dict[str, float]:
    """MiB since ``reset_peak``: ``host`` and, on a CUDA device, ``device``."""
    status = Path("/proc/self/status").read_text()
    mib = {"host": int(status.partition("VmHWM:")[2].split()[0]) / 1024}
    if on_cuda(device):
        import torch

        mib["device"] = torch.cuda.max_memory_allocated(device) / _MIB
    return mib


def room_on(device: str) -> float:
    """MiB that one analysis may take on a CUDA device: what is free there, and what this process holds already.

    The contexts of all processes (about 0.5 GiB each) are not free: the device itself is asked.
    """
    import torch

    return (torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device)) / _MIB


def release_unused(device: str) -> None:
    """Return to the machine what the last task needed, as far as it is not the model.

    On a CUDA device only when this process keeps more unused memory than is free: to get it back takes time.
    """
    trim_freed_memory()
    if on_cuda(device):
        import torch

        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        if unused > torch.cuda.mem_get_info(device)[0]:
            torch.cuda.empty_cache()


def works(device: str) -> bool:
    """Whether ``device`` still computes: after a CUDA fault every call of the process fails."""
    if not on_cuda(device):
        return True
    import torch

    try:
        torch.cuda.synchronize(device)
    except RuntimeError:
        return False
    return True
