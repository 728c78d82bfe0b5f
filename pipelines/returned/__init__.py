"""Adapter for results that come back from where images were sent under pseudonyms (docs/deidentify.md).

    [destinations.cloud]
    title = "CLOUDAI"
    host = "ai.example.org"
    port = 104
    deidentify = "basic"
    results_to = ["pacs"]

    [pipelines.cloud-nodules]
    factory = "returned:cloud"

    [pipelines.cloud-nodules.options]
    name = "Cloud nodules"
    version = "4.1"
    modality = "CT"
    looked_for = []                     # as of the other adapters
    structures = { Tumour = ["108369006", "SCT", "Neoplasm"] }    # other codes of segments, by their label

It reads DICOM SEG and SR (TID 1500), as those of a container with DICOM files are read.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from node.pipeline import Pipeline
from node.pipeline.outside import Outside
from pipelines.container.options import ResultOptions
from pipelines.options import read_options


def create(
    *, source: Any, outside: Outside | None, weights: Path | None, device: str, options: Mapping[str, Any]
) -> Pipeline:
    """Describe what comes back from ``source`` (``node.config.ReturnedResults``); ``device`` is not used."""
    from pipelines.returned.pipeline import ReturnedPipeline

    del device
    if weights is not None:
        raise ValueError("weights: what comes back was computed elsewhere; leave it out")
    if outside is None:
        raise ValueError("results that come back are received by a node; name the pipeline in config.toml")
    return ReturnedPipeline(source=source.destination, outside=outside, options=read_options(ResultOptions, options))
