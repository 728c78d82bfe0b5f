"""``[devices]``: the devices that pipelines run on."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from node.config.table import Table


class Devices(Table):
    """Devices of the pipelines."""

    use: tuple[str, ...] = ("auto",)
    """``"auto"`` (every CUDA device, or the CPU), ``"cpu"``, ``"cuda:0"``, ...; one worker process each."""
    cpu_threads: Annotated[int, Field(ge=0)] = 0
    """Threads of a CPU worker; 0: one per core."""
