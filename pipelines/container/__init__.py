"""Adapter for models in containers (OCI images), run by podman or docker without a network.

    [pipelines.lobes]
    factory = "container:registry.example/lobes@sha256:..."   # repository and digest; never pulled by the node

    [pipelines.lobes.options]
    name = "Lobes"
    version = "2.1"
    modality = "CT"
    contract = "plain"                  # "mercure", "map" (MONAI Application Package)
    input = "nifti"                     # of contract "plain"; "dicom": the files of the series
    grid = "same"                       # "any": the label map may lie on another grid
    looked_for = []                     # as of the other adapters
    inputs = []                         # companions of the rule that the container gets as well, or masks of another
                                        # pipeline's result, such as "organs:Liver": as organs_Liver.nii
    # masks = "nifti"                                           # with DICOM files; left out: as DICOM SEG
    # pictures = true                                           # also send the secondary captures that it makes
    # crop = { to = ["organs:Liver"], margin_mm = 20 }          # the container gets the box around these masks
    labels = { 1 = "lung_upper_lobe_left", 2 = "lung_lower_lobe_left" }    # values of the label map
    structures = { lung_lower_lobe_left = ["90572001", "SCT", "Lower lobe of lung"] }    # other codes, by name
    settings = { threshold = 0.5 }      # in task.json
    measurements = [{ key = "volume_ml", name = ["118565006", "SCT", "Volume"], unit = "ml" }]    # in result.json
    classes = [{ key = "scores.emphysema", finding = ["87433001", "SCT", "Pulmonary emphysema"],
                 present_from = 0.5, absent_below = 0.3 }]

    [pipelines.lobes.options.run]       # see node/outside/limits.py
    memory_gib = 16
    seconds = 600

With ``plain`` the container finds ``/input/image.nii`` (float32, Modality LUT applied, exact position; companions as
``NAME.nii`` on the same grid) or ``/input/*.dcm``, and ``/input/task.json``; it writes one label map ``*.nii`` or
``*.nii.gz`` and ``result.json`` to ``/output``. With ``mercure`` and ``map`` it finds DICOM files and returns DICOM
SEG, SR (TID 1500), a label map or ``result.json``. ``result.json`` may hold ``"unsuitable"`` or ``"partial"``, each
with a reason for the radiologist, in addition to what ``measurements`` and ``classes`` name.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from node.pipeline import Pipeline
from node.pipeline.outside import Outside
from pipelines.container.options import ContainerOptions
from pipelines.options import read_options


def create(
    *, source: Any, outside: Outside | None, weights: Path | None, device: str, options: Mapping[str, Any]
) -> Pipeline:
    """Describe the container ``source`` (``node.config.ContainerImage``) as the module's docstring says."""
    from pipelines.container.pipeline import ContainerPipeline

    if weights is not None:
        raise ValueError("weights: a container brings its own; leave it out")
    if outside is None:
        raise ValueError("a container is run by the worker; name it in config.toml, not in a program")
    return ContainerPipeline(
        image=source.reference, outside=outside, device=device, options=read_options(ContainerOptions, options)
    )
