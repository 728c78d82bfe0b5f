"""Admission by memory: estimates the memory of a pipeline from earlier analyses of series of similar size."""

from __future__ import annotations

import gc
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import psutil

from node.errors import PlatformError
from node.pipeline import Pipeline

LARGEST_STEP = 2.0
"""An analysis of fewer than half the voxels says nothing of this one: a part of the memory does not grow with them."""
_MIB = 2**20


@dataclass(frozen=True, kw_only=True)
class MemoryPeak:
    """Peak memory of an earlier analysis by the same pipeline."""

    device: str
    voxels: int
    host_mib: float
    device_mib: float | None


def expected_mib(seen: Sequence[MemoryPeak], voxels: int) -> tuple[float, float]:
    """Peak memory (host, device; MiB) to expect for ``voxels``, per voxel the most that was seen; 0: not known."""
    similar = [(max(1.0, voxels / one.voxels), one) for one in seen if voxels <= LARGEST_STEP * one.voxels]
    host = max((ratio * one.host_mib for ratio, one in similar), default=0.0)
    return host, max((ratio * (one.device_mib or 0.0) for ratio, one in similar), default=0.0)


def admit(
    pipeline: str,
    seen: Sequence[MemoryPeak],
    voxels: int,
    loaded: OrderedDict[str, Pipeline],
    room_mib: Callable[[], float],
) -> None:
    """Free device memory for one analysis: unload the least recently used models first.

    Raises ``PlatformError`` when the machine itself has less memory free than the pipeline will take: the job is tried
    again later. Without this the kernel would kill the process half way, or another one.
    """
    host, device = expected_mib(seen, voxels)
    more = host - psutil.Process().memory_info().rss / _MIB
    free = psutil.virtual_memory().available / _MIB
    if more > free:
        raise PlatformError(
            f"memory: pipeline {pipeline} will take about {host:.0f} MiB for {voxels} voxels, as it did before, and "
            f"{free:.0f} MiB are free; end other programs, or give the machine more"
        )
    while device and len(loaded) > 1 and device > room_mib():
        loaded.popitem(last=False)
        gc.collect()


def room_on(device: str) -> float:
    """MiB that one analysis may take on a CUDA device: what is free there, and what this process holds already."""
    import torch

    torch.cuda.empty_cache()
    return (torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_allocated(device)) / _MIB
