"""Pipelines on an inference server over gRPC."""

from __future__ import annotations

import re
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pydicom
import pytest
from certificates import Authority
from dicom_files import ct_series, write
from grpc_inference_server import GrpcInferenceServer, grpc_inference_server, messages

from node.config import PipelineTable
from node.errors import NodeError, PipelineError, PlatformError, ServerAbsentError
from node.inference.model_process import ModelProcess
from node.inference.task import Reply, Task
from node.inference.try_pipeline import run_trial
from node.outcome import Outcome
from pipelines.remote.grpc_messages import read_grpc_answer, write_grpc_request

pytestmark = pytest.mark.timeout(240)
PAGE = (Path(__file__).parents[2] / "docs" / "remote.md").read_text()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    authority = Authority(tmp_path_factory.mktemp("authority"))
    (authority.folder / "host.ext").write_text("subjectAltName=DNS:localhost\n")
    authority.issue("server", "-extfile", "host.ext")
    return authority


@pytest.fixture
def server(authority: Authority) -> Iterator[GrpcInferenceServer]:
    with grpc_inference_server(authority.pem("server"), authority.key("server")) as server:
        yield server


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    series = ct_series(n=5, size=24)
    for number, image in enumerate(series):
        pixels = image.pixel_array.copy()
        pixels[4:9, 6 + number] = 800 - int(image.RescaleIntercept)
        image.PixelData = pixels.tobytes()
    return tuple(write(series, tmp_path_factory.mktemp("series")))


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelProcess]:
    worker = ModelProcess("cpu", 1, 120.0, tmp_path_factory.mktemp("sandboxes"), exchange=True)
    yield worker
    worker.close()


