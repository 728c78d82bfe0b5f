"""Which configurations of a folder of nnU-Net v2 are run: one, or several whose answers are averaged."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, Field, ValidationError


class _Model(BaseModel):
    configuration: str
    trainer: str = ""
    plans_identifier: str = ""

    @property
    def name(self) -> str:
        """Of its folder, where all parts are stated."""
        parts = (self.trainer, self.plans_identifier, self.configuration)
        return "__".join(parts) if all(parts) else self.configuration


class _Selection(BaseModel):
    selected_model_or_models: tuple[_Model, ...] = Field(min_length=1)


class _Inference(BaseModel):
    """``inference_information.json``."""

    best_model_or_ensemble: _Selection


def chosen_folders(folders: Sequence[Path], names: Sequence[str]) -> list[Path]:
    """The folders that ``names`` names by configuration or by their own name, in this order.

    Without ``names``: the only one, or what nnU-Net itself found to be the best. Raises ``ValueError`` when that leaves
    a choice.
    """
    # nnU-Net copies the plans beside the results of a cross-validation and of an ensemble, too.
    trained = [folder for folder in folders if any(folder.glob("fold_*"))] or [*folders]
    if len(trained) == 1 and len(names) < 2:
        return trained
    parent, known = trained[0].parent, ", ".join(sorted(folder.name.rpartition("__")[2] for folder in trained))
    names = names or _best(parent)
    if not names:
        raise ValueError(
            f"option configuration is missing: {parent} holds {known}; name one of them, or several as a list whose "
            "answers are averaged"
        )
    chosen = [_named(name, trained, f"{parent} holds {known}") for name in names]
    if len(set(chosen)) < len(chosen):
        raise ValueError(f"option configuration = {[*names]!r} names one of them twice; name each once")
    return chosen


def ensemble_folders(chosen: Sequence[Path]) -> list[Path]:
    """Where ``nnUNetv2_find_best_configuration`` left what it found about these folders together, for some folds."""
    wanted = sorted(folder.name for folder in chosen)
    folders = sorted((chosen[0].parent / "ensembles").glob("ensemble___*"))
    return [folder for folder in folders if sorted(folder.name.split("___")[1:-1]) == wanted]


def _named(name: str, folders: Sequence[Path], held: str) -> Path:
    matches = [folder for folder in folders if name in (folder.name, folder.name.rpartition("__")[2])]
    if not matches:
        raise ValueError(f"option configuration = {name!r}: {held}; name one of them")
    if len(matches) > 1:
        both = ", ".join(folder.name for folder in matches)
        raise ValueError(f"option configuration = {name!r}: it is that of {both}; give the name of the folder")
    return matches[0]


def _best(folder: Path) -> list[str]:
    """What ``nnUNetv2_find_best_configuration`` chose, one or an ensemble; empty when it was not run."""
    try:
        read = _Inference.model_validate_json((folder / "inference_information.json").read_bytes())
    except (OSError, ValidationError):
        return []
    return [model.name for model in read.best_model_or_ensemble.selected_model_or_models]
