"""``[series]``: when a series is complete."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

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
