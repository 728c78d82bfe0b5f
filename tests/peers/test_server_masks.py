"""Models on an inference server, over HTTPS and gRPC, that use what an earlier pipeline has outlined."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from certificates import Authority
from dicom_files import ct_series, write
from grpc_inference_server import grpc_inference_server
from inference_server import InferenceServer, inference_server

from node.config import PipelineTable
from node.inference.try_pipeline import SeriesTrial, run_trial
from node.outcome import Outcome

pytestmark = [pytest.mark.timeout(240), pytest.mark.usefixtures("standing_models")]
PAGE = (Path(__file__).parents[2] / "docs" / "remote.md").read_text()
SERVERS: dict[str, Callable[[str, str], AbstractContextManager[InferenceServer]]] = {
    "https": inference_server,
    "grpcs": grpc_inference_server,
}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    authority = Authority(tmp_path_factory.mktemp("authority"))
    (authority.folder / "host.ext").write_text("subjectAltName=DNS:localhost\n")
    authority.issue("server", "-extfile", "host.ext")
    return authority


@pytest.fixture(scope="module", params=SERVERS)
def server(request: pytest.FixtureRequest, authority: Authority) -> Iterator[InferenceServer]:
    with SERVERS[request.param](authority.pem("server"), authority.key("server")) as server:
        yield server


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bright within the cube of 2 x 4 x 4 voxels that the first pipeline outlines, and elsewhere."""
    hu = np.full((6, 24, 24), -50, np.int32)
    hu[:, 11:13, 2:20] = 800
    folder = tmp_path_factory.mktemp("series")
    write(ct_series(volume=hu), folder)
    return folder


def tried(server: InferenceServer, authority: Authority, images: Path, out: Path, **options: Any) -> SeriesTrial:
    (text,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    given = tomllib.loads(text)["pipelines"]["bright"]["options"]
    given |= {"run": {**given["run"], "ca": authority.pem("ca")}, "window": [-1000.0, 1000.0], **options}
    table = PipelineTable(factory=f"remote:{server.url}", options=given, after="organ")
    organ = PipelineTable(factory="job_pipelines:create")
    trial = run_trial("bright", table, images, out, device="cpu", progress=lambda *_: None, before={"organ": organ})
    return trial.series[0]


@pytest.mark.parametrize("binary", [True, False])
def test_a_server_gets_a_mask_as_a_channel_of_zeros_and_ones(server, authority, images, tmp_path, binary):
    result = tried(server, authority, images, tmp_path, inputs=["organ:Nodule 1"], binary=binary)
    assert (result.outcome, result.fault) == (Outcome.FINDINGS, "")
    image, mask = server.given["image"][0]
    cube = np.zeros((6, 24, 24), np.float32)
    cube[2:4, 10:14, 10:14] = 1
    np.testing.assert_array_equal(mask, cube)
    assert 0 <= image.min() < image.max() < 1, "the window is that of the images"


def test_a_server_gets_the_box_around_a_mask_and_its_answer_lies_in_place(server, authority, images, tmp_path):
    crop = {"to": ["organ:Nodule 1"], "margin_mm": 0}
    result = tried(server, authority, images, tmp_path, crop=crop, window=None)
    assert (result.outcome, result.fault) == (Outcome.FINDINGS, "")
    assert server.given["image"].shape == (1, 1, 2, 4, 4)
    assert "Only the part of the images around Nodule 1 was analysed." in result.remarks
    first = min((pydicom.dcmread(path) for path in images.iterdir()), key=lambda image: image.ImagePositionPatient[2])
    corner = server.given["affine"] @ [0, 0, 0, 1]
    wanted = np.array(first.ImagePositionPatient, float) + [10 * mm for mm in (*first.PixelSpacing, 0)]
    np.testing.assert_allclose(corner[:2], wanted[:2], atol=1e-6)
    (path,) = [path for path in result.files if path.stem.endswith("seg")]
    frames = pydicom.dcmread(path).pixel_array
    assert [np.argwhere(frame).tolist() for frame in frames] == [
        [[row, column] for row in (11, 12) for column in range(10, 14)] for _ in range(2)
    ], "what is bright outside of the box was not seen"


def test_a_server_is_not_called_when_nothing_was_outlined(server, authority, images, tmp_path):
    server.given = {}
    result = tried(server, authority, images, tmp_path, inputs=["organ:Liver"])
    assert result.outcome == Outcome.NOT_APPLICABLE
    assert "The model needs Liver, which was not outlined" in result.reason
    assert server.given == {}
