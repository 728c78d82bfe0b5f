"""One network in training: steps, validation, checkpoints, curve."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from rich.progress import Progress
from torch import Tensor, nn

from pipelines.device import autocast, native_precision

VALIDATE_EVERY = 200
SEED = 7
PATIENCE = 8
"""Validations without a better one after which training ends."""


@dataclass
class Part:
    """One network on its way: parameters, their running average, optimiser and curve."""

    name: str
    network: nn.Module
    batches: Callable[[int], Iterator[tuple[Tensor, ...]]]
    validation: list[tuple[Tensor, ...]]
    loss: Callable[..., Tensor]
    prepare: Callable[[Tensor], Tensor]
    steps: int
    device: str = "cpu"
    rate: float = 2e-3
    done: int = 0
    best: float = math.inf
    curve: list[tuple[int, float, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.network.to(device=self.device, memory_format=self._layout())  # type: ignore[call-overload]
        decayed = [p for p in self.network.parameters() if p.ndim > 1]
        plain = [p for p in self.network.parameters() if p.ndim <= 1]
        self.optimizer = torch.optim.AdamW(
            [{"params": decayed, "weight_decay": 1e-3}, {"params": plain, "weight_decay": 0.0}]
        )
        self.average = {k: v.detach().clone() for k, v in self.network.state_dict().items()}
        self.best_tensors = dict(self.average)

    def _layout(self) -> Any:
        return torch.channels_last_3d if self.name == "candidate" else torch.channels_last

    def loss_of(self, batch: tuple[Tensor, ...]) -> Tensor:
        """Of a batch: images first, the rest as the loss wants it."""
        images, *wanted = (t.to(self.device) for t in batch)
        # fp16 would want its gradients scaled.
        with autocast(self.device, "bf16" if native_precision(self.device) == "bf16" else "fp32"):
            output = self.network(self.prepare(images).contiguous(memory_format=self._layout()))
        return self.loss(output, *wanted)

    def step(self, batch: tuple[Tensor, ...]) -> float:
        """One AdamW step: warm-up, cosine, clipped gradient, averaged weights."""
        turn = self.done / self.steps
        rate = (
            self.rate * min(1.0, (self.done + 1) / 100) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, turn))))
        )
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.network.train()
        loss = self.loss_of(batch)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), 5.0)
        self.optimizer.step()
        self.done += 1
        keep = min(0.998, self.done / (self.done + 20))
        with torch.no_grad():
            for key, value in self.network.state_dict().items():
                if value.is_floating_point():
                    self.average[key].lerp_(value, 1 - keep)
                else:
                    self.average[key].copy_(value)
        return float(loss.detach())

    @property
    def stale(self) -> bool:
        """Whether the last ``PATIENCE`` validations brought nothing better."""
        last = [score for _, _, score in self.curve[-PATIENCE:]]
        return len(last) == PATIENCE and min(last) > self.best

    def validate(self, running: float) -> None:
        """Loss of the averaged weights on fixed cubes; the best set is the one that is shipped."""
        current = {k: v.clone() for k, v in self.network.state_dict().items()}
        self.network.load_state_dict(self.average)
        self.network.eval()
        with torch.no_grad():
            score = float(np.mean([float(self.loss_of(b)) for b in self.validation]))
        self.network.load_state_dict(current)
        self.curve.append((self.done, running, score))
        if score < self.best:
            self.best = score
            self.best_tensors = {k: v.clone() for k, v in self.average.items()}

    def begin_with(self, tensors: dict[str, Tensor]) -> None:
        """Start from ``tensors`` of the network instead of chance."""
        self.network.load_state_dict(tensors)
        self.average = {k: v.detach().clone() for k, v in self.network.state_dict().items()}

    def state(self) -> dict[str, Any]:
        """Everything needed to go on after an interruption."""
        return {
            "network": self.network.state_dict(),
            "average": self.average,
            "best_tensors": self.best_tensors,
            "optimizer": self.optimizer.state_dict(),
            "done": self.done,
            "best": self.best,
            "curve": self.curve,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """The reverse of ``state``."""
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.average, self.best_tensors = state["average"], state["best_tensors"]
        self.done, self.best, self.curve = state["done"], state["best"], state["curve"]


def fit(part: Part, out: Path, minutes: float, *, resume: bool) -> None:
    """Train until ``part.steps``, ``minutes`` or no more gain; checkpoint at each validation."""
    checkpoint = out / f"{part.name}.ckpt"
    if resume and checkpoint.is_file():
        part.restore(torch.load(checkpoint, weights_only=True, map_location=part.device))
    batches = part.batches(SEED + 10 + part.done)
    start, running = time.monotonic(), 0.0
    with Progress() as bar:
        task = bar.add_task(part.name, total=part.steps, completed=part.done)
        while part.done < part.steps and not part.stale and time.monotonic() - start < minutes * 60:
            loss = part.step(next(batches))
            running = loss if running == 0 else running * 0.99 + loss * 0.01
            bar.update(task, advance=1, description=f"{part.name} loss {running:.3f} best {part.best:.3f}")
            if part.done % VALIDATE_EVERY == 0:
                part.validate(running)
                torch.save(part.state(), checkpoint)
    part.validate(running)
    torch.save(part.state(), checkpoint)


def draw(parts: list[Part], path: Path) -> None:
    """Loss curves as PNG."""
    figure = Figure(figsize=(9, 4))
    for axes, part in zip(figure.subplots(1, len(parts), squeeze=False)[0], parts, strict=True):
        steps, train, val = zip(*part.curve, strict=True)
        axes.plot(steps, train, label="training (running mean)")
        axes.plot(steps, val, label="validation (averaged weights)")
        axes.set(title=part.name, xlabel="step", ylabel="loss", yscale="log")
        axes.legend()
    figure.savefig(path, dpi=100)
