"""Networks on a device: portions that fit its memory, precision it computes in."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from bundles import write_bundle
from volume_series import VolumeSeries

from node.config import PipelineTable
from node.errors import PipelineError, is_lack_of_memory
from node.inference.plugins import load_pipeline
from node.pipeline import Volume, content_digest
from pipelines.denoise.pipeline import DenoisePipeline, Options
from pipelines.device import Portions, autocast, native_precision
from pipelines.monai_bundle import create
from pipelines.nodule.candidates import Crop, heat_map
from pipelines.nodule.network import CandidateNet
from pipelines.tumor.network import FlairNet
from pipelines.tumor.prepare import probabilities


class Memory:
    """Work on a device whose memory takes so much and no more."""

    def __init__(self, **room: int) -> None:
        self.room = room
        self.asked: list[tuple[int, str]] = []

    def __call__(self, size: int, device: str) -> int:
        self.asked.append((size, device))
        if size > self.room[device]:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return size


def test_portions_shrink_until_they_fit_and_stay_so(caplog):
    portions, work = Portions("meta", (8, 4, 2)), Memory(meta=2, cpu=2)
    assert [portions.run(work), portions.run(work)] == [2, 2]
    assert work.asked == [(8, "meta"), (4, "meta"), (2, "meta"), (2, "meta")]
    assert "portions of 8" in caplog.text


def test_after_the_smallest_portion_comes_the_cpu_and_then_a_failure_with_its_remedy():
    portions, work = Portions("meta", (8, 4)), Memory(meta=0, cpu=4)
    assert portions.run(work) == 4
    assert work.asked[-1] == (4, "cpu")
    work.room["cpu"] = 0
    with pytest.raises(PipelineError, match=r"even for portions of 4 \(CUDA out of memory.*free memory"):
        portions.run(work)
    with pytest.raises(PipelineError, match="memory of cpu"):
        Portions("cpu", (1,)).run(work)


def test_the_cpu_is_for_one_analysis_only():
    portions, work = Portions("meta", (8, 4)), Memory(meta=0, cpu=4)
    portions.begin()
    assert (portions.run(work), portions.device) == (4, "cpu")
    assert portions.run(work) == 4
    assert work.asked[-1] == (4, "cpu"), "the rest of this analysis stays where there is memory"
    work.room["meta"] = 8
    portions.begin()
    assert portions.device == "meta"
    assert (portions.run(work), portions.device) == (8, "meta")


def test_a_smaller_portion_that_fitted_is_where_the_next_analysis_begins():
    portions, work = Portions("meta", (8, 4)), Memory(meta=4, cpu=4)
    for _ in range(2):
        portions.begin()
        portions.run(work)
    assert work.asked == [(8, "meta"), (4, "meta"), (4, "meta")]


def test_every_device_of_an_analysis_is_named():
    portions, work = Portions("meta", (8, 4)), Memory(meta=8, cpu=8)
    portions.begin()
    portions.run(work)
    work.room["meta"] = 0
    portions.run(work)
    assert portions.device == "meta, cpu"
    portions.begin()
    assert portions.device == "meta"


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: can't allocate memory: you tried to"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
    ids=["torch", "python", "cpu", "cudnn", "cublas"],
)
def test_lack_of_memory_is_recognised_whatever_reports_it(error):
    def work(size: int, _: str) -> int:
        if size > 4:
            raise error
        return size

    assert Portions("cpu", (8, 4)).run(work) == 4


def test_the_allocator_of_the_cpu_words_a_lack_as_it_is_recognised():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert is_lack_of_memory(caught.value)


def test_what_is_no_lack_of_memory_is_not_tried_again():
    calls = []

    def broken(size: int, device: str) -> None:
        calls.append(size)
        raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        Portions("cpu", (2, 1)).run(broken)
    assert calls == [2]


def test_a_cpu_without_instructions_for_bfloat16_computes_in_float32(monkeypatch):
    for able, precision in (({"avx512_bf16": True}, "bf16"), ({"avx512_bf16": False}, "fp32"), ({}, "fp32")):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda able=able: able)
        assert native_precision("cpu") == precision


def test_autocast_computes_in_the_precision_and_float32_is_left_alone():
    layer, x = torch.nn.Conv2d(1, 1, 3), torch.ones(1, 1, 8, 8)
    with autocast("cpu", "bf16"):
        assert layer(x).dtype == torch.bfloat16
    with autocast("cpu", "fp32"):
        assert layer(x).dtype == torch.float32


class Hungry(torch.nn.Module):
    """A network that runs out of memory when it gets more than ``most`` items."""

    def __init__(self, network: torch.nn.Module, most: int) -> None:
        super().__init__()
        self.network = network
        self.most = most

    def forward(self, x, *more):
        if len(x) > self.most:
            raise torch.OutOfMemoryError("full")
        return self.network(x, *more)


def test_slices_of_a_brain_are_the_same_in_portions_of_any_size():
    torch.manual_seed(0)
    network = FlairNet((4, 8, 8, 8, 8)).eval()
    image = np.random.default_rng(0).uniform(0, 2, (5, 64, 64)).astype(np.float32)
    whole = probabilities(network, image)
    hungry = Portions("cpu", (8, 4, 2, 1)).run(lambda n, _: probabilities(Hungry(network, 2), image, batch=n))
    np.testing.assert_allclose(hungry, whole, atol=1e-5)


def test_slabs_of_a_chest_give_the_same_candidates_in_any_size():
    torch.manual_seed(0)
    network = CandidateNet().eval()
    hu = torch.from_numpy(np.random.default_rng(1).normal(-700, 200, (64, 32, 32)).astype(np.float32))
    crop = Crop(hu=hu, inside=np.ones((16, 8, 8), bool), origin=np.zeros(3), scale=np.ones(3))
    whole, thin = (heat_map(network, crop, "cpu", kept=kept) for kept in (96, 16))
    assert np.corrcoef(whole[0].ravel(), thin[0].ravel())[0, 1] > 0.99


def test_denoised_slices_are_the_same_one_by_one_and_together():
    pipeline = DenoisePipeline(weights=None, device="cpu", options=Options(strength=1.0, reference_noise_hu=5.0))
    noisy = np.random.default_rng(2).normal(40, 30, (5, 96, 96)).astype(np.float32)
    alone = pipeline.denoise(noisy)
    pipeline._portions = Portions("cpu", (16, 4, 1))
    pipeline.network = Hungry(pipeline.network, 4)
    together = pipeline.denoise(noisy)
    np.testing.assert_allclose(together[0], alone[0], atol=0.01)
    assert together[1:] == pytest.approx(alone[1:], abs=0.01)
    assert np.std(alone[0][2]) < 0.8 * np.std(noisy[2])


class OnFullDevice(torch.nn.Module):
    """A network on a fake accelerator, ``cpu:0``, that another process fills for a while."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network
        self.at = ""
        self.full = True

    def to(self, device):
        self.at = str(device)
        return self

    def forward(self, *x):
        if self.full and self.at != "cpu":
            raise torch.OutOfMemoryError("CUDA out of memory")
        return self.network(*x)


