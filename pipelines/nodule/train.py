"""Training: ``python -m pipelines.nodule.train --data DIR --out FOLDER [--part P] [--minutes M] [--resume]``."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows
from rich.progress import Progress
from torch import Tensor, nn

from pipelines.nodule.data import cube_batches
from pipelines.nodule.network import CandidateNet, ClassifierNet, OutlineNet, scale_hu
from pipelines.nodule.outlines import outline_batches, outline_loss
from pipelines.nodule.patches import nodule_bank, stacks
from pipelines.nodule.scans import TRAINING_SCANS, backgrounds, bright_spots
from pipelines.nodule.verdicts import from_scan, from_slices, from_stack, verdict_batches, verdict_loss
from pipelines.weights import save_weights

CANDIDATE_BATCH, OUTLINE_BATCH, CLASSIFIER_BATCH = 2, 16, 48
PASTED, INSERTED = 250, 400
"""Real nodules, and insertions into each scan, among the classifier's examples."""
PARTS = ("candidate", "outline", "classifier")
VALIDATION_BATCHES = 16
VALIDATE_EVERY = 200
SEED = 7


def candidate_loss(output: Tensor, heat: Tensor, values: Tensor, weight: Tensor) -> Tensor:
    """Penalty-reduced focal loss of the heat map (CornerNet, Law and Deng 2018) and L1 of size and offset."""
    logit = output[:, 0].float()
    chance = logit.sigmoid()
    peak = heat >= 1.0
    gain = -(((1 - chance) ** 2) * F.logsigmoid(logit))[peak].sum()
    cost = -(((1 - heat) ** 4) * chance**2 * F.logsigmoid(-logit) * weight)[~peak].sum()
    known = (values[:, 0] != 0) & (weight > 0)
    count = peak.sum().clamp(min=1)
    regression = (output[:, 1:].float() - values).abs().movedim(1, -1)[known]
    far = (regression * torch.tensor([1.0, 0.5, 0.5, 0.5])).sum() / known.sum().clamp(min=1)
    return (gain + cost) / count + far


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
    rate: float
    done: int = 0
    best: float = math.inf
    curve: list[tuple[int, float, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.network.to(memory_format=self._layout())  # type: ignore[call-overload]
        decayed = [p for p in self.network.parameters() if p.ndim > 1]
        plain = [p for p in self.network.parameters() if p.ndim <= 1]
        self.optimizer = torch.optim.AdamW(
            [{"params": decayed, "weight_decay": 1e-3}, {"params": plain, "weight_decay": 0.0}]
        )
        self.average = {k: v.detach().clone() for k, v in self.network.state_dict().items()}
        self.best_tensors = dict(self.average)

    def _layout(self) -> Any:
        return torch.channels_last_3d if self.name == "candidate" else torch.channels_last

    def forward(self, images: Tensor) -> Tensor:
        # Elsewhere bf16 is emulated and twenty times slower.
        fast = torch.cpu._is_avx512_bf16_supported()  # noqa: SLF001
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=fast):
            return self.network(self.prepare(images).contiguous(memory_format=self._layout()))

    def step(self, batch: tuple[Tensor, ...]) -> float:
        """One AdamW step: warm-up, cosine, clipped gradient, averaged weights."""
        turn = self.done / self.steps
        rate = (
            self.rate * min(1.0, (self.done + 1) / 100) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, turn))))
        )
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.network.train()
        loss = self.loss(self.forward(batch[0]), *batch[1:])
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

    def validate(self, running: float) -> None:
        """Loss of the averaged weights on fixed cubes; the best set is the one that is shipped."""
        current = {k: v.clone() for k, v in self.network.state_dict().items()}
        self.network.load_state_dict(self.average)
        self.network.eval()
        with torch.no_grad():
            score = float(np.mean([float(self.loss(self.forward(b[0]), *b[1:])) for b in self.validation]))
        self.network.load_state_dict(current)
        self.curve.append((self.done, running, score))
        if score < self.best:
            self.best = score
            self.best_tensors = {k: v.clone() for k, v in self.average.items()}

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


def candidate_part(data: Path, steps: int, scans: tuple[str, ...]) -> Part:
    """The detector, on cubes from ``scans`` with inserted nodules; validation on other nodules, same scans."""
    ground = backgrounds(data, scans)
    bank = nodule_bank(stacks(data, "train"))
    other = nodule_bank(stacks(data, "val"))
    cubes = cube_batches(SEED + 1, ground, other, CANDIDATE_BATCH)
    return Part(
        name="candidate",
        network=CandidateNet(),
        batches=lambda seed: cube_batches(seed, ground, bank, CANDIDATE_BATCH),
        validation=[next(cubes) for _ in range(VALIDATION_BATCHES)],
        loss=candidate_loss,
        prepare=scale_hu,
        steps=steps,
        rate=2e-3,
    )


def outline_part(data: Path, steps: int) -> Part:
    """The outline network, on crops of ``lidc_patches`` (split by patient)."""
    held_back = outline_batches(SEED + 1, stacks(data, "val"), 32)
    found = stacks(data, "train")
    return Part(
        name="outline",
        network=OutlineNet(),
        batches=lambda seed: outline_batches(seed, found, OUTLINE_BATCH),
        validation=[next(held_back) for _ in range(VALIDATION_BATCHES)],
        loss=outline_loss,
        prepare=lambda images: images,
        steps=steps,
        rate=2e-3,
    )