def table(server: GrpcInferenceServer, authority: Authority, *, binary: bool = True, **run: object) -> PipelineTable:
    (text,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    options = tomllib.loads(text)["pipelines"]["bright"]["options"]
    bounds = {**options["run"], "ca": authority.pem("ca"), **run}
    return PipelineTable(factory=f"remote:{server.url}", options={**options, "binary": binary, "run": bounds})


def run(worker: ModelProcess, table: PipelineTable, images: tuple[Path, ...], folder: Path) -> Reply:
    return worker.run(Task(job_id="j", pipeline="bright", table=table, paths=images, folder=folder), lambda: True)


@pytest.mark.parametrize("binary", [True, False])
def test_the_mask_and_the_classes_of_a_server_become_a_result(server, authority, images, tmp_path, binary):
    token = tmp_path / "token"
    token.write_text("secret\n")
    server.url = f"{server.url}/versions/3"
    given = table(server, authority, binary=binary, token_file=str(token))
    result = run_trial("bright", given, images[0].parent, tmp_path, device="cpu", progress=lambda *_: None).series[0]
    assert (result.outcome, result.fault) == (Outcome.FINDINGS, "")
    (path,) = [path for path in result.files if path.stem.endswith("seg")]
    by_slice = sorted(int(frame.sum()) for frame in pydicom.dcmread(path).pixel_array)
    sources = [pydicom.dcmread(path) for path in images]
    assert by_slice == sorted(int((source.pixel_array + source.RescaleIntercept > 300).sum()) for source in sources)
    assert server.metadata[-1]["authorization"] == "Bearer secret"
    assert server.asked_for[-1] == ("bright", "3")


FAULTS = {
    "refuses": r"localhost refused the request for model 'bright' with INVALID_ARGUMENT: unexpected shape",
    "other grid": r"mask \[1, 4, 24, 24\] is not on the grid of the images, \[5, 24, 24\]",
    "garbage": "states the shape",
    "slow": r"took longer than run\.seconds = 2",
}


@pytest.mark.parametrize("behaviour", FAULTS)
def test_a_faulty_answer_costs_an_attempt_with_its_reason(server, authority, images, worker, tmp_path, behaviour):  # noqa: PLR0917 - fixtures
    server.behaviour = behaviour
    began = time.monotonic()
    given = table(server, authority, seconds=2 if behaviour == "slow" else 30)
    with pytest.raises(PipelineError, match=FAULTS[behaviour]):
        run(worker, given, images, tmp_path)
    assert time.monotonic() - began < 60


def test_an_answer_larger_than_its_bound_is_not_taken(server, authority, images, worker, tmp_path):
    with pytest.raises(PipelineError, match=r"more than run\.response_mib"):
        run(worker, table(server, authority, response_mib=0.0001), images, tmp_path)


def test_a_server_that_does_not_answer_is_left_alone_and_jobs_wait(server, authority, images, worker, tmp_path):
    given = table(server, authority, failures=2, pause_seconds=300)
    server.behaviour = "gone"
    for _ in range(2):
        with pytest.raises(ServerAbsentError, match=r"does not answer \(shutting down"):
            run(worker, given, images, tmp_path)
    asked = server.asked
    with pytest.raises(ServerAbsentError, match=r"is called again in \d+ s") as error:
        run(worker, given, images, tmp_path)
    assert server.asked == asked
    assert error.value.is_outage


def test_a_model_that_is_not_loaded_is_named(server, authority, images, worker, tmp_path):
    server.behaviour = "loading"
    with pytest.raises(PlatformError, match="answers that it is not ready for model 'bright'; load the model there"):
        run(worker, table(server, authority), images, tmp_path)
    server.url = server.url.replace("bright", "other")
    with pytest.raises(PlatformError, match="NOT_FOUND: no such model for model 'other'"):
        run(worker, table(server, authority), images, tmp_path)


def test_a_certificate_that_nobody_trusts_ends_the_call(server, authority, images, worker, tmp_path):
    stranger = Authority(tmp_path / "stranger")
    given = table(server, authority, ca=stranger.pem("ca"), connect_seconds=2)
    with pytest.raises(NodeError, match="does not answer"):
        run(worker, given, images, tmp_path)
    assert server.asked_for == []


def test_what_a_pipeline_writes_is_what_the_schema_reads(tmp_path):
    tensors = {
        "image": np.arange(24, dtype=np.float32).reshape(1, 2, 3, 4) - 7,
        "numbers": np.array([[-1, 1 << 40]], np.int64),
        "flags": np.array([True, False]),
    }
    for binary in (True, False):
        write_grpc_request(tmp_path, tensors, ["labels"], binary=binary)
        request = messages()["ModelInferRequest"].FromString((tmp_path / "request.body").read_bytes())
        assert [(tensor.name, tensor.datatype, list(tensor.shape)) for tensor in request.inputs] == [
            ("image", "FP32", [1, 2, 3, 4]), ("numbers", "INT64", [1, 2]), ("flags", "BOOL", [2]),
        ]  # fmt: skip
        assert [output.name for output in request.outputs] == ["labels"]
        if binary:
            assert list(request.raw_input_contents) == [array.tobytes() for array in tensors.values()]
        else:
            image, numbers, flags = (tensor.contents for tensor in request.inputs)
            assert list(image.fp32_contents) == tensors["image"].ravel().tolist()
            assert list(numbers.int64_contents) == [-1, 1 << 40]
            assert list(flags.bool_contents) == [True, False]


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_an_answer_that_is_cut_off_is_an_error_with_its_reason(tmp_path, cut):
    response = messages()["ModelInferResponse"](model_name="bright")
    response.outputs.add(name="labels", datatype="UINT8", shape=[2, 30])
    response.raw_output_contents.append(bytes(60))
    (tmp_path / "answer.body").write_bytes(response.SerializeToString())
    assert read_grpc_answer(tmp_path)["labels"].shape == (2, 30)
    (tmp_path / "answer.body").write_bytes(response.SerializeToString()[:-cut])
    with pytest.raises(PipelineError):
        read_grpc_answer(tmp_path)
