"""The trial load of a model that is being added: what it is, or what it lacks, before anybody configures it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from node.config import Config, PipelineTable
from node.errors import NodeError, WeightsError
from node.inference.model_store import Model
from node.inference.pipeline_description import PipelineDescription
from node.inference.pipeline_process import describe


@dataclass(frozen=True, kw_only=True)
class ModelTrial:
    """Result of loading a model."""

    description: PipelineDescription | None
    """``None`` when it does not load yet."""
    fault: str
    """What options, packages or memory it lacks; empty when it loads."""


def model_trial(model: Model, config: Config, options: Mapping[str, Any] | None = None) -> ModelTrial:
    """Load ``model`` in a confined process, as ``ainode check`` does; with its digest and other ``options``.

    Raises ``WeightsError`` for a model that no option and no package makes run.
    """
    pinned = {**(options or {}), "sha256": model.sha256}
    table = PipelineTable(factory=model.factory, weights=model.path, options=pinned)
    try:
        return ModelTrial(description=describe(model.name, config, table), fault="")
    except WeightsError:
        raise
    except NodeError as error:
        prefix = f"[pipelines.{model.name}] cannot be loaded: "
        return ModelTrial(description=None, fault=str(error).removeprefix(prefix))
