"""Small MONAI bundles in the layout of the Model Zoo, with networks whose answer is known."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

NETWORK = """
import torch


class Brighter(torch.nn.Module):
    '''One logit per channel: how far the image is above (sign +) or below (sign -) the channel's level.'''

    def __init__(self, signs):
        super().__init__()
        self.level = torch.nn.Parameter(torch.zeros(len(signs)))
        self.signs = torch.tensor(signs)[None, :, None, None, None]

    def forward(self, x):
        return (x[:, :1] - self.level[None, :, None, None, None]) * self.signs
"""

DETECTOR = """
import torch
from scipy import ndimage


class Boxes:
    '''An inferer with a detector: a box for each bright blob, its score the mean brightness.'''

    def __init__(self, detector):
        self.detector = detector

    def __call__(self, images, network):
        answers = []
        for image in images:
            volume = image[0].cpu().numpy()
            labels, count = ndimage.label(volume > 0.5)
            boxes = ndimage.find_objects(labels)
            corners = [[s.start for s in box] + [s.stop for s in box] for box in boxes]
            scores = [float(volume[labels == n + 1].mean()) for n in range(count)]
            answers.append({
                "box": torch.tensor(corners, dtype=torch.float32).reshape(-1, 6),
                "label": torch.zeros(count, dtype=torch.long),
                "label_scores": torch.tensor(scores),
            })
        return answers
"""


def _step(name: str, **settings: Any) -> dict[str, Any]:
    return {"_target_": name, **settings}


def _metadata(task: str, channels: dict[str, str], inputs: int = 1) -> dict[str, Any]:
    image = {"type": "image", "modality": "CT", "num_channels": inputs}
    return {
        "version": "1.2.3",
        "name": f"{task} of the tests",
        "task": task,
        "network_data_format": {"inputs": {"image": image}, "outputs": {"pred": {"channel_def": channels}}},
    }


def write_bundle(
    folder: Path,
    *,
    levels: tuple[float, ...] = (0.4, 0.4),
    channels: dict[str, str] | None = None,
    sigmoid: bool = False,
    detection: bool = False,
    inputs: int = 1,
) -> Path:
    """A bundle under ``folder``: softmax over two levels, a sigmoid for each level, or boxes of bright blobs."""
    for name in ("configs", "models", "scripts", "docs"):
        (folder / name).mkdir(parents=True)
    (folder / "scripts" / "__init__.py").write_text("")
    (folder / "scripts" / "network.py").write_text(NETWORK)
    (folder / "scripts" / "detector.py").write_text(DETECTOR)
    (folder / "docs" / "README.md").write_text("# A bundle of the tests\n")
    torch.save({"model": {"level": torch.tensor(levels)}}, folder / "models" / "model.pt")
    keys = {"keys": "@image_key"}
    activation = {"sigmoid": True} if sigmoid else {"softmax": True}
    discrete = {"threshold": 0.5} if sigmoid else {"argmax": True}
    fold = _step("Lambdad", keys="pred", func="$lambda x: torch.where(x[[1]] > 0, 4, x[[0]])")
    box = {"box_keys": "box", "box_ref_image_keys": "@image_key"}
    config = {
        "imports": ["$import torch"],
        "bundle_root": ".",
        "image_key": "image",
        "output_dir": "$@bundle_root + '/eval'",
        "device": "$torch.device('cuda:0')",
        "network_def": _step(
            "scripts.network.Brighter", signs=[50.0 if sigmoid or i else -50.0 for i in range(len(levels))]
        ),
        "network": "$@network_def.to(@device)",
        "preprocessing": _step(
            "Compose",
            transforms=[
                _step("LoadImaged", **keys),
                _step("EnsureChannelFirstd", **keys),
                _step("Orientationd", **keys, axcodes="RAS", labels=None),
                _step("Spacingd", **keys, pixdim=[1.5, 1.5, 2.0], mode="bilinear"),
                _step("ScaleIntensityRanged", **keys, a_min=0, a_max=200, b_min=0, b_max=1, clip=True),
            ],
        ),
        "inferer": _step("scripts.detector.Boxes", detector="@network")
        if detection
        else _step("SlidingWindowInferer", roi_size=[24, 24, 24], overlap=0.25),
        "postprocessing": _step(
            "Compose",
            transforms=[
                _step("ClipBoxToImaged", **box, label_keys="label", remove_empty=True),
                _step("AffineBoxToWorldCoordinated", **box),
                _step("DeleteItemsd", keys=["@image_key"]),
            ]
            if detection
            else [
                _step("Activationsd", keys="pred", **activation),
                _step("Invertd", keys="pred", transform="@preprocessing", orig_keys="@image_key", nearest_interp=False),
                _step("AsDiscreted", keys="pred", **discrete),
                *([fold] if sigmoid else []),
                _step(
                    "SaveImaged",
                    keys="pred",
                    output_dir="@output_dir",
                    output_dtype="$numpy.uint8",
                    separate_folder=False,
                ),
            ],
        ),
    }
    config["imports"].append("$import numpy")
    task = "lung nodule detection" if detection else "organ segmentation"
    names = channels or {"0": "background", "1": "spleen"}
    (folder / "configs" / "inference.json").write_text(json.dumps(config))
    (folder / "configs" / "metadata.json").write_text(json.dumps(_metadata(task, names, inputs)))
    return folder


def rewritten(folder: Path, name: str, change: Callable[[dict[str, Any]], object], **settings: Any) -> Path:
    """A bundle under ``folder`` whose file ``configs/NAME.json`` was changed."""
    path = write_bundle(folder / "bundle", **settings)
    file = path / "configs" / f"{name}.json"
    document = json.loads(file.read_text())
    change(document)
    file.write_text(json.dumps(document))
    return path
