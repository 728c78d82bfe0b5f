"""``[devices]``: the devices that pipelines run on."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import Field, field_validator

from node.config.table import Table


class Devices(Table):
    """Devices of the pipelines."""

    use: tuple[str, ...] = ("auto",)
    """``"auto"`` (every CUDA device, or the CPU), ``"cpu"``, ``"cuda:0"``, ...; one worker process each."""
    cpu_threads: Annotated[int, Field(ge=0)] = 0
    """Threads of a CPU worker; 0: one per core."""

    @field_validator("use")
    @classmethod
    def _use(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        named = all(re.fullmatch(r"cpu|cuda:[0-9]+", name) for name in value)
        if value != ("auto",) and not (value and named and len({*value}) == len(value)):
            raise ValueError('give ["auto"], or each device once: "cpu", "cuda:0", "cuda:1", ...')
        return value
