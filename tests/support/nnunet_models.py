"""Results folders as nnU-Net v2 leaves them after a training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

CLASS = "dynamic_network_architectures.architectures.unet.PlainConvUNet"


def layers(*, flat: bool = False) -> dict[str, Any]:
    """A small network; ``flat``: for single slices."""
    made = _layers()
    if flat:
        kwargs = made["arch_kwargs"]
        kwargs |= {"conv_op": "torch.nn.modules.conv.Conv2d", "norm_op": "torch.nn.modules.instancenorm.InstanceNorm2d"}
        kwargs |= {name: [sizes[1:] for sizes in kwargs[name]] for name in ("kernel_sizes", "strides")}
    return made


def _layers() -> dict[str, Any]:
    return {
        "network_class_name": CLASS,
        "arch_kwargs": {
            "n_stages": 3,
            "features_per_stage": [8, 16, 32],
            "conv_op": "torch.nn.modules.conv.Conv3d",
            "kernel_sizes": [[1, 3, 3], [3, 3, 3], [3, 3, 3]],
            "strides": [[1, 1, 1], [1, 2, 2], [2, 2, 2]],
            "n_conv_per_stage": [2, 2, 2],
            "n_conv_per_stage_decoder": [2, 2],
            "conv_bias": True,
            "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
            "norm_op_kwargs": {"eps": 1e-05, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }


def _plans(channels: dict[str, str]) -> dict[str, Any]:
    resampled = {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None}
    about = {"mean": 60.0, "std": 70.0, "percentile_00_5": -90.0, "percentile_99_5": 240.0, "min": -900.0, "max": 900.0}
    return {
        "dataset_name": "Dataset900_Balls",
        "plans_name": "nnUNetPlans",
        "original_median_spacing_after_transp": [2.0, 1.0, 1.0],
        "original_median_shape_after_transp": [25, 50, 50],
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {key: {**about, "median": 60.0} for key in channels},
        "configurations": {
            "3d_fullres": {
                "data_identifier": "nnUNetPlans_3d_fullres",
                "preprocessor_name": "DefaultPreprocessor",
                "batch_size": 2,
                "patch_size": [16, 32, 32],
                "median_image_size_in_voxels": [25.0, 50.0, 50.0],
                "spacing": [2.0, 1.3, 1.3],
                "normalization_schemes": [
                    "CTNormalization" if name == "CT" else "ZScoreNormalization" for name in channels.values()
                ],
                "use_mask_for_norm": [False] * len(channels),
                "resampling_fn_data": "resample_data_or_seg_to_shape",
                "resampling_fn_seg": "resample_data_or_seg_to_shape",
                "resampling_fn_data_kwargs": resampled,
                "resampling_fn_seg_kwargs": {**resampled, "is_seg": True, "order": 1},
                "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
                "resampling_fn_probabilities_kwargs": {**resampled, "order": 1},
                "architecture": _layers(),
                "batch_dice": True,
            }
        },
    }


def _stages(fullres: dict[str, Any]) -> dict[str, Any]:
    """A first stage on a coarser grid, and a second one that also takes its segmentation, as nnU-Net plans them."""
    lowres = {"data_identifier": "nnUNetPlans_3d_lowres", "spacing": [3.0, 2.1, 2.1]}
    return {
        "3d_lowres": {**fullres, **lowres, "next_stage": "3d_cascade_fullres"},
        "3d_cascade_fullres": {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"},
    }


def _flat(fullres: dict[str, Any]) -> dict[str, Any]:
    """The configuration ``2d``, which goes through an image slice by slice."""
    flat = {name: fullres[name][1:] for name in ("patch_size", "median_image_size_in_voxels", "spacing")}
    return {**fullres, **flat, "data_identifier": "nnUNetPlans_2d", "architecture": layers(flat=True)}


def write_results(
    folder: Path,
    *,
    weights: list[dict[str, torch.Tensor]],
    labels: dict[str, Any],
    channels: dict[str, str] | None = None,
    extra: Any = None,
    configuration: str = "3d_fullres",
    cascade: bool = False,
    flat: bool = False,
) -> Path:
    """Write ``folder`` with a fold for each of ``weights``; ``extra`` goes into the checkpoints.

    ``cascade``: the plans also have the two stages of a cascade, of which ``configuration`` may be one. ``flat``: they
    also have ``2d``.
    """
    channels = channels or {"0": "CT"}
    plans = _plans(channels)
    if flat:
        plans["configurations"]["2d"] = _flat(plans["configurations"]["3d_fullres"])
    elif cascade:
        plans["configurations"] |= _stages(plans["configurations"]["3d_fullres"])
    else:
        plans["configurations"][configuration] = plans["configurations"].pop("3d_fullres")
    dataset = {"channel_names": channels, "labels": labels, "numTraining": 3, "file_ending": ".nii.gz"}
    if any(isinstance(values, list) for values in labels.values()):
        dataset["regions_class_order"] = list(range(1, len(labels)))
    folder.mkdir(parents=True)
    (folder / "plans.json").write_text(json.dumps(plans))
    (folder / "dataset.json").write_text(json.dumps(dataset))
    for number, tensors in enumerate(weights):
        (folder / f"fold_{number}").mkdir()
        checkpoint = {
            "network_weights": tensors,
            "optimizer_state": {"state": {}, "param_groups": [{"lr": 0.01}]},
            "grad_scaler_state": None,
            "logging": {"mean_fg_dice": [np.float64(0.5)], "lrs": [0.01], "train_losses": [np.float32(-0.1)]},
            "_best_ema": np.float64(0.5),
            "current_epoch": 1000,
            "init_args": {"plans": plans, "configuration": configuration, "fold": number, "dataset_json": dataset},
            "trainer_name": "nnUNetTrainer",
            "inference_allowed_mirroring_axes": (0, 1, 2),
            **({"extra": extra} if extra is not None else {}),
        }
        torch.save(checkpoint, folder / f"fold_{number}" / "checkpoint_final.pth")
    return folder
