"""Admission by memory: what an analysis needs, from earlier analyses of similar series, and what is free.

How many jobs run at once on a device is decided in ``node.inference.infer_stage``.
"""

from __future__ import annotations

import gc
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil

from node.config import PipelineTable
from node.errors import AdmissionError

if TYPE_CHECKING:  # workers import no encoder
    from node.pipeline import Pipeline

LARGEST_STEP = 2.0
"""An analysis of fewer than half the voxels says nothing of this one: a part of the memory does not grow with them."""
PROCESS_MIB = 512.0
"""Memory of a process that has imported PyTorch and what its pipeline needs, without weights."""
RESERVE_MIB = 1024.0
"""Memory that loaded models leave to the rest of the machine."""
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
    similar = [(max(1.0, voxels / peak.voxels), peak) for peak in seen if voxels <= LARGEST_STEP * peak.voxels]
    host = max((ratio * peak.host_mib for ratio, peak in similar), default=0.0)
    return host, max((ratio * (peak.device_mib or 0.0) for ratio, peak in similar), default=0.0)


def admit(
    pipeline: str,
    seen: Sequence[MemoryPeak],
    voxels: int,
    loaded: OrderedDict[str, Pipeline],
    room_mib: Callable[[], float],
    *,
    alone: bool = False,
) -> None:
    """Check that one analysis fits into the memory that is free, and unload other models of this process if not.

    ``loaded``: the models of this process, least recently used first; the last one is in use. ``alone``: no other
    process is left that could make room on the device; the pipeline then has to do with what there is.
    Raises ``AdmissionError`` when too little memory is free. Without this the kernel would kill the process half way,
    or another one.
    """
    host, device = expected_mib(seen, voxels)

    def lacking() -> tuple[float, float]:
        own = psutil.Process().memory_info().rss / _MIB
        return host - own - free_mib(), device - room_mib() if device else 0.0

    while any(lack > 0 for lack in lacking()) and len(loaded) > 1:
        loaded.popitem(last=False)
        gc.unfreeze()  # loading has frozen them all
        gc.collect()
    lack, lack_device = lacking()
    if lack > 0 or (lack_device > 0 and not alone):
        need, free = (host, host - lack) if lack > 0 else (device, device - lack_device)
        raise AdmissionError(
            f"memory: pipeline {pipeline} will take about {need:.0f} MiB for {voxels} voxels, as it did before, and "
            f"{free:.0f} MiB are available; end other programs, or give the machine more"
        )


def free_mib() -> float:
    """Host memory (MiB) that can be taken without swapping."""
    return psutil.virtual_memory().available / _MIB


def loading_mib(tables: Iterable[PipelineTable]) -> float:
    """Host memory (MiB) that a new process will take with the models of ``tables``: each file, and its tensors."""
    files = (file for table in tables if table.weights for file in (table.weights, *table.weights.rglob("*")))
    return PROCESS_MIB + 2 * sum(file.stat().st_size for file in files if file.is_file()) / _MIB
