"""Reading a results folder of nnU-Net v2: plans and labels as JSON, checkpoints as tensors and numbers only."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import torch
from pydantic import BaseModel, BeforeValidator, Field, TypeAdapter, ValidationError

from node.errors import WeightsError
from pipelines.nnunet.configurations import chosen_folders, ensemble_folders
from pipelines.nnunet.postprocessing import read_postprocessing
from pipelines.pinned import pinned_folders
from pipelines.structures import label_of
from pipelines.tensor_files import numpy_content

_NETWORKS = "dynamic_network_architectures."
_LAYERS = "torch.nn."
"""A plan names classes to make: only these, or it could name any function on this machine."""


_OBJECT = TypeAdapter(dict[str, Any])


class _Network(BaseModel):
    network_class_name: str = _NETWORKS
    arch_kwargs: dict[str, Any] = {}
    imported: tuple[str, ...] = Field(default=(), alias="_kw_requires_import")


class _Configuration(BaseModel):
    architecture: _Network = _Network()
    inherits_from: str = ""
    previous_stage: str | None = None


class _Plans(BaseModel):
    configurations: dict[str, _Configuration] = {}

    def previous_stage(self, name: str) -> str:
        """The configuration whose segmentation ``name`` takes as an input; empty: none."""
        heirs = [name]
        while (stated := self.configurations[heirs[-1]]).previous_stage is None:
            if stated.inherits_from in heirs or stated.inherits_from not in self.configurations:
                return ""
            heirs.append(stated.inherits_from)
        return stated.previous_stage


class _Dataset(BaseModel):
    labels: dict[str, int | tuple[int, ...]]
    channel_names: dict[int, Annotated[str, BeforeValidator(str)]] = {}


Part = TypeVar("Part", bound=BaseModel)


class TrainingFolder:
    """What a training left in one folder: plans, labels, channels, and the weights of its folds."""

    previous: TrainingFolder | None = None
    """The stage of a cascade whose segmentation this one takes."""

    def __init__(self, root: Path, *, folds: Sequence[str], checkpoint: str, unpickle: bool) -> None:
        """Raises ``WeightsError`` when it is incomplete, or of a kind that cannot be run."""
        self.root = root
        self.plans, plans = self._json("plans.json", _Plans)
        self.dataset, dataset = self._json("dataset.json", _Dataset)
        self.folds = names = tuple(folds) or tuple(
            path.parent.name[5:] for path in self.root.glob(f"fold_*/{checkpoint}")
        )
        if not names:
            raise WeightsError(f"weights: {self.root} holds no fold_N/{checkpoint}; correct the option checkpoint")
        read = [_read(self.root / f"fold_{name}" / checkpoint, unpickle=unpickle) for name in self.folds]
        try:
            self.weights: list[dict[str, torch.Tensor]] = [content["network_weights"] for content in read]
            self.configuration = str(read[0]["init_args"]["configuration"])
            self.trainer = str(read[0]["trainer_name"])
        except (KeyError, TypeError) as error:
            raise WeightsError(
                f"weights: {checkpoint} in {self.root} has no {error}; it is none of nnU-Net v2"
            ) from error
        self.mirroring: tuple[int, ...] | None = read[0].get("inference_allowed_mirroring_axes")
        channels = dataset.channel_names
        self.channels = tuple(channels[key] for key in sorted(channels))
        self._labels = dataset.labels
        self._check_plans(plans)
        self.previous_stage = plans.previous_stage(self.configuration)

    def labels(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Name of each label but the background and the ignored, and the values in the answer that belong to it.

        A region (``"whole tumour": [1, 2]``) has several; regions may overlap.
        """
        for name, values in self._labels.items():
            members = values if isinstance(values, tuple) else (values,)
            if name != "ignore" and members != (0,):
                yield name, members

    @property
    def segment_labels(self) -> tuple[str, ...]:
        """The labels as segmentations call them."""
        return tuple(label_of(name) for name, _ in self.labels())

    def _json(self, name: str, kind: type[Part]) -> tuple[dict[str, Any], Part]:
        """One file, whole for nnU-Net, and what this node reads of it."""
        try:
            whole = _OBJECT.validate_json((self.root / name).read_bytes())
            return whole, kind.model_validate(whole)
        except ValidationError as error:
            fault = error.errors(include_url=False)[0]
            why = f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}"
        except OSError as error:
            why = str(error)
        raise WeightsError(f"weights: {self.root / name} cannot be read ({why}); give the whole folder")

    def _check_plans(self, plans: _Plans) -> None:
        if self.configuration not in plans.configurations:
            raise WeightsError(
                f"weights: plans.json has no configuration {self.configuration!r}; give the whole folder"
            )
        for settings in plans.configurations.values():  # one may inherit from another
            network = settings.architecture
            named = {network.network_class_name: _NETWORKS}
            values = (network.arch_kwargs.get(key) for key in network.imported)
            named |= {str(value): _LAYERS for value in values if value is not None}
            for name, allowed in named.items():
                if not name.startswith(allowed):
                    raise WeightsError(f"weights: plans.json makes the network of {name!r}; only {allowed}* is allowed")


