"""``[series] [jobs] [devices] [pipelines.NAME]``: completeness of series, attempts, devices and pipelines."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, field_validator, model_validator

from node.config.table import Table


class SeriesTable(Table):
    """When a series is complete."""

    quiet_seconds: Annotated[float, Field(gt=0)] = 30.0
    """Quiet period: time without a new image and without an open association that still sends the series."""
    stat_quiet_seconds: Annotated[float, Field(gt=0)] = 10.0
    """Quiet period for STAT requests and rules with high priority."""
    gap_seconds: Annotated[float, Field(gt=0)] = 300.0
    """Wait when images seem to be missing, by slice positions, a list or a stated count."""
    procedure_step_seconds: Annotated[float, Field(gt=0)] = 3600.0
    """Longest wait after the last image while MPPS reports the procedure step IN PROGRESS."""
    study_quiet_seconds: Annotated[float, Field(gt=0)] = 120.0
    """Longest wait of rules with ``prefer`` after the study's last image for series that are expected."""


class JobsTable(Table):
    """Attempts and time limits of jobs."""

    max_attempts: Annotated[int, Field(ge=1, le=20)] = 3
    """Attempts of inference and encoding before the outcome is *failed*."""
    first_retry_seconds: Annotated[float, Field(gt=0)] = 5.0
    """Delay before the second attempt; doubled for each further one."""
    max_retry_seconds: Annotated[float, Field(gt=0)] = 600.0
    """Longest delay between two attempts."""
    run_timeout_seconds: Annotated[float, Field(gt=0)] = 1800.0
    """Kill a pipeline that runs longer."""
    encode_timeout_seconds: Annotated[float, Field(gt=0)] = 1800.0
    """Kill the encoding of a result that takes longer."""
    deliver_timeout_seconds: Annotated[float, Field(gt=0)] = 3600.0
    """Interrupt a delivery that takes longer; the next attempt continues with the remaining objects."""


class Devices(Table):
    """Devices of the pipelines."""

    use: tuple[str, ...] = ("auto",)
    """``"auto"`` (every CUDA device, or the CPU), ``"cpu"``, ``"cuda:0"``, ...; one worker process each."""
    cpu_threads: Annotated[int, Field(ge=0)] = 0
    """Threads of a CPU worker; 0: one per core."""


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
    """``module:factory``; empty: the installed entry point of this name in the group ``ainode.pipelines``."""
    weights: Path | None = None
    """Weights file; absent: the packaged weights."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Options for the factory."""
    trust_group: str = ""
    """Pipelines of the same group share one process on each device; empty: a process of its own."""
    title: Annotated[str, Field(max_length=24)] = ""
    """Title in reports, series descriptions and on the dashboard; empty: the pipeline's own title or its name."""
    stop: StopRule | None = None
    """When verdicts of readers end the sending of its results; absent: never."""

    @field_validator("weights", mode="before")
    @classmethod
    def _weights(cls, value: Any) -> Any:
        return Path(value) if isinstance(value, str) else value

    def title_of(self, name: str) -> str:
        """Return the title in reports of the pipeline that is configured as ``name``."""
        return self.title or _TITLES.get(self.factory or name, name)
