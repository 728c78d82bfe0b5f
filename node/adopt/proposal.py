"""The proposal for a model: values for its tables, each with why it is a guess, and what nobody but the user knows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from node.adopt.channel_series import ChannelSeries, channel_series
from node.adopt.metadata import ModelMetadata
from node.adopt.structure_codes import StructureCode, code_values, structure_code
from node.adopt.table_lines import value_text
from node.errors import ConfigError
from node.inference.model_store import Model

MODEL_FILE = "pipelines.model_file:create"
_LICENCE_LENGTH = 64
_USUAL_ROI = [96, 96, 96]
_SEGMENTS = "--option segments="
_GIVEN = ("modality", "spacing_mm")
"""Options of a model file that no guess can replace: the result would be wrong and look right."""


@dataclass(frozen=True, kw_only=True)
class Proposed:
    """A value of the configuration."""

    value: Any
    guess: str = ""
    """Why it has to be checked; empty: the model states it, or the user gave it."""


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """What is proposed for a model."""

    model: Model
    licence: Proposed | None
    options: Mapping[str, Proposed]
    structures: tuple[StructureCode, ...]
    """One for each name, with the code that is proposed."""
    series: ChannelSeries
    """The series that its channels take."""
    missing: tuple[str, ...]
    """What must be given before it can run, a sentence each."""

    @property
    def values(self) -> dict[str, Any]:
        """The table of options."""
        return {name: option.value for name, option in self.options.items()}


def proposal_for(model: Model, metadata: ModelMetadata, given: Mapping[str, Any]) -> Proposal:
    """Propose options for a model that says ``metadata`` of itself; ``given``: options of the user, which win."""
    chosen = given.get("structures") or {}
    if not isinstance(chosen, dict) or not all(isinstance(code, list) and len(code) == 3 for code in chosen.values()):
        raise ConfigError(f"--option structures = {chosen!r}: give a table with LABEL = [value, scheme, meaning]")
    names = dict.fromkeys([*metadata.labels.values(), *chosen])
    structures = tuple(structure_code(name, chosen.get(name)) for name in names)
    options: dict[str, Proposed] = {"sha256": Proposed(value=model.sha256)}
    missing: list[str] = []
    if model.factory == MODEL_FILE:
        options |= _model_file_options(model, metadata, structures)
        missing += _missing_of_model_file(
            metadata, {**{name: option.value for name, option in options.items()}, **given}
        )
    else:
        if metadata.chosen and len(metadata.configurations) > 1:
            options["configuration"] = Proposed(
                value=[*metadata.chosen] if len(metadata.chosen) > 1 else metadata.chosen[0]
            )
        elif len(metadata.configurations) > 1 and "configuration" not in given:
            missing.append(_missing_configuration(metadata))
        if coded := {
            structure.label: code_values(structure.code) for structure in structures if structure.code is not None
        }:
            options["structures"] = Proposed(value=coded)
    if metadata.modality_is_guess:
        options["modality"] = Proposed(value=metadata.modality, guess="no channel is called CT")
    series = channel_series(metadata, given.get("inputs"))
    if series.inputs:
        options["inputs"] = Proposed(value=list(series.inputs), guess="from the names of the channels")
    missing += [] if given.get("inputs") else series.missing
    merged = {name: Proposed(value=value) for name, value in given.items() if name != "structures"}
    licence = metadata.licence[:_LICENCE_LENGTH]
    return Proposal(
        model=model,
        licence=Proposed(value=licence, guess="read from the model, compare it with its author's") if licence else None,
        options=options | merged,
        structures=structures,
        series=series,
        missing=tuple(missing),
    )


def _model_file_options(
    model: Model, metadata: ModelMetadata, structures: tuple[StructureCode, ...]
) -> dict[str, Proposed]:
    code_of = {structure.label: structure for structure in structures}
    segments = [
        {
            "channel": channel,
            "label": label,
            "category": code_values(structure.category),
            "type": code_values(structure.code),
        }
        for channel, label in metadata.labels.items()
        if (structure := code_of[label]).code is not None
    ]
    stated = {"modality": metadata.modality, "spacing_mm": list(metadata.spacing_mm), "window": list(metadata.window)}
    proposed = {
        "name": _stated_or(metadata.name, model.name, "its name here"),
        "version": _stated_or(metadata.version, model.sha256[:12], "the beginning of its SHA-256"),
        "roi": _stated_or(list(metadata.roi), _USUAL_ROI, "a usual size; compare it with the training"),
    }
    proposed |= {name: Proposed(value=value) for name, value in stated.items() if value}
    return proposed | ({"segments": Proposed(value=segments)} if segments else {})


def _stated_or(stated: Any, other: Any, guess: str) -> Proposed:
    return Proposed(value=stated) if stated else Proposed(value=other, guess=guess)


def _missing_configuration(metadata: ModelMetadata) -> str:
    held, first = ", ".join(metadata.configurations), metadata.configurations[0]
    return (
        f"configuration: the folder holds {held}, and nnUNetv2_find_best_configuration left no choice in it; give "
        f"--option 'configuration={value_text(first)}', or several as a list whose answers are averaged"
    )


def _missing_of_model_file(metadata: ModelMetadata, options: Mapping[str, Any]) -> list[str]:
    missing = [
        f"{name}: the file does not state it; give --option '{name}={example}' as its author says"
        for name, example in zip(_GIVEN, ('"CT"', "[1.5, 1.5, 1.5]"), strict=True)
        if name not in options
    ]
    described = {segment.get("channel") for segment in options.get("segments", ()) if isinstance(segment, dict)}
    if not options.get("segments") and not metadata.labels:
        answer = f" of the {metadata.outputs} channels of its answer" if metadata.outputs else ""
        missing.append(f"segments: the file does not name what it outlines; describe each{answer} with {_SEGMENTS}")
    missing += [
        f"segments: no code was found for {label!r} (channel {channel}); see `ainode codes find`, then give --option "
        f"'structures={{ {value_text(label)} = [value, scheme, meaning] }}'"
        for channel, label in metadata.labels.items()
        if channel not in described
    ]
    if len(metadata.channels) > 1:
        count = len(metadata.channels)
        missing.append(f"inputs: it takes {count} images, and model files run with one; pack it as a bundle")
    return missing
