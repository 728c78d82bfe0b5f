"""What a MONAI Bundle says of itself: ``configs/metadata.json``, the steps of its inference, its licence file."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from node.adopt.metadata import ModelMetadata
from node.adopt.packed_model import PackedModel
from node.adopt.stated_values import in_millimetres, names_of, numbers_of, text_of, words

_LICENCES = {
    r"apache license.{0,40}version 2\.0": "Apache-2.0",
    r"\bmit license": "MIT",
    r"attribution-noncommercial": "non-commercial (Creative Commons)",
    r"non-?commercial": "non-commercial",
}
"""Beginnings of licence files, as `license` in `config.toml` names them."""
_BEGINNING = 2000


def bundle_metadata(model: PackedModel) -> ModelMetadata:
    """Read a bundle."""
    place = model.find("configs/metadata.json")
    root = place.removesuffix("configs/metadata.json")
    steps = model.find(f"{root}configs/inference.json")
    licence = model.find(f"{root}LICENSE") or model.find(f"{root}docs/data_license.txt")
    metadata = stated_metadata(model.table(place), kind="MONAI Bundle")
    values = vars(metadata)
    if not metadata.licence and licence:
        values = {**values, "licence": _licence(model.text(licence)[:_BEGINNING])}
    if steps:
        table = model.table(steps)
        values = {**values, "grid": _grid(table), "network": metadata.network or _network(table)}
    return ModelMetadata(**values)


def stated_metadata(about: Mapping[str, Any], *, kind: str) -> ModelMetadata:
    """What metadata say, in the form of MONAI, or with the names of the options of a model file."""
    inputs, outputs = _formats(about)
    defined = inputs.get("channel_def")
    answer = names_of(outputs.get("label_def")) or names_of(outputs.get("channel_def"))
    return ModelMetadata(
        kind=kind,
        name=text_of(about, "name"),
        version=text_of(about, "version"),
        about=words(text_of(about, "task"), text_of(about, "description"), text_of(about, "intended_use")),
        authors=words(text_of(about, "authors", "author"), text_of(about, "copyright")),
        licence=text_of(about, "license", "licence"),
        data=words(text_of(about, "data_source"), text_of(about, "data_type")),
        references=text_of(about, "references"),
        network=text_of(about, "network"),
        figures=text_of(about, "eval_metrics"),
        modality=text_of(about, "modality") or text_of(inputs, "modality"),
        channels=tuple(names_of(defined).values()) or ("image",) * _count(inputs.get("num_channels")),
        labels=answer or names_of(about.get("labels")) or names_of(about.get("names")),
        spacing_mm=numbers_of(about.get("spacing_mm"), 3),
        roi=tuple(map(int, numbers_of(about.get("roi") or inputs.get("spatial_shape"), 3))),
        window=numbers_of(about.get("window"), 2),
    )


def _formats(about: Mapping[str, Any]) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Format of the first input, and of the answer."""
    formats = about.get("network_data_format")
    formats = formats if isinstance(formats, dict) else {}
    inputs, outputs = formats.get("inputs") or {}, formats.get("outputs") or {}
    first: Mapping[str, Any] = inputs.get("image") or next(iter(inputs.values()), {})
    return first, outputs.get("pred") or {}


def _count(number: Any) -> int:
    return number if isinstance(number, int) and 1 < number < 100 else 0


def _licence(text: str) -> str:
    plain = " ".join(text.split())
    known = (name for pattern, name in _LICENCES.items() if re.search(pattern, plain, re.IGNORECASE))
    return next(known, next((line.strip() for line in text.splitlines() if line.strip()), ""))


def _grid(steps: Mapping[str, Any]) -> str:
    """Spacing to which the preprocessing resamples, where it is one and written as numbers."""
    values = [step.get("pixdim") for step in _tables(steps) if "Spacing" in str(step.get("_target_"))]
    spacings = {numbers_of(value, 3) for value in values}
    numbers = spacings.pop() if len(spacings) == 1 else ()
    return in_millimetres(numbers, "pixdim of its preprocessing: x, y, z")


def _network(steps: Mapping[str, Any]) -> str:
    """Class of the network."""
    defined = steps.get("network_def")
    return text_of(defined, "_target_") if isinstance(defined, dict) else ""


def _tables(value: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(value, dict):
        yield value
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for item in inner:
        yield from _tables(item)
