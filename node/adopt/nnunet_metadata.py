"""What the results folder of nnU-Net v2 says of itself: ``dataset.json`` and ``plans.json``."""

from __future__ import annotations

from typing import Any

from node.adopt.metadata import ModelMetadata
from node.adopt.packed_model import PackedModel
from node.adopt.stated_values import in_millimetres, text_of, words

_NO_LABELS = ("background", "ignore")


def nnunet_metadata(model: PackedModel) -> ModelMetadata:
    """Read the first configuration of a results folder."""
    place = model.find("plans.json")
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
        version=name,
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
    )


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
