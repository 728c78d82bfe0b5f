"""``[series] [jobs] [devices] [pipelines.NAME]``: when work begins, how often it is tried, what runs it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, field_validator

from node.config.table import Table


class SeriesTable(Table):
    """When a series counts as complete."""

    quiet_seconds: Annotated[float, Field(gt=0)] = 30.0
    """No new image for this long, and no open association still sending it."""
    stat_quiet_seconds: Annotated[float, Field(gt=0)] = 10.0
    """The same for STAT requests and for rules of high priority."""
    gap_seconds: Annotated[float, Field(gt=0)] = 300.0
    """Wait this long instead while images seem to be missing: a gap in the slice positions, a list, a stated count."""
    procedure_step_seconds: Annotated[float, Field(gt=0)] = 3600.0
    """Wait this long after the last image while the scanner says (MPPS) that its procedure step is IN PROGRESS."""
    study_quiet_seconds: Annotated[float, Field(gt=0)] = 120.0
    """Longest wait of rules with ``prefer`` after the last image of a study of which another series is expected."""


class JobsTable(Table):
    """How often and how long work is tried."""

    max_attempts: Annotated[int, Field(ge=1, le=20)] = 3
    """Attempts of inference and encoding before the outcome is *failed*."""
    first_retry_seconds: Annotated[float, Field(gt=0)] = 5.0
    """Delay before the second attempt; doubled each time."""
    max_retry_seconds: Annotated[float, Field(gt=0)] = 600.0
    """Longest delay between two attempts."""
    run_timeout_seconds: Annotated[float, Field(gt=0)] = 1800.0
    """A pipeline that runs longer than this is killed."""


class Devices(Table):
    """What pipelines run on."""

    use: tuple[str, ...] = ("auto",)
    """``"auto"`` (every CUDA device, else CPU), ``"cpu"``, ``"cuda:0"``, ...; one worker process each."""
    cpu_threads: Annotated[int, Field(ge=0)] = 0
    """Threads of a CPU worker; 0: one per core."""


_TITLES = dict.fromkeys(("tumor", "pipelines.tumor:create"), "FLAIR abnormality")
"""Packaged pipelines, by entry point and factory, whose name would say more than they see."""


class PipelineTable(Table):
    """One pipeline under the name that rules use."""

    factory: str = ""
    """``module:factory``; empty: the installed entry point of this name in the group ``ainode.pipelines``."""
    weights: Path | None = None
    """Weights file; absent: the packaged ones."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Passed to the factory."""
    title: Annotated[str, Field(max_length=24)] = ""
    """What physicians read in reports, series names and on the dashboard; empty: its own title, else its name."""

    @field_validator("weights", mode="before")
    @classmethod
    def _weights(cls, value: Any) -> Any:
        return Path(value) if isinstance(value, str) else value

    def title_of(self, name: str) -> str:
        """What physicians read in place of ``name``, the pipeline's name in the configuration."""
        return self.title or _TITLES.get(self.factory or name, name)
