"""What the results folder of nnU-Net v2 says of itself: ``dataset.json`` and ``plans.json``."""

from __future__ import annotations

from typing import Any

from node.adopt.metadata import ModelMetadata
from node.adopt.packed_model import PackedModel
from node.adopt.stated_values import in_millimetres, text_of, words

_NO_LABELS = ("background", "ignore")


def nnunet_metadata(model: PackedModel) -> ModelMetadata:
    """Read a results folder: what ``nnUNetv2_find_best_configuration`` chose, or else its first training."""
    trained = _trained(model)
    chosen = _chosen(model, trained)
    place = f"{trained[chosen[0]] if chosen else next(iter(trained.values()), '')}plans.json"
    place = place if place in model.matching("plans.json") else model.find("plans.json")
    plans = model.table(place)
    dataset = model.table(model.find(f"{place.removesuffix('plans.json')}dataset.json") or model.find("dataset.json"))
    name, configuration = _configuration(place, plans)
    named = dataset.get("channel_names") or dataset.get("modality") or {}
    channels = tuple(str(named[key]) for key in sorted(named, key=int))
    is_ct = any(channel.upper() == "CT" for channel in channels)
    cases = dataset.get("numTraining")
    data = words(text_of(plans, "dataset_name"), text_of(dataset, "name", "description"))
    about = f"{data}; {cases} training cases" if cases else data
    kinds = configuration.get("architecture", {})
    patch = configuration.get("patch_size") or ()
    return ModelMetadata(
        kind="nnU-Net v2 results folder",
        name=text_of(plans, "dataset_name"),
        version=" + ".join(chosen) if len(chosen) > 1 else name,
        about=text_of(dataset, "description"),
        authors=text_of(dataset, "authors"),
        licence=text_of(dataset, "licence", "license"),
        data=about,
        references=text_of(dataset, "reference"),
        network=words(text_of(kinds, "network_class_name"), f"patch {' x '.join(map(str, patch))}" if patch else ""),
        training=f"planned by {planner}" if (planner := text_of(plans, "experiment_planner_used")) else "",
        grid=in_millimetres(configuration.get("spacing") or (), "as planned: slice, row, column"),
        modality="CT" if is_ct else "MR",
        modality_is_guess=not is_ct,
        channels=channels,
        labels=_labels(dataset.get("labels") or {}),
        configurations=tuple(trained),
        chosen=chosen,
    )


def _trained(model: PackedModel) -> dict[str, str]:
    """Folders with folds, each with "/" at its end, by configuration; by their own names where two have the same."""
    folders = sorted({name.rpartition("fold_")[0] for name in model.matching("fold_*/checkpoint_*.pth")})
    own = {folder: folder.rstrip("/").rpartition("/")[2] for folder in folders}
    configurations = {folder: name.rpartition("__")[2] for folder, name in own.items()}
    is_unique = len(set(configurations.values())) == len(folders)
    return {(configurations if is_unique else own)[folder]: folder for folder in folders}


def _chosen(model: PackedModel, trained: dict[str, str]) -> tuple[str, ...]:
    """What nnU-Net itself chose, by the names of ``trained``; the only one; or nothing."""
    if len(trained) < 2:
        return tuple(trained)
    best = model.table(model.find("inference_information.json")).get("best_model_or_ensemble") or {}
    parts = ("trainer", "plans_identifier", "configuration")
    wanted = [
        "__".join(str(choice[part]) for part in parts)
        if all(choice.get(part) for part in parts)
        else choice.get("configuration")
        for choice in best.get("selected_model_or_models") or ()
    ]
    known = {folder.rstrip("/").rpartition("/")[2]: name for name, folder in trained.items()}
    known |= {name: name for name in trained}
    return tuple(known[name] for name in wanted) if wanted and set(wanted) <= set(known) else ()


def _configuration(place: str, plans: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The configuration that the folder is named after, or the only one, with what it inherits."""
    configurations = plans.get("configurations") or {}
    folder = place.rpartition("/")[0].rpartition("/")[2]
    name = folder.rpartition("__")[2]
    if name not in configurations:
        name = next(iter(configurations)) if len(configurations) == 1 else ""
    own = configurations.get(name) or {}
    return name, {**(configurations.get(own.get("inherits_from")) or {}), **own}


def _labels(stated: dict[str, Any]) -> dict[int, str]:
    """Labels and regions in the order of the file."""
    return dict(enumerate((name for name, value in stated.items() if name not in _NO_LABELS and value != 0), 1))
