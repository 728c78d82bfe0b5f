"""One trained configuration with nnU-Net's own predictor, in a cascade the stage before it, and several averaged."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from node.errors import PlatformError, WeightsError
from pipelines.nnunet.results_folder import ResultsFolder, TrainingFolder


class Stage:
    """Labels for voxels; the second stage of a cascade also gets the labels of the first one."""

    def __init__(self, folder: TrainingFolder, device: torch.device, *, mirroring: bool) -> None:
        """Raises ``WeightsError`` for a folder that nnU-Net cannot use, ``PlatformError`` without nnU-Net."""
        previous = folder.previous
        self._predictor = _predictor(folder, device, mirroring=mirroring)
        self._previous = None if previous is None else Stage(previous, device, mirroring=mirroring)

    def labels(self, images: NDArray[np.float32], spacing: Sequence[float]) -> NDArray[Any]:
        """Labels ``[slice, row, column]`` of ``images`` ``[channel, slice, row, column]``; ``spacing`` in mm."""
        return np.asarray(self._predict(images, spacing))

    def probabilities(self, images: NDArray[np.float32], spacing: Sequence[float]) -> NDArray[np.float32]:
        """Probabilities ``[class or region, slice, row, column]``; 4 bytes for each class and voxel."""
        return np.array(self._predict(images, spacing, save_or_return_probabilities=True)[1], np.float32)

    def labels_for(self, probabilities: NDArray[np.float32]) -> NDArray[Any]:
        """Labels ``[slice, row, column]`` as nnU-Net makes them of probabilities."""
        return np.asarray(self._predictor.label_manager.convert_probabilities_to_segmentation(probabilities))

    def _predict(self, images: NDArray[np.float32], spacing: Sequence[float], **options: bool) -> Any:
        before = None
        if self._previous is not None:
            # Float as nnU-Net's readers give it: what lies outside of the cropped image becomes -1
            before = self._previous.labels(images, spacing)[None].astype(np.float32)
        return self._predictor.predict_single_npy_array(images, {"spacing": [*spacing]}, before, **options)


class Ensemble:
    """Labels from the mean of the probabilities of several configurations, as ``nnUNetv2_ensemble`` makes them."""

    def __init__(self, stages: Sequence[Stage]) -> None:
        self._stages = stages

    def labels(self, images: NDArray[np.float32], spacing: Sequence[float]) -> NDArray[Any]:
        """See ``Stage.labels``."""
        first, *others = self._stages
        total = first.probabilities(images, spacing)
        for stage in others:
            total += stage.probabilities(images, spacing)
        total /= len(self._stages)
        return first.labels_for(total)


def stages_of(folder: ResultsFolder, device: torch.device, *, mirroring: bool) -> Stage | Ensemble:
    """What ``folder`` runs. Raises what ``Stage`` raises."""
    stages = [Stage(member, device, mirroring=mirroring) for member in folder.members]
    return stages[0] if len(stages) == 1 else Ensemble(stages)


def _predictor(folder: TrainingFolder, device: torch.device, *, mirroring: bool) -> Any:
    for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        os.environ.setdefault(variable, os.devnull)  # it complains on import; nothing is read or written there
    try:
        from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
        from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
        from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
        from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
    except (ImportError, RuntimeError) as error:  # torchvision for another torch: operators are missing
        raise PlatformError(
            f"nnU-Net cannot be imported ({error}); pip install 'ainode[nnunet]', and torchvision built for your torch"
        ) from error
    try:
        plans = PlansManager(folder.plans)
        settings = plans.get_configuration(folder.configuration)
        network = get_network_from_plans(
            settings.network_arch_class_name,
            settings.network_arch_init_kwargs,
            settings.network_arch_init_kwargs_req_import,
            determine_num_input_channels(plans, settings, folder.dataset),
            plans.get_label_manager(folder.dataset).num_segmentation_heads,
            deep_supervision=False,
        )
    except (AttributeError, LookupError, TypeError) as error:
        raise WeightsError(
            f"weights: {folder.root}: nnU-Net cannot use the plans ({type(error).__name__}: {error}); give the whole "
            "folder as the training left it"
        ) from error
    try:
        for weights in folder.weights:
            network.load_state_dict(weights)
    except RuntimeError as error:
        raise WeightsError(
            f"weights: {folder.root} does not fit the network of its plans ({error}); trainers that build a network "
            "of their own are not supported"
        ) from error
    predictor = nnUNetPredictor(
        use_mirroring=mirroring, perform_everything_on_device=device.type == "cuda", device=device, allow_tqdm=False
    )
    predictor.manual_initialization(
        network, plans, settings, folder.weights, folder.dataset, folder.trainer, folder.mirroring
    )
    return predictor
