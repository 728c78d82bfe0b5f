"""Pipelines on an inference server: what is sent, what becomes of the answer, and what a faulty server costs."""

from __future__ import annotations

import re
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest
from certificates import Authority
from dicom_files import ct_series, write
from inference_server import InferenceServer, inference_server

from node.config import PipelineTable
from node.errors import NodeError, PipelineError, ServerAbsentError
from node.inference.model_process import ModelProcess
from node.inference.task import Reply, Task
from node.inference.try_pipeline import run_trial
from node.outcome import Outcome

pytestmark = pytest.mark.timeout(240)
PAGE = (Path(__file__).parents[2] / "docs" / "remote.md").read_text()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    authority = Authority(tmp_path_factory.mktemp("authority"))
    (authority.folder / "host.ext").write_text("subjectAltName=DNS:localhost\n")
    authority.issue("server", "-extfile", "host.ext")
    return authority


@pytest.fixture
def server(authority: Authority) -> Iterator[InferenceServer]:
    with inference_server(authority.pem("server"), authority.key("server")) as server:
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


def table(server: InferenceServer, authority: Authority, *, binary: bool = True, **run: object) -> PipelineTable:
    (text,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    options = tomllib.loads(text)["pipelines"]["bright"]["options"]
    bounds = {**options["run"], "ca": authority.pem("ca"), **run}
    return PipelineTable(factory=f"remote:{server.url}", options={**options, "binary": binary, "run": bounds})


def run(worker: ModelProcess, table: PipelineTable, images: tuple[Path, ...], folder: Path) -> Reply:
    return worker.run(Task(job_id="j", pipeline="bright", table=table, paths=images, folder=folder), lambda: True)


def test_the_mask_and_the_classes_of_a_server_become_a_result(server, authority, images, tmp_path):
    for binary in (True, False):
        token = tmp_path / "token"
        token.write_text("secret\n")
        given = table(server, authority, binary=binary, token_file=str(token))
        out = tmp_path / str(binary)
        result = run_trial("bright", given, images[0].parent, out, device="cpu", progress=lambda *_: None).series[0]
        assert (result.outcome, result.fault) == (Outcome.FINDINGS, "")
        (path,) = [path for path in result.files if path.stem.endswith("seg")]
        by_slice = sorted(int(frame.sum()) for frame in pydicom.dcmread(path).pixel_array)
        sources = [pydicom.dcmread(path) for path in images]
        assert by_slice == sorted(int((source.pixel_array + source.RescaleIntercept > 300).sum()) for source in sources)
        sent = server.headers[-1]
        assert sent["Authorization"] == "Bearer secret"
        assert ("Inference-Header-Content-Length" in sent) == binary


FAULTS = {
    "refuses": r"localhost refused the request for model 'bright' with 400: .*unexpected shape",
    "other grid": r"mask \[1, 4, 24, 24\] is not on the grid of the images, \[5, 24, 24\]",
    "garbage": "states the shape",
    "slow": r"took longer than run\.seconds = 2",
}


@pytest.mark.parametrize("behaviour", FAULTS)
def test_a_faulty_answer_costs_an_attempt_with_its_reason(server, authority, images, worker, tmp_path, behaviour):  # noqa: PLR0917 - fixtures
    server.behaviour = behaviour
    began = time.monotonic()
    given = table(server, authority, binary=False, seconds=2 if behaviour == "slow" else 30)
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
        with pytest.raises(ServerAbsentError, match="answers 503"):
            run(worker, given, images, tmp_path)
    asked = server.asked
    with pytest.raises(ServerAbsentError, match=r"is called again in \d+ s") as error:
        run(worker, given, images, tmp_path)
    assert server.asked == asked
    assert error.value.is_outage
    assert 200 < error.value.retry_seconds <= 300


def test_a_server_with_the_certificate_of_somebody_else_gets_nothing(server, authority, images, worker, tmp_path):
    stranger = Authority(tmp_path / "stranger")
    given = table(server, authority, ca=stranger.pem("ca"))
    with pytest.raises(ServerAbsentError, match=r"(?i)certificate.verify.failed"):
        run(worker, given, images, tmp_path)
    assert server.headers == []


def test_a_model_that_the_server_does_not_have_is_named(server, authority, images, worker, tmp_path):
    given = table(server, authority)
    other = PipelineTable(factory=given.factory.replace("bright", "dark"), options=given.options)
    with pytest.raises(NodeError, match="localhost answers 404 for model 'dark'"):
        run(worker, other, images, tmp_path)
