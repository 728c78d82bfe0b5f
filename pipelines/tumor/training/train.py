"""Train the network: ``python -m pipelines.tumor.training.train --data DIR --out FOLDER --minutes 50``.

The schedule (warm-up, cosine) follows the budget of CPU minutes of this process, so that a busy machine changes the
wall clock and not the recipe. A checkpoint is written every minute; ``--resume`` goes on from it.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import numpy as np
import torch
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, interpolate
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from pipelines.nnunet_data_set import DataSetError
from pipelines.tumor.network import FlairNet
from pipelines.tumor.prepare import probabilities
from pipelines.tumor.training.attention import AttentionFlairNet
from pipelines.tumor.training.data import Patient, Sampler
from pipelines.tumor.training.metrics import dice
from pipelines.tumor.training.sets import patients_of
from pipelines.weights import load_weights, save_weights

BATCH = 8
WITH_TUMOUR = 0.6
RATE = 2e-3
FINE_TUNING = 0.5
"""Of the learning rate, when training begins with earlier weights."""
WARM_UP = 0.03
"""Of the budget."""
ASIDE = (0.3, 0.15)
"""Weight of the two coarse logit maps in the loss."""
EMA = 0.995
CHECKPOINT_SECONDS = 60.0
VALIDATE_SECONDS = 300.0
PATIENCE = 8
"""Training stops early after so many validations without a better one."""


@dataclass
class Progressed:
    """How far training has come; goes into the checkpoint."""

    step: int = 0
    seconds: float = 0.0
    best: float = -1.0
    since_best: int = 0
    losses: list[float] = field(default_factory=list)
    validations: list[tuple[int, float]] = field(default_factory=list)


def loss_of(outputs: tuple[Tensor, ...], mask: Tensor) -> Tensor:
    """Dice of the whole batch plus binary cross-entropy, for the full map and the two coarse ones."""
    from monai.losses import DiceLoss  # MONAI takes seconds to import, and only a training run needs it

    overlap = DiceLoss(sigmoid=True, batch=True, smooth_nr=1.0, smooth_dr=1.0)
    total = torch.zeros(())
    for weight, logits in zip((1.0, *ASIDE), outputs, strict=True):
        target = interpolate(mask, size=logits.shape[2:], mode="area")
        total = total + weight * (overlap(logits.float(), target) + binary_cross_entropy_with_logits(logits, target))
    return total


def validate(network: FlairNet, patients: list[Patient], device: str) -> float:
    """Mean 3D Dice per patient at threshold 0.5, without mirroring or clean-up."""
    network.eval()
    scores = [dice(probabilities(network, p.normalised, mirror=False, device=device) > 0.5, p.mask) for p in patients]
    return float(np.mean(scores))


def rate_factor(done: float) -> float:
    """Learning rate relative to its top, for the share ``done`` of the budget: linear warm-up, then half a cosine."""
    if done < WARM_UP:
        return max(done / WARM_UP, 0.02)
    return 0.5 * (1 + math.cos(math.pi * min((done - WARM_UP) / (1 - WARM_UP), 1.0)))


class Trainer:
    """Network, its moving average, optimiser and progress; what a checkpoint holds."""

    def __init__(self, out: Path, *, seed: int, device: str, attention: bool = False) -> None:
        torch.manual_seed(seed)
        self.out = out
        self.device = device
        self.network = (AttentionFlairNet() if attention else FlairNet()).to(device)
        decay = [p for p in self.network.parameters() if p.ndim > 1]
        plain = [p for p in self.network.parameters() if p.ndim <= 1]
        groups = [{"params": decay, "weight_decay": 0.02}, {"params": plain, "weight_decay": 0.0}]
        self.optimiser = torch.optim.AdamW(groups)
        self.average = AveragedModel(self.network, multi_avg_fn=get_ema_multi_avg_fn(EMA), use_buffers=True)
        self.state = Progressed()
        # On a processor without bf16 instructions autocast is ten times slower than float32.
        self.bf16 = device.startswith("cuda") or torch.cpu._is_avx512_bf16_supported()  # noqa: SLF001

    def begin_with(self, tensors: dict[str, Tensor]) -> None:
        """Take over the weights of an earlier training."""
        for network in (self.network, cast("FlairNet", self.average.module)):
            network.load_state_dict(tensors)

    def load(self) -> None:
        """Go on from the checkpoint."""
        saved = torch.load(self.out / "checkpoint.pt", map_location=self.device, weights_only=True)
        self.network.load_state_dict(saved["network"])
        self.average.load_state_dict(saved["average"])
        self.optimiser.load_state_dict(saved["optimiser"])
        self.state = Progressed(**saved["state"])

    def save(self) -> None:
        """Write the checkpoint (never a half one) and the curves so far."""
        saved = {"network": self.network.state_dict(), "average": self.average.state_dict(), "state": vars(self.state)}
        torch.save({**saved, "optimiser": self.optimiser.state_dict()}, self.out / "checkpoint.part")
        (self.out / "checkpoint.part").replace(self.out / "checkpoint.pt")
        (self.out / "history.json").write_text(json.dumps(vars(self.state)))

    def step(self, image: Tensor, mask: Tensor, rate: float) -> None:
        """One update of the network and its average."""
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.network.train()
        with torch.autocast(self.device.partition(":")[0], torch.bfloat16, enabled=self.bf16):
            outputs = self.network(image.to(self.device).contiguous(memory_format=torch.channels_last))
        loss = loss_of(outputs, mask.to(self.device))
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), 2.0)
        self.optimiser.step()
        self.average.update_parameters(self.network)
        self.state.step += 1
        self.state.losses.append(round(float(loss.detach()), 4))

    def judge(self, held_out: list[Patient]) -> None:
        """Validate the average; its weights are written when they are the best so far."""
        network = cast("FlairNet", self.average.module)
        score = validate(network, held_out, self.device)
        self.state.validations.append((self.state.step, score))
        self.state.since_best += 1
        if score >= self.state.best:
            self.state.best, self.state.since_best = score, 0
            self.write()

    def write(self) -> None:
        """Write the weights of the average."""
        tensors = {k: v.cpu() for k, v in self.average.module.state_dict().items() if "num_batches" not in k}
        save_weights(tensors, self.out / "weights.safetensors")


def train(
    data: Path,
    out: Path,
    minutes: float,
    *,
    resume: bool = False,
    start: Path | None = None,
    refit: bool = False,
    attention: bool = False,
    validate_seconds: float = VALIDATE_SECONDS,
    seed: int = 1,
    device: str = "cpu",
) -> None:
    """Train and leave ``weights.safetensors``, ``checkpoint.pt``, ``history.json`` and ``curves.png``.

    The weights are those best on val; with ``refit`` val is trained on too and they are the last ones. With
    ``attention`` the skips have gates, and the weights are not those of the pipeline's network.
    """
    held_out = patients_of(data, "val")
    learned = patients_of(data, "train") + (held_out if refit else [])
    out.mkdir(parents=True, exist_ok=True)
    trainer = Trainer(out, seed=seed, device=device, attention=attention)
    if start:
        trainer.begin_with(load_weights(start).tensors)
    if resume:
        trainer.load()
    state, top_rate = trainer.state, RATE * (FINE_TUNING if start else 1)
    samples = iter(Sampler(learned, batch=BATCH, with_tumour=WITH_TUMOUR, seed=seed + state.step))
    budget, spent_before, started = minutes * 60, state.seconds, time.process_time()
    next_save, next_validation = state.seconds + CHECKPOINT_SECONDS, state.seconds + validate_seconds
    with Progress(TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()) as bar:
        task = bar.add_task("training", total=budget)
        while state.seconds < budget and state.since_best < PATIENCE:
            image, mask = next(samples)
            trainer.step(image, mask, top_rate * rate_factor(state.seconds / budget))
            state.seconds = spent_before + time.process_time() - started
            if state.seconds >= next_validation and not refit:
                trainer.judge(held_out)
                next_validation += validate_seconds
            if state.seconds >= next_save:
                trainer.save()
                next_save += CHECKPOINT_SECONDS
            recent = float(np.mean(state.losses[-50:]))
            bar.update(task, completed=state.seconds, description=f"step {state.step} loss {recent:.3f}")
    if refit:
        trainer.write()
    else:
        trainer.judge(held_out)
    trainer.save()
    draw(state, out / "curves.png")
    outcome = "val trained on" if refit else f"best mean Dice on val {state.best:.4f}"
    print(f"{outcome}; {state.step} steps, {state.seconds / 60:.1f} CPU minutes")


def draw(state: Progressed, path: Path) -> None:
    """Loss and validation curves as PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4))
    axes = figure.add_subplot()
    smooth = np.convolve(state.losses, np.ones(50) / 50, mode="valid")
    axes.plot(np.arange(len(smooth)) + 50, smooth, label="training loss (mean of 50)")
    if state.validations:
        axes.plot(*zip(*state.validations, strict=True), "o-", label="val Dice")
    axes.set_xlabel("step")
    axes.legend()
    figure.savefig(path, dpi=120)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Train the FLAIR abnormality network on TCGA-LGG.")
    parser.add_argument(
        "--data", type=Path, required=True, help="folder of a data set of nnU-Net v2, or one that holds lgg/"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for weights, checkpoint and curves")
    parser.add_argument("--minutes", type=float, default=50.0, help="CPU minutes; the schedule follows them")
    parser.add_argument("--resume", action="store_true", help="go on from OUT/checkpoint.pt")
    parser.add_argument("--start", type=Path, help="begin with these weights, for example the packaged ones")
    parser.add_argument("--refit", action="store_true", help="train on val too and keep the last weights")
    parser.add_argument("--attention", action="store_true", help="attention gates on the skips; only to compare")
    parser.add_argument(
        "--validate-seconds", type=float, default=VALIDATE_SECONDS, help="CPU seconds from one validation to the next"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    try:
        train(
            args.data,
            args.out,
            args.minutes,
            resume=args.resume,
            start=args.start,
            refit=args.refit,
            attention=args.attention,
            validate_seconds=args.validate_seconds,
            seed=args.seed,
            device=args.device,
        )
    except (FileNotFoundError, DataSetError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
