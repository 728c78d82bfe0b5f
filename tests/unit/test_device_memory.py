"""Memory of a CUDA device: what the node makes of the answers of PyTorch, which are scripted here."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from dicom_files import ct_series, write
from job_pipelines import create

from node.config import PipelineTable
from node.errors import PlatformError
from node.inference.child import execute
from node.inference.device_memory import peak_mib, release_unused, reset_peak, room_on, works
from node.inference.memory_admission import MemoryPeak
from node.inference.prefetch import Prefetcher
from node.inference.task import Task

GIB = 2**30


@dataclass
class Cuda:
    """A CUDA device as ``torch.cuda`` describes one: its memory in GiB, and whether its context works."""

    free: float = 10.0
    reserved: float = 6.0
    allocated: float = 2.0
    sound: bool = True
    emptied: int = 0

    def is_available(self) -> bool:
        return True

    def mem_get_info(self, _: str) -> tuple[int, int]:
        return int(self.free * GIB), 24 * GIB

    def memory_reserved(self, _: str) -> int:
        return int(self.reserved * GIB)

    def memory_allocated(self, _: str) -> int:
        return int(self.allocated * GIB)

    def max_memory_allocated(self, _: str) -> int:
        return int(self.reserved * GIB)

    def reset_peak_memory_stats(self, _: str) -> None:
        pass

    def empty_cache(self) -> None:
        self.emptied += 1
        self.free += self.reserved - self.allocated
        self.reserved = self.allocated

    def synchronize(self, _: str) -> None:
        if not self.sound:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Cuda:
    device = Cuda()
    for name in (name for name in dir(device) if callable(getattr(device, name)) and not name.startswith("_")):
        assert hasattr(torch.cuda, name)
        monkeypatch.setattr(torch.cuda, name, getattr(device, name))
    return device


def test_memory_that_others_do_not_lack_is_kept_for_the_next_task(cuda: Cuda) -> None:
    release_unused("cuda:0")
    assert (cuda.emptied, cuda.reserved) == (0, 6.0)
    cuda.free = 3.0
    release_unused("cuda:0")
    assert (cuda.emptied, cuda.reserved) == (1, 2.0)


def test_what_this_process_keeps_is_room_for_its_analysis(cuda: Cuda) -> None:
    assert room_on("cuda:0") == 16 * 1024
    assert cuda.emptied == 0


def test_peaks_of_a_device_are_in_mib(cuda: Cuda) -> None:
    assert peak_mib("cuda:0")["device"] == 6 * 1024
    assert "device" not in peak_mib("cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_a_device_that_is_not_there_is_refused_with_the_remedy() -> None:
    with pytest.raises(PlatformError, match=r"cuda:0: PyTorch has no CUDA device; install its driver or change"):
        reset_peak("cuda:0")


def failing(folder: Path) -> Task:
    return Task(
        job_id="j",
        pipeline="failing",
        table=PipelineTable(factory="job_pipelines:create", options={"does": "raise"}),
        paths=tuple(write(ct_series(n=4, size=16), folder / "in")),
        seen=(MemoryPeak(device="cpu", voxels=1024, host_mib=1.0, device_mib=None),),
        folder=folder / "out",
    )


def on_cpu(*, weights: Path | None, device: str, options: Mapping[str, Any]) -> Any:
    assert device == "cuda:0"
    return create(weights=weights, device="cpu", options=options)


@pytest.mark.parametrize("sound", [True, False])
def test_a_process_whose_device_is_broken_ends_although_it_holds_other_models(
    cuda: Cuda, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, sound: bool
) -> None:
    cuda.sound = sound
    assert works("cuda:0") == sound
    models = OrderedDict(other=create(weights=None, device="cpu", options={}))
    monkeypatch.setattr("job_pipelines.create", on_cpu)
    reply = execute(failing(tmp_path), models, "cuda:0", Prefetcher())
    assert reply.error == "pipeline"
    assert reply.ends_process != sound
    assert list(models) == ["other"]