def classifier_part(data: Path, steps: int, scans: tuple[str, ...]) -> Part:
    """The classifier, on crops, scans and slices; validation on other patients' crops and slices."""
    rng = np.random.default_rng(SEED)
    found, held_back = stacks(data, "train"), stacks(data, "val")
    firm = [s for s in found if s.raters >= 3]
    bank = nodule_bank([firm[i] for i in rng.permutation(len(firm))[:PASTED]])
    examples = [e for s in found for e in from_stack(rng, s)] + list(from_slices(rng, data, "train"))
    for ground in backgrounds(data, scans, (1.0,)):
        examples += from_scan(rng, ground, bank, bright_spots(ground), INSERTED)
    other = [e for s in held_back for e in from_stack(rng, s)] + list(from_slices(rng, data, "val"))
    validation = verdict_batches(SEED + 1, other, 64)
    return Part(
        name="classifier",
        network=ClassifierNet(),
        batches=lambda seed: verdict_batches(seed, examples, CLASSIFIER_BATCH),
        validation=[next(validation) for _ in range(VALIDATION_BATCHES)],
        loss=verdict_loss,
        prepare=lambda images: images,
        steps=steps,
        rate=2e-3,
    )


def fit(part: Part, out: Path, minutes: float, *, resume: bool) -> None:
    """Train until ``part.steps`` or ``minutes``; checkpoint at each validation."""
    checkpoint = out / f"{part.name}.ckpt"
    if resume and checkpoint.is_file():
        part.restore(torch.load(checkpoint, weights_only=True))
    batches = part.batches(SEED + 10 + part.done)
    start, running = time.monotonic(), 0.0
    with Progress() as bar:
        task = bar.add_task(part.name, total=part.steps, completed=part.done)
        while part.done < part.steps and time.monotonic() - start < minutes * 60:
            loss = part.step(next(batches))
            running = loss if running == 0 else running * 0.99 + loss * 0.01
            bar.update(task, advance=1, description=f"{part.name} loss {running:.3f} best {part.best:.3f}")
            if part.done % VALIDATE_EVERY == 0:
                part.validate(running)
                torch.save(part.state(), checkpoint)
    part.validate(running)
    torch.save(part.state(), checkpoint)


def draw(parts: list[Part], path: Path) -> None:
    """Loss curves as PNG, where matplotlib is installed."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return
    figure = Figure(figsize=(9, 4))
    for axes, part in zip(figure.subplots(1, len(parts), squeeze=False)[0], parts, strict=True):
        steps, train, val = zip(*part.curve, strict=True)
        axes.plot(steps, train, label="training (running mean)")
        axes.plot(steps, val, label="validation (averaged weights)")
        axes.set(title=part.name, xlabel="step", ylabel="loss", yscale="log")
        axes.legend()
    figure.savefig(path, dpi=100)


@click.command()
@click.option("--data", type=click.Path(path_type=Path, exists=True), required=True, help="the data folder")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="checkpoints, curves and weights go here")
@click.option("--minutes", type=float, default=60.0, show_default=True, help="at most, per network")
@click.option("--candidate-steps", default=3600, show_default=True)
@click.option("--outline-steps", default=2400, show_default=True)
@click.option("--classifier-steps", default=3000, show_default=True)
@click.option("--part", type=click.Choice([*PARTS, "all"]), default="all", show_default=True)
@click.option(
    "--scan", "scans", multiple=True, help="background series under studies/ (repeat; default: all but the held-out)"
)
@click.option("--resume", is_flag=True, help="go on from the checkpoints in --out")
def main(
    *,
    data: Path,
    out: Path,
    minutes: float,
    candidate_steps: int,
    outline_steps: int,
    classifier_steps: int,
    part: str,
    scans: tuple[str, ...],
    resume: bool,
) -> None:
    """Train, then write ``weights.safetensors`` of the parts that have a checkpoint in --out."""
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    out.mkdir(parents=True, exist_ok=True)
    makers = {
        "candidate": lambda: candidate_part(data, candidate_steps, scans or TRAINING_SCANS),
        "outline": lambda: outline_part(data, outline_steps),
        "classifier": lambda: classifier_part(data, classifier_steps, scans or TRAINING_SCANS),
    }
    parts = []
    for name in PARTS if part == "all" else (part,):
        parts.append(makers[name]())
        fit(parts[-1], out, minutes, resume=resume)
    draw(parts, out / f"{part}.png")
    write_weights(out, out / "weights.safetensors")


def write_weights(out: Path, path: Path) -> None:
    """Best tensors of all checkpoints in ``out`` as one safetensors file with its pin; needs all."""
    tensors: dict[str, Tensor] = {}
    for name in PARTS:
        if not (out / f"{name}.ckpt").is_file():
            print(f"{out / name}.ckpt is missing: train that part too, weights are written when all are there")
            return
        best = torch.load(out / f"{name}.ckpt", weights_only=True)["best_tensors"]
        tensors |= {f"{name}.{key}": value for key, value in best.items()}
    print(f"{path}: SHA-256 {save_weights(tensors, path)}")


if __name__ == "__main__":
    main()
