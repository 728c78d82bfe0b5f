"""The adapter for other people's models, with a tiny network that is trained here."""

from __future__ import annotations

import hashlib
import zipfile

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from volume_series import VolumeSeries

from node.errors import PipelineError, PlatformError, WeightsError
from node.pipeline import Unsuitable, Volume
from node.results.analysis import outcome_of
from pipelines.model_file import create

BALL = {
    "channel": 1,
    "label": "Ball",
    "category": ["123037004", "SCT", "Anatomical Structure"],
    "type": ["78961009", "SCT", "Spleen"],
}


def ball_volume(orientation="HPL"):
    """A ball of 12 mm radius, 150 HU, at LPS (4, -6, 10), in noise; voxels 2 x 1 x 1 mm."""
    volume = Volume.from_components(
        np.zeros((24, 48, 48), np.float32),
        spacing=(2.0, 1.0, 1.0),
        coordinate_system="PATIENT",
        position=(-20.0, -30.0, -14.0),
        patient_orientation="HPL",
    )
    index = np.indices(volume.array.shape).reshape(3, -1)
    at = (volume.affine @ np.vstack([index, np.ones(index.shape[1])]))[:3].T
    inside = (np.linalg.norm(at - [4, -6, 10], axis=1) < 12).reshape(volume.array.shape)
    noise = np.random.default_rng(0).normal(0, 20, volume.array.shape)
    return volume.with_array((150 * inside + noise).astype(np.float32)).to_patient_orientation(orientation), inside


