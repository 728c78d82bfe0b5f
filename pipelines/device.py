"""Execution of networks on a device: precision, batch size, and fallback when memory runs out."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from node.errors import PipelineError, is_lack_of_memory

logger = logging.getLogger(__name__)

Answer = TypeVar("Answer")


def native_precision(device: str) -> str:
    """``"bf16"``, ``"fp16"`` or ``"fp32"``: the smallest that ``device`` computes in by itself.

    A CPU without instructions for bfloat16 emulates it, a hundred times slower.
    """
    if device.startswith("cuda"):
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    able = torch.cpu.get_capabilities()
    return "bf16" if able.get("avx512_bf16") or able.get("amx_bf16") else "fp32"


def autocast(device: str, precision: str) -> contextlib.AbstractContextManager[object]:
    """Within it, convolutions on ``device`` compute in ``precision``; sums over them and the weights stay float32."""
    kinds = {"bf16": torch.bfloat16, "fp16": torch.float16}
    if precision not in kinds:
        return contextlib.nullcontext()
    return torch.autocast(torch.device(device).type, dtype=kinds[precision])


def to_device(tensor: torch.Tensor, device: str) -> torch.Tensor:
    """Copy ``tensor`` to ``device``; to a GPU asynchronously through page-locked memory."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.startswith("cuda") else tensor.to(device)


class Portions:
    """Runs work in the largest batch or window that fits into the device's memory, and remembers it.

    The ladder: each of the sizes, largest first; then the smallest on the CPU; then ``PipelineError``. What memory a
    device has for one analysis depends on what else runs there: the CPU is for the rest of that analysis only.
    """

    def __init__(self, device: str, sizes: Sequence[int]) -> None:
        """``sizes``: items at once, or voxels of a window; descending."""
        self._ladder = [(size, device) for size in sizes]
        if device != "cpu":
            self._ladder.append((sizes[-1], "cpu"))
        self._rung = 0
        self._used: list[str] = []

    def begin(self) -> None:
        """Begin an analysis on the device, with the portions that fitted; with the largest when none did."""
        if self._ladder[self._rung][1] != self._ladder[0][1]:
            self._rung = 0
        self._used = []

    @property
    def device(self) -> str:
        """``"cuda"`` or ``"cpu"``, or ``"cuda, cpu"``: where the work of the analysis ran, or will run."""
        used = self._used or [self._ladder[self._rung][1]]
        return ", ".join(dict.fromkeys(device.partition(":")[0] for device in used))

    def run(self, work: Callable[[int, str], Answer]) -> Answer:
        """What ``work(size, device)`` returns; it is called again, from the start, when memory ran out.

        ``work`` moves its network to ``device``, which may be another one than the last time.
        """
        while True:
            size, device = self._ladder[self._rung]
            try:
                answer = work(size, device)
            except Exception as error:
                if not isinstance(error, torch.OutOfMemoryError) and not is_lack_of_memory(error):
                    raise
                reason = str(error).partition("\n")[0]
            else:
                self._used.append(device)
                return answer
            # Out of the handler: its traceback held the tensors that filled the memory.
            if device.startswith("cuda"):
                torch.cuda.empty_cache()
            if self._rung + 1 == len(self._ladder):
                raise PipelineError(
                    f"memory of {device} does not suffice even for portions of {size} ({reason}); "
                    "free memory, or give the node a larger device"
                )
            self._rung += 1
            logger.warning(
                "memory of %s does not suffice for portions of %d; continuing with %d on %s",
                device,
                size,
                *self._ladder[self._rung],
            )