class ResultsFolder(TrainingFolder):
    """A pinned configuration, or several; in a cascade with the stage before it, which lies next to it."""

    others: tuple[TrainingFolder, ...] = ()
    """Of an ensemble: what is averaged with this one."""

    def __init__(
        self,
        path: Path | None,
        *,
        sha256: str,
        folds: Sequence[str],
        checkpoint: str,
        unpickle: bool,
        configuration: str | Sequence[str] = "",
        postprocessing: bool = True,
    ) -> None:
        """Raises ``WeightsError`` when it is missing, altered, incomplete, or of a kind that cannot be run.

        ``configuration``: of several in the folder, or those of an ensemble; ``ValueError`` when that leaves a choice.
        """
        folders = pinned_folders(path, sha256, "plans.json", self)
        names = [*filter(None, [configuration])] if isinstance(configuration, str) else [*configuration]
        chosen = chosen_folders(folders, names)
        super().__init__(chosen[0], folds=folds, checkpoint=checkpoint, unpickle=unpickle)

        def training(root: Path) -> TrainingFolder:
            return TrainingFolder(root, folds=folds, checkpoint=checkpoint, unpickle=unpickle)

        self.others = tuple(map(training, chosen[1:]))
        for member, name in zip(self.members, names, strict=False):
            if name not in (member.configuration, member.root.name):
                raise ValueError(
                    f"option configuration = {name!r}: {member.root} holds {member.configuration!r}; correct it"
                )
        for member in self.members:
            _check_same(self, member)
            if member.previous_stage:
                member.previous = training(_stage_before(member, folders))
                _check_previous(member, member.previous)
        places = ensemble_folders(chosen) if self.others else [self.root]
        self.postprocessing = read_postprocessing(places, self.folds) if postprocessing else ()

    @property
    def members(self) -> tuple[TrainingFolder, ...]:
        """The configurations that are run: this one, and those that are averaged with it."""
        return (self, *self.others)


def _check_previous(folder: TrainingFolder, before: TrainingFolder) -> None:
    if before.configuration != folder.previous_stage or before.previous_stage:
        raise WeightsError(
            f"weights: {before.root} holds {before.configuration!r}, which cannot be the first stage of "
            f"{folder.configuration!r}; give the whole folder as the training left it"
        )
    _check_same(folder, before)


def _check_same(folder: TrainingFolder, other: TrainingFolder) -> None:
    if other.channels != folder.channels or [*other.labels()] != [*folder.labels()]:
        raise WeightsError(
            f"weights: {other.root} has other channels or labels than {folder.root}; give trainings of one data set"
        )


def _stage_before(folder: TrainingFolder, folders: Sequence[Path]) -> Path:
    """The folder of the previous stage: of the same trainer and plans, as in the training."""
    root = folder.root.with_name(f"{folder.root.name.rpartition('__')[0]}__{folder.previous_stage}")
    if root not in folders:
        raise WeightsError(
            f"weights: configuration {folder.configuration!r} is the second stage of a cascade and needs {root.name} "
            f"next to {folder.root.name}; give the folder that holds both"
        )
    return root


def _read(path: Path, *, unpickle: bool) -> dict[str, Any]:
    if not path.is_file():
        raise WeightsError(f"weights: {path} does not exist; correct the option folds or checkpoint")
    try:
        with numpy_content():
            checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=not unpickle)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"option unpickle = false: {path} is more than tensors and numbers and runs code when it is read; "
            "set unpickle = true only if you trust its author as you trust a program"
        ) from error
    return checkpoint
