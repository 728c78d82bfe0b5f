"""What bundles the adapter can run, decided from their metadata before anything of them is loaded."""

from __future__ import annotations

from collections.abc import Callable

from node.errors import WeightsError
from pipelines.monai_bundle.metadata import Metadata

_DIMENSIONS = 3
_PIPELINE = "write a pipeline around its network (docs/write-a-pipeline.md)"
_OTHER = "choose a bundle for segmentation or detection"


def check_supported(metadata: Metadata, bundle: str, *, by_slice: bool, modality: str) -> None:
    """Raise ``WeightsError`` for a bundle whose images or answers no series and no findings can express.

    ``by_slice``: the bundle itself gives a flat network the slices of a volume. ``modality``: that of the options.
    """
    if not modality and not metadata.network_data_format.inputs and not metadata.makes_images:
        raise WeightsError(
            f"bundle {bundle}: configs/metadata.json has no network_data_format.inputs, so nothing says which images "
            "it takes; add them, or give the option modality if it takes the volume of one series"
        )
    for rule in _RULES:
        if fault := rule(metadata):
            raise WeightsError(f"bundle {bundle}: {fault}")
    if not by_slice and (fault := _flat(metadata)):
        raise WeightsError(f"bundle {bundle}: {fault}")


def _generative(metadata: Metadata) -> str:
    if not metadata.makes_images:
        return ""
    return (
        f"metadata.json says inputs.{metadata.makes_images}: it makes images and analyses none, and the node sends "
        f"findings about the images that it received; {_OTHER}"
    )


def _registration(metadata: Metadata) -> str:
    names = metadata.input_format("image").channel_names
    if not any(name.lower().startswith(("moving", "fixed")) for name in names):
        return ""
    return (
        f"metadata.json says inputs.image.channel_def = {', '.join(names)}: it registers one image with another, and a "
        f"registered image is no finding; {_OTHER}"
    )


def _colour(metadata: Metadata) -> str:
    key = next(iter(metadata.keys), "image")
    image = metadata.input_format(key)
    letters = [name[:1].upper() for name in image.channel_names]
    if letters[:3] != ["R", "G", "B"] and not image.format.upper().startswith("RGB"):
        return ""
    stated = f"channel_def = {', '.join(image.channel_names)}" if letters[:3] == ["R", "G", "B"] else "format = RGB"
    return (
        f"metadata.json says inputs.{key}.{stated}: it takes colour images, and a bundle gets the grey levels of a "
        f"volume; {_PIPELINE}, which can take images in colour"
    )


def _points(metadata: Metadata) -> str:
    if metadata.answer.format.lower() != "points":
        return ""
    return (
        "metadata.json says outputs.pred.format = points: it answers with points, and a bundle's masks and boxes alone "
        f"become findings; {_PIPELINE}, which can return points"
    )


def _classification(metadata: Metadata) -> str:
    answer = metadata.answer
    kinds = {answer.type.lower(), answer.format.lower()}
    shape = [str(length) for length in answer.spatial_shape or ()]
    classes = kinds & {"classes", "classification"} or ("labels" in kinds and len(shape) < _DIMENSIONS and shape)
    if not classes:
        return ""
    names = ", ".join(metadata.classes.values())
    return (
        f"metadata.json says outputs.pred.format = {answer.format}: it names a class of the whole image ({names}), and "
        f"a bundle's masks and boxes alone become findings; {_PIPELINE}, which can return a code"
    )


def _flat(metadata: Metadata) -> str:
    key = next(iter(metadata.keys), "image")
    shape = metadata.input_format(key).spatial_shape
    if not shape or len(shape) == _DIMENSIONS:
        return ""
    lengths = " x ".join(map(str, shape))
    return (
        f"metadata.json says inputs.{key}.spatial_shape = {lengths}: it takes images of {len(shape)} dimensions, and a "
        f"bundle gets the volume of a series; use one whose inferer is SliceInferer, or {_PIPELINE}"
    )


_RULES: tuple[Callable[[Metadata], str], ...] = (_generative, _registration, _colour, _points, _classification)