@pytest.fixture(scope="module")
def network():
    """Two channels, background and ball, learned from blobs in noise."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv3d(1, 4, 3, padding=1), torch.nn.Softplus(), torch.nn.Conv3d(4, 2, 1))
    optimiser = torch.optim.Adam(net.parameters(), 0.05)
    for _ in range(120):
        truth = torch.zeros(1, 16, 16, 16, dtype=torch.long)
        corner = torch.randint(2, 8, (3,))
        truth[0, corner[0] : corner[0] + 7, corner[1] : corner[1] + 7, corner[2] : corner[2] + 7] = 1
        image = 0.75 * truth[:, None] + 0.1 * torch.randn(1, 1, 16, 16, 16)
        loss = torch.nn.functional.cross_entropy(net(image.clamp(0, 1)), truth)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return net.eval()


def write_onnx(network, path):
    """The network of ``network`` as an ONNX graph, node by node."""
    make = onnx.helper.make_node
    nodes = [
        make("Conv", ["image", "0.weight", "0.bias"], ["a"], pads=[1] * 6),
        make("Softplus", ["a"], ["b"]),
        make("Conv", ["b", "2.weight", "2.bias"], ["logits"]),
    ]
    shape = ["n", None, "z", "y", "x"]
    image, logits = (
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name in ("image", "logits")
    )
    tensors = [onnx.numpy_helper.from_array(v.detach().numpy(), k) for k, v in network.state_dict().items()]
    graph = onnx.helper.make_graph(nodes, "ball", [image], [logits], tensors)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, path)


@pytest.fixture(scope="module", params=["ts", "pt2", "onnx"])
def model_file(request, network, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / f"ball.{request.param}"
    example = torch.zeros(1, 1, 16, 16, 16)
    if request.param == "ts":
        torch.jit.trace(network, example).save(str(path))
    elif request.param == "onnx":
        write_onnx(network, path)
    else:
        torch.export.save(torch.export.export(network, (example,)), path)
    return path


def options_for(path, **changed):
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    described = {
        "sha256": digest,
        "name": "Ball",
        "version": "1",
        "modality": "CT",
        "spacing_mm": [1.5, 1.5, 1.5],
        "window": [0.0, 200.0],
        "roi": [16, 16, 16],
        "segments": [BALL],
    }
    return described | changed


@pytest.mark.thorough
@pytest.mark.parametrize("orientation", ["HPL", "FAR", "LHA"])
@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_ball_is_found_where_it_lies_in_any_orientation(model_file, orientation, activation):
    volume, inside = ball_volume(orientation)
    pipeline = create(weights=model_file, device="cpu", options=options_for(model_file, activation=activation))
    (segment,) = pipeline.run(VolumeSeries(volume)).segments
    mask = segment.mask.to_patient_orientation("HPL").array
    dice = 2 * (mask & inside).sum() / (mask.sum() + inside.sum())
    assert dice > 0.85
    index = np.argwhere(segment.mask.array)
    centre = (segment.mask.affine @ np.append(index.mean(axis=0), 1))[:3]
    np.testing.assert_allclose(centre, [4, -6, 10], atol=0.5)


@pytest.mark.parametrize(
    ("changed", "there", "absent"),
    [
        ({}, "measured", "measured"),
        ({"looked_for": ["Ball"]}, "findings", "no findings"),
        (
            {"segments": [BALL | {"category": ["49755003", "SCT", "Morphologically Abnormal Structure"]}]},
            "findings",
            "measured",
        ),
    ],
)
def test_what_is_outlined_and_looked_for_decides_the_outcome(model_file, changed, there, absent):
    volume, _ = ball_volume("HPL")
    pipeline = create(weights=model_file, device="cpu", options=options_for(model_file, **changed))
    assert outcome_of(pipeline.run(VolumeSeries(volume))) == there
    assert outcome_of(pipeline.run(VolumeSeries(volume.with_array(np.zeros_like(volume.array))))) == absent


def test_other_file_than_the_pinned_one_is_refused(model_file):
    with pytest.raises(WeightsError, match="SHA-256"):
        create(weights=model_file, device="cpu", options=options_for(model_file, sha256="0" * 64))


def test_missing_file_is_named(tmp_path):
    (tmp_path / "x").write_bytes(b"")
    with pytest.raises(WeightsError, match=r"gone\.ts"):
        create(weights=tmp_path / "gone.ts", device="cpu", options=options_for(tmp_path / "x"))


@pytest.mark.parametrize("name", ["text.ts", "text.pt2", "text.onnx"])
def test_file_that_is_no_model_is_refused(tmp_path, name):
    (tmp_path / name).write_bytes(b"not a model")
    with pytest.raises(WeightsError, match="not a model"):
        create(weights=tmp_path / name, device="cpu", options=options_for(tmp_path / name))


def test_program_of_an_older_format_is_refused(tmp_path):
    path = tmp_path / "model.pt2"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("version", "3")
        archive.writestr("serialized_exported_program.json", "{}")
    with pytest.raises(WeightsError, match="not a model"):
        create(weights=path, device="cpu", options=options_for(path))


def test_channel_that_the_model_lacks_is_named(model_file):
    options = options_for(model_file, segments=[BALL | {"channel": 7}])
    with pytest.raises(ValueError, match="more than 7"):
        create(weights=model_file, device="cpu", options=options).run(VolumeSeries(ball_volume()[0]))


def test_uniform_volume_cannot_be_standardised(model_file):
    options = options_for(model_file) | {"window": None}
    volume = ball_volume()[0]
    with pytest.raises(Unsuitable, match="same value"):
        create(weights=model_file, device="cpu", options=options).run(
            VolumeSeries(volume.with_array(np.zeros_like(volume.array)))
        )


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"spacing": [1, 1, 1]}, "spacing = .*unknown.*spacing_mm"),
        ({"spacing_mm": [1, 1]}, "spacing_mm is .*3 numbers"),
        ({"spacing_mm": [1, 0, 1]}, "spacing_mm is .*positive"),
        ({"window": [5, 5]}, "window is .*lower value first"),
        ({"orientation": "HPP"}, "orientation is 'HPP'"),
        ({"activation": "relu"}, "activation is 'relu'"),
        ({"segments": []}, "segments is empty"),
        ({"segments": [BALL, BALL]}, "segments have the labels Ball, Ball"),
        ({"looked_for": ["Bal"]}, "looked_for = 'Bal': the model has no such class; use Ball"),
        ({"looked_for": "Ball"}, "looked_for is 'Ball'"),
        ({"segments": [{"channel": 1}]}, r"segments\[0\] is .*category"),
        ({"segments": [BALL | {"type": "Spleen"}]}, r"segments\[0\].type is 'Spleen'"),
        ({"name": ""}, "name is ''"),
    ],
)
def test_bad_option_is_refused_with_a_remedy(tmp_path, changed, message):
    (tmp_path / "model.ts").write_bytes(b"")
    with pytest.raises(ValueError, match=message):
        create(weights=tmp_path / "model.ts", device="cpu", options=options_for(tmp_path / "model.ts", **changed))


def test_missing_option_is_named(tmp_path):
    (tmp_path / "model.ts").write_bytes(b"")
    options = options_for(tmp_path / "model.ts")
    del options["modality"]
    with pytest.raises(ValueError, match="modality is missing"):
        create(weights=tmp_path / "model.ts", device="cpu", options=options)


@pytest.mark.parametrize(
    ("inputs", "named"),
    [
        ([("image", 5), ("mask", 5)], "takes image .*, mask .*; export it with one input"),
        ([("image", 4)], r"takes image \['n', 1, 8, 8\]"),
    ],
)
def test_onnx_model_of_other_inputs_is_refused_in_words(tmp_path, inputs, named):
    shapes = [["n", 1, 8, 8, 8][:count] for _, count in inputs]
    values = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
        for (name, _), shape in zip(inputs, shapes, strict=True)
    ]
    logits = onnx.helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, shapes[0])
    node = onnx.helper.make_node("Sum", [name for name, _ in inputs], ["logits"])
    graph = onnx.helper.make_graph([node], "sum", values, [logits])
    path = tmp_path / "sum.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9), path)
    with pytest.raises(WeightsError, match=named):
        create(weights=path, device="cpu", options=options_for(path))


def one_node(operator, values, tensors=(), outputs=("logits",)):
    """A model of one operator on ``image`` of any shape, as bytes of an ONNX file."""
    image, logits = (
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", 1, "z", "y", "x"])
        for name in ("image", "logits")
    )
    node = onnx.helper.make_node(operator, values, list(outputs))
    graph = onnx.helper.make_graph([node], "one", [image], [logits], list(tensors))
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)


@pytest.fixture
def same_onnx(tmp_path):
    path = tmp_path / "same.onnx"
    onnx.save(one_node("Identity", ["image"]), path)
    return path


@pytest.mark.skipif("CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="built for CUDA")
def test_onnx_never_runs_on_the_cpu_where_a_gpu_is_configured(same_onnx):
    with pytest.raises(PlatformError, match=r"cuda:0: this onnxruntime has no CUDA.*pip install onnxruntime-gpu.*cpu"):
        create(weights=same_onnx, device="cuda:0", options=options_for(same_onnx))


def test_onnx_whose_cuda_provider_does_not_start_is_refused(same_onnx, monkeypatch):
    """ONNX Runtime built for CUDA returns such a session, on the CPU, when libraries of CUDA are missing."""
    available = [*onnxruntime.get_available_providers(), "CUDAExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: available)
    with (
        pytest.warns(UserWarning, match="CUDAExecutionProvider"),
        pytest.raises(PlatformError, match=r"did not start its CUDAExecutionProvider.*CUDA and cuDNN"),
    ):
        create(weights=same_onnx, device="cuda:0", options=options_for(same_onnx))


def test_onnx_that_needs_more_memory_than_there_is_is_said_to(tmp_path):
    shape = onnx.numpy_helper.from_array(np.array([1, 1, 1 << 14, 1 << 14, 1 << 14]), "shape")
    path = tmp_path / "greedy.onnx"
    onnx.save(one_node("Expand", ["image", "shape"], [shape]), path)
    pipeline = create(weights=path, device="cpu", options=options_for(path, roi=[1, 1, 1], spacing_mm=[48, 48, 48]))
    with pytest.raises(PipelineError, match="memory of cpu does not suffice"):
        pipeline.run(VolumeSeries(ball_volume()[0]))
