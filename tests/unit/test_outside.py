"""Factories outside of the process of a pipeline, and what that process can do to the worker."""

from __future__ import annotations

import os

import numpy as np
import pytest
from click.testing import CliRunner

from node.__main__ import main
from node.config import ContainerImage, PipelineTable, ServedModel, outside_factory, parse
from node.errors import ConfigError, PipelineError
from node.inference.plugins import offered
from node.outside.container_run import ContainerRun, arguments, gpu_of
from node.outside.exchange import Exchange, open_given
from node.outside.limits import ContainerLimits
from node.pipeline import Volume
from pipelines.container.nifti import misplaced, read_labels, write_image

DIGEST = "sha256:" + "0a" * 32


def test_a_factory_names_an_image_by_its_digest():
    image = outside_factory(f"container:registry.example:5000/lung/lobes:2.1@{DIGEST}")
    assert image == ContainerImage(repository="registry.example:5000/lung/lobes", tag="2.1", digest=DIGEST)
    assert image.reference == f"registry.example:5000/lung/lobes@{DIGEST}"
    assert outside_factory("pipelines.nodule:create") is outside_factory("container:create") is None
    for factory in ("container:lobes:latest", f"container:--privileged@{DIGEST}", "container:lobes@sha256:0a"):
        with pytest.raises(ConfigError, match=r"write container:REPOSITORY@sha256"):
            parse(f'[pipelines.lobes]\nfactory = "{factory}"')


def test_a_factory_names_a_model_by_an_address_with_tls():
    served = outside_factory("remote:https://triton.example:8000/v2/models/lobes/versions/3")
    assert served == ServedModel(
        url="https://triton.example:8000/v2/models/lobes/versions/3", host="triton.example", name="lobes", version="3"
    )
    by_grpc = outside_factory("remote:grpcs://triton.example:8001/v2/models/lobes")
    assert isinstance(by_grpc, ServedModel)
    assert (by_grpc.by_grpc, by_grpc.has_tls, by_grpc.version, served.by_grpc) == (True, True, "", False)
    assert outside_factory("remote:grpc://127.0.0.1:8001/v2/models/lobes") is not None
    assert outside_factory("remote:http://127.0.0.1:8000/v2/models/lobes") is not None
    for factory, reason in {
        "remote:http://triton.example/v2/models/lobes": "without TLS",
        "remote:grpc://triton.example:8001/v2/models/lobes": "without TLS; use grpcs",
        "remote:grpcs://triton.example/v2/models/lobes": "has no port",
        "remote:https://triton.example/lobes": "names no model",
        "remote:https://a:b@triton.example/v2/models/lobes": "token",
    }.items():
        with pytest.raises(ConfigError, match=reason):
            parse(f'[pipelines.lobes]\nfactory = "{factory}"')


def test_a_worker_without_the_engine_offers_no_container():
    def table(engine: str) -> PipelineTable:
        return PipelineTable(factory=f"container:lobes@{DIGEST}", options={"run": {"engine": engine}})

    assert offered({"here": table("true"), "elsewhere": table("noengine")}) == ("here",)


def test_models_add_says_what_a_container_lacks(monkeypatch):
    for source, reason in {
        "container:lobes:latest": "write container:REPOSITORY@sha256",
        f"container:lobes@{DIGEST}": "neither podman nor docker is installed here; install podman",
    }.items():
        monkeypatch.setenv("PATH", "/nowhere")
        told = CliRunner().invoke(main, ["models", "add", source])
        assert told.exit_code != 0
        assert reason in told.output


def test_a_container_is_always_started_without_network_and_rights(tmp_path, monkeypatch):
    exchange = Exchange(folder=tmp_path)
    exchange.make()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-1f")
    run = ContainerRun(
        pipeline="p", image_id=DIGEST, contract="plain", limits=ContainerLimits(command=["--network=host"]),
        device="cuda:1", threads=4, seconds=60, rootless=False,
    )  # fmt: skip
    words = [*arguments(run, exchange, "name", is_podman=True)]
    image = words.index(DIGEST)
    for word in ("--network=none", "--read-only", "--cap-drop=all", "--security-opt=no-new-privileges", "--pull=never",
                 "--memory=16384m", "--memory-swap=16384m", "--pids-limit=2048", "--cpus=4", "--timeout=90",
                 "--http-proxy=false",
                 "--device=nvidia.com/gpu=GPU-1f", f"--volume={tmp_path}/in:/input:ro,Z"):  # fmt: skip
        assert word in words[:image]
    assert words[image + 1 :] == ["--network=host"]
    assert gpu_of("cuda:0") == "3"


def test_links_and_pipes_that_a_process_leaves_are_not_opened(tmp_path):
    exchange = Exchange(folder=tmp_path / "exchange")
    exchange.make()
    (tmp_path / "secret").write_text("secret")
    (exchange.inputs / "link").symlink_to(tmp_path / "secret")
    os.mkfifo(exchange.inputs / "pipe")
    (exchange.inputs / "large").write_bytes(bytes(11))
    (exchange.inputs / "folder" / "deep").mkdir(parents=True)
    for name in ("link", "pipe", "large", "folder", "absent"):
        with pytest.raises(PipelineError):
            open_given(exchange.inputs / name, 10)
    exchange.clear()
    assert [*exchange.inputs.iterdir()] == []
    assert (tmp_path / "secret").read_text() == "secret"


@pytest.mark.parametrize("orientation", ["HPL", "ALH", "RHP"])
def test_a_label_map_that_was_turned_lies_on_the_same_voxels(tmp_path, orientation):
    tilt = np.array([[0.0, 0.6, 0.8], [0.0, 0.8, -0.6], [1.0, 0.0, 0.0]])
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = tilt * [3.0, 0.7, 0.8], (10.0, -20.0, 30.0)
    array = np.random.default_rng(1).integers(0, 3, (4, 5, 6)).astype(np.float32)
    images = Volume(array, affine, coordinate_system="PATIENT", frame_of_reference_uid="1.2.3")
    write_image(tmp_path / "labels.nii", images.to_patient_orientation(orientation))
    read = read_labels(tmp_path / "labels.nii", images, any_grid=False)
    assert np.array_equal(read.match_geometry(images).array, array)
    assert "not on the voxels" in misplaced(read[1:], images, any_grid=False)
    assert misplaced(read[1:], images, any_grid=True) == ""
    write_image(tmp_path / "half.nii", images.with_array(array + 0.5))
    with pytest.raises(PipelineError, match="no whole numbers"):
        read_labels(tmp_path / "half.nii", images, any_grid=False)
