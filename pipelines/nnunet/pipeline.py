"""nnU-Net's own predictor on the voxels of a series, without files in between."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import AfterValidator, Field

from node.pipeline import Algorithm, Findings, Needs, Pipeline, Series, sentence
from node.pipeline.label_map import label_array
from pipelines.channels import channels, check_inputs
from pipelines.nnunet.postprocessing import apply_postprocessing
from pipelines.nnunet.results_folder import ResultsFolder, TrainingFolder
from pipelines.nnunet.stage import stages_of
from pipelines.options import ModelOptions, check_orientation, library, parameters_of, read_options
from pipelines.result_masks import with_crop
from pipelines.structures import check_looked_for, findings_of, segment_of

ADAPTER = "nnunet 3"
"""Raised when the same options and weights give another result than before."""


_LEFT_OUT = sentence("The postprocessing of the model's author, if there was one, was left out.")


class Options(ModelOptions):
    """Checked options; see the package's text for what they mean."""

    folds: list[str] = Field(default_factory=list)
    checkpoint: str = "checkpoint_final.pth"
    mirroring: bool | None = None
    orientation: Annotated[str, AfterValidator(check_orientation)] = "HPL"
    modality: str = ""
    configuration: str | list[str] = ""
    postprocessing: bool = True


def algorithm_of(folder: ResultsFolder, options: Options, *, mirroring: bool, device: str) -> Algorithm:
    """Name of the data set, trainer and configuration; digest of the whole folder; all that influences the result."""
    names = " + ".join(member.configuration for member in folder.members)
    previous = [_stated(member.previous) for member in folder.members if member.previous is not None]
    others = "; ".join(f"{other.root.name} folds {', '.join(other.folds)}" for other in folder.others)
    return Algorithm(
        name=str(folder.plans.get("dataset_name", folder.root.name))[:64],
        version=f"{folder.trainer} {names}"[:64],
        weights_sha256=options.sha256.lower(),
        parameters=parameters_of(options.model_dump())
        | {
            "folds": ", ".join(folder.folds),
            "mirroring": str(mirroring).lower(),
            "configuration": names,
            "adapter": ADAPTER,
            "library": library("nnunetv2"),
            "device": device,
        }
        | ({"previous stage": "; ".join(previous)} if previous else {})
        | ({"averaged with": others} if others else {}),
    )


def _stated(folder: TrainingFolder) -> str:
    return f"{folder.configuration} folds {', '.join(folder.folds)}"


class NnunetPipeline:
    """A trained configuration as a pipeline."""

    def __init__(self, folder: ResultsFolder, options: Options, device: str) -> None:
        check_inputs(options.inputs, folder.channels)
        check_looked_for(options.looked_for, [name for name, _ in folder.labels()])
        self._folder = folder
        self._options = options
        self._device = device.partition(":")[0]
        on_gpu = self._device == "cuda"
        self._mirroring = on_gpu if options.mirroring is None else options.mirroring
        self._stage = stages_of(folder, torch.device(device), mirroring=self._mirroring)

    @property
    def algorithm(self) -> Algorithm:
        """See ``algorithm_of``."""
        return algorithm_of(self._folder, self._options, mirroring=self._mirroring, device=self._device)

    @property
    def needs(self) -> Needs:
        """The modality, as configured or as the channels say, on a regular grid."""
        modality = "CT" if any(name.upper() == "CT" for name in self._folder.channels) else "MR"
        return Needs(modalities=frozenset({self._options.modality or modality}), min_slices=2)

    @property
    def segment_labels(self) -> tuple[str, ...]:
        """See ``node.pipeline.Pipeline``."""
        return self._folder.segment_labels

    def run(self, series: Series) -> Findings:
        images = channels(series, self._options.inputs, self._options.orientation, self._options.crop)
        array = np.stack([image.array for image in images])
        answer = self._stage.labels(array, [float(mm) for mm in images[0].spacing])
        answer = apply_postprocessing(answer, self._folder.postprocessing)
        labels = images[0].with_array(label_array(answer))
        outlined = {}
        for number, (name, members) in enumerate(self._folder.labels()):
            value = members[0] if len(members) == 1 else None
            mask = labels if value is not None else images[0].with_array(np.isin(labels.array, members))
            outlined[name] = segment_of(mask, name, number, self._options.structures, value)
        findings = with_crop(findings_of(outlined, self._options.looked_for), self._options.crop)
        return findings if self._options.postprocessing else replace(findings, remarks=(*findings.remarks, _LEFT_OUT))


def create_pipeline(*, weights: Path | None, device: str, options: Mapping[str, Any]) -> Pipeline:
    """Load the results folder at ``weights``."""
    read = read_options(Options, options)
    folder = ResultsFolder(
        weights,
        sha256=read.sha256,
        folds=read.folds,
        checkpoint=read.checkpoint,
        unpickle=read.unpickle,
        configuration=read.configuration,
        postprocessing=read.postprocessing,
    )
    return NnunetPipeline(folder, read, device)
