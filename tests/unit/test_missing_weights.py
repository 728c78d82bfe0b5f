"""Weights that are missing: the message says where they belong."""

from __future__ import annotations

from pathlib import Path

import pytest

from node.errors import WeightsError
from node.inference.pipeline_description import needs_text
from pipelines.model_file.model import load_model
from pipelines.pinned import pinned_folder
from pipelines.weights import PACKAGE, load_weights


def test_packaged_weights_come_with_the_package():
    with pytest.raises(WeightsError, match="install ainode again"):
        load_weights(PACKAGE / "tumor" / "gone.safetensors")


def test_weights_of_the_site_are_named_with_the_file_of_their_digest(tmp_path: Path):
    path = tmp_path / "own.safetensors"
    with pytest.raises(WeightsError) as caught:
        load_weights(path)
    assert f"{path} does not exist; put the weights at {path}" in str(caught.value)
    path.write_bytes(b"")
    with pytest.raises(WeightsError) as caught:
        load_weights(path)
    assert f"{path.with_suffix('.sha256')} does not exist" in str(caught.value)
    assert "sha256sum own.safetensors > own.sha256" in str(caught.value)


def test_a_model_that_is_not_there_is_added_with_a_command(tmp_path: Path):
    for path, fault in ((None, "weights is missing"), (tmp_path / "model.onnx", "does not exist")):
        with pytest.raises(WeightsError, match=f"{fault}; `ainode models add SOURCE`"):
            load_model(path, "", "cpu")
        with pytest.raises(WeightsError, match=f"{fault}; `ainode models add SOURCE`"):
            pinned_folder(path, "", "metadata.json", object())


def test_needs_are_described_in_words():
    needs = {
        "modalities": ["CT"],
        "body_parts": ["CHEST", "THORAX"],
        "min_slices": 16,
        "max_slice_spacing_mm": 6.5,
        "levels": {"5": [-4096.0, -300.0]},
        "regular_grid": False,
        "volumes_by": "b_value",
        "from_a_later_version": ["x"],
    }
    assert needs_text(needs) == (
        "Modality CT; Body Part Examined CHEST or THORAX, or none; at least 16 slices; slice spacing up to 6.5 mm; "
        "grey levels: percentile 5 from -4096 to -300; regular slice spacing: not required; "
        "volumes that differ in b_value alone; from_a_later_version x"
    )
