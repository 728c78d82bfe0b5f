"""``[pipelines.NAME]``: the pipelines that rules name, and when verdicts of readers stop one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, field_validator, model_validator

from node.config.outside import outside_factory
from node.config.table import Table

_TITLES = dict.fromkeys(("tumor", "pipelines.tumor:create"), "FLAIR abnormality")
"""Titles of packaged pipelines whose name would promise too much, by entry point and factory."""


class StopRule(Table):
    """When verdicts of readers end the sending of a pipeline's results; ``node.feedback.stop_rule`` is the test."""

    expected_ppv: Annotated[float, Field(gt=0, lt=1)]
    """Positive predictive value, as ``ainode quality`` counts it, of a pipeline that works as it should."""
    stop_ppv: Annotated[float, Field(gt=0, lt=1)]
    """Positive predictive value at which its results must not be sent any more."""
    analyses_between_false_stops: Annotated[int, Field(ge=100)] = 20000
    """Judged analyses of a pipeline at ``expected_ppv`` between two false stops: on average this many, or more."""

    @model_validator(mode="after")
    def _falls(self) -> StopRule:
        if self.stop_ppv >= self.expected_ppv:
            raise ValueError(f"stop_ppv = {self.stop_ppv:g} has to be less than expected_ppv = {self.expected_ppv:g}")
        return self


class PipelineTable(Table):
    """One pipeline; its key is the name that rules use."""

    factory: str = ""
    """``module:factory``, ``container:IMAGE@sha256:DIGEST`` or ``remote:https://HOST/v2/models/NAME``; empty: the
    installed entry point of this name in the group ``ainode.pipelines``."""
    weights: Path | None = None
    """Weights file; absent: the packaged weights."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Options for the factory."""
    after: str = ""
    """Name of another pipeline: this one runs after it on the same series and gets its result; empty: it needs none."""
    trust_group: str = ""
    """Pipelines of the same group share one process on each device; empty: a process of its own."""
    title: Annotated[str, Field(max_length=24)] = ""
    """Title in reports, series descriptions and on the dashboard; empty: the pipeline's own title or its name."""
    license: Annotated[str, Field(max_length=64)] = ""
    """Of the model, as reports, `ainode check` and the dashboard show it, for example ``"non-commercial"``."""
    stop: StopRule | None = None
    """When verdicts of readers end the sending of its results; absent: never."""
    require_acceptance: bool = False
    """Send results only of versions that an approved acceptance report allows; those of others are kept in shadow."""
    similar_findings: bool = False
    """Keep embeddings of its findings, and show similar earlier findings of this site on the page of a study."""
    similar_in_pdf: bool = False
    """List them in its PDF reports, too; with ``similar_findings`` only."""
    quota_gib: Annotated[float, Field(ge=0)] = 0.0
    """Most that its results may occupy; beyond it those that were confirmed first are deleted. 0: no limit."""

    @field_validator("factory")
    @classmethod
    def _factory(cls, value: str) -> str:
        outside_factory(value)
        return value

    @field_validator("weights", mode="before")
    @classmethod
    def _weights(cls, value: Any) -> Any:
        return Path(value) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _has_what_it_lists(self) -> PipelineTable:
        if self.similar_in_pdf and not self.similar_findings:
            raise ValueError("similar_in_pdf lists what similar_findings keeps: set similar_findings = true, too")
        return self

    def title_of(self, name: str) -> str:
        """Return the title in reports of the pipeline that is configured as ``name``."""
        return self.title or _TITLES.get(self.factory or name, name)
