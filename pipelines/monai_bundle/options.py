"""Options of a bundle, without MONAI, which takes seconds to import."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from pipelines.options import ModelOptions


class Options(ModelOptions):
    """Checked options; see the package's text for what they mean."""

    config: str = "inference"
    overrides: dict[str, Any] = Field(default_factory=dict)
    classes: list[str] = Field(default_factory=list)
    min_score: float = Field(default=0.5, ge=0, le=1)
    modality: str = ""