def test_an_analysis_that_ended_on_the_cpu_leaves_the_device_to_the_next_one():
    affine = np.array([[0, 0, 1.0, 0], [0, 1.0, 0, 0], [2.0, 0, 0, 0], [0, 0, 0, 1]])
    noisy = np.random.default_rng(2).normal(40, 30, (3, 96, 96)).astype(np.float32)
    series = VolumeSeries(Volume(noisy, affine, coordinate_system="PATIENT"))
    pipeline = DenoisePipeline(weights=None, device="cpu:0", options=Options(strength=1.0, reference_noise_hu=5.0))
    pipeline.network = network = OnFullDevice(pipeline.network)
    pipeline.run(series)
    assert network.at == "cpu"
    network.full = False
    pipeline.run(series)
    assert network.at == "cpu:0"


class Begun(Portions):
    """Says that an analysis began."""

    def begin(self) -> None:
        raise StopIteration


@pytest.mark.parametrize("name", ["nodule", "tumor", "denoise", "brain"])
def test_every_analysis_begins_on_its_device(name):
    pipeline = load_pipeline(name, PipelineTable(), "cpu")
    if name == "nodule":
        pipeline.networks = replace(pipeline.networks, portions=Begun("cpu", (1,)))
    else:
        pipeline._portions = Begun("cpu", (1,))
    with pytest.raises(StopIteration):
        pipeline.run(VolumeSeries(Volume(np.zeros((2, 2, 2), np.float32), np.eye(4), coordinate_system="PATIENT")))


def test_a_bundle_takes_fewer_windows_at_once_when_memory_runs_out(tmp_path):
    path = write_bundle(tmp_path / "spleen")
    affine = np.array([[0, 0, 1.0, 0], [0, 1.0, 0, 0], [2.0, 0, 0, 0], [0, 0, 0, 1]])
    volume = Volume(np.zeros((20, 40, 40), np.float32), affine, coordinate_system="PATIENT")
    volume.array[8:12, 10:30, 10:30] = 150
    pipeline = create(weights=path, device="cpu", options={"sha256": content_digest(path)})
    (expected,) = pipeline.run(VolumeSeries(volume)).segments
    pipeline._bundle.inferer.sw_batch_size = 4
    pipeline._portions = Portions("cpu", pipeline._bundle.batches)
    pipeline._bundle.network = Hungry(pipeline._bundle.network, 1)
    (segment,) = pipeline.run(VolumeSeries(volume)).segments
    assert pipeline._bundle.inferer.sw_batch_size == 1
    pipeline._portions = Begun("cpu", (1,))
    with pytest.raises(StopIteration):
        pipeline.run(VolumeSeries(volume))
    np.testing.assert_array_equal(segment.mask.array, expected.mask.array)
