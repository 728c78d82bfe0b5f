"""``[jobs]``: attempts, their delays and time limits."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from node.config.table import Table


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
