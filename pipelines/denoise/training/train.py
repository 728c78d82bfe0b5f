"""Train the denoiser: ``python -m pipelines.denoise.training.train --data DIR --out FOLDER [--minutes M] [--resume]``.

Input: real slices with simulated additional noise; target: the noise that was added. The network is told how strong
that noise is, so at use it can be told how much to remove.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import math
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn, track
from torch import Tensor
from torch.nn.functional import huber_loss
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from pipelines.denoise.network import DenoiseNet
from pipelines.denoise.noise import noise_map
from pipelines.denoise.training.adversarial import Opponent
from pipelines.denoise.training.data import REALISATIONS, FloatArray, Noisy, Sample, add_noise_fields, low_dose
from pipelines.denoise.training.lowdose import noise_fields
from pipelines.denoise.training.patches import Patch, make_patch
from pipelines.denoise.training.sets import samples_of
from pipelines.nnunet_data_set import DataSetError
from pipelines.weights import load_weights, save_weights

SEED = 20
BATCH = 4
RATE, WARM_UP, DECAY = 1.5e-3, 300, 0.999
FINE_TUNING = 0.5
"""Of the learning rate, when training begins with earlier weights."""
VALIDATE_EVERY = 400
PATIENCE = 12
"""Training stops early after so many validations without a better one."""
VAL_DOSE = 0.25


def psnr(error: FloatArray) -> float:
    """PSNR in dB for a range of 4095 HU (12 bit)."""
    return 20 * math.log10(4095 / math.sqrt(float(np.square(error, dtype=np.float64).mean())))


def noisy_samples(learned: Sequence[Sample], folder: Path) -> list[Noisy]:
    """Training slices with their noise fields, simulated once and kept in ``folder``: minutes of work."""
    rng = np.random.default_rng(SEED)
    bank = []
    for number, sample in enumerate(track(learned, "simulating noise for training")):
        file = folder / f"{number:03}-{_digest(sample)}.npz"
        photons = float(np.exp(rng.uniform(np.log(2e4), np.log(2e5))))
        if not file.exists():
            seeded = np.random.default_rng((SEED, number))
            fields = noise_fields(sample.slices[1], sample.spacing_mm, REALISATIONS, seeded).at(photons)
            noisy = add_noise_fields(sample, fields)
            np.savez(file, fields=noisy.fields, field_maps=noisy.field_maps, own_map=noisy.own_map, kernel=noisy.kernel)
        with np.load(file) as stored:
            bank.append(Noisy(sample, stored["fields"], stored["field_maps"], stored["own_map"], int(stored["kernel"])))
    return bank


def validation_pairs(held_out: Sequence[Sample], folder: Path) -> list[tuple[FloatArray, FloatArray]]:
    """``(full, low)`` dose, each ``[3, row, column]``, of the validation slices; kept in ``folder``, too."""
    pairs = []
    for number, sample in enumerate(track(held_out, "simulating noise for validation")):
        file = folder / f"val{number:03}-{_digest(sample)}.npy"
        if not file.exists():
            np.save(file, low_dose(sample, (VAL_DOSE,), np.random.default_rng((SEED, number)))[0])
        pairs.append((sample.slices, np.load(file)))
    return pairs


def _digest(sample: Sample) -> str:
    """Of the slices: noise of other data in the same folder is another one's."""
    return hashlib.blake2b(np.ascontiguousarray(sample.slices).tobytes(), digest_size=8).hexdigest()


def validate(net: torch.nn.Module, pairs: list[tuple[FloatArray, FloatArray]]) -> float:
    """Mean gain of PSNR in dB over ``(full, low)``; removes the fraction of noise that the lower dose added."""
    gains = []
    with torch.inference_mode():
        for full, low in pairs:
            slices = torch.from_numpy(low)[None]
            level = noise_map(slices[:, 1:2]) * math.sqrt(1 - VAL_DOSE)
            out = low[1] - net(slices, level)[0, 0].numpy()
            gains.append(psnr(out - full[1]) - psnr(low[1] - full[1]))
    return float(np.mean(gains))


def plot(log: Path) -> None:
    """Loss and validation gain beside the log, as PNG."""
    with log.open(newline="") as file:
        rows = [(int(r["step"]), float(r["loss"]), float(r["val_gain_db"])) for r in csv.DictReader(file)]
    steps, loss, gain = zip(*rows, strict=True)
    figure = Figure(figsize=(10, 4))
    axes = figure.subplots(1, 2)
    for axis, values, label in ((axes[0], loss, "training loss"), (axes[1], gain, "validation PSNR gain, dB")):
        axis.plot(steps, values)
        axis.set_xlabel("step")
        axis.set_ylabel(label)
    figure.tight_layout()
    figure.savefig(log.with_suffix(".png"), dpi=100)


class Trainer:
    """Network, its moving average, optimiser and how far they have come: what a checkpoint holds."""

    def __init__(self, out: Path, *, adversarial: bool = False) -> None:
        torch.manual_seed(SEED)
        self.out = out
        self.net = DenoiseNet()
        self.optimiser = torch.optim.AdamW(self.net.parameters(), RATE, weight_decay=1e-4)
        self.average = AveragedModel(self.net, multi_avg_fn=get_ema_multi_avg_fn(DECAY))
        self.opponent = Opponent() if adversarial else None
        self.step, self.best, self.seconds, self.loss, self.since_best = 0, -math.inf, 0.0, 0.0, 0

    def load(self) -> None:
        """Go on from the checkpoint."""
        state = torch.load(self.out / "checkpoint.pt", weights_only=True)
        self.net.load_state_dict(state["net"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.best, self.seconds = state["step"], state["best"], state["seconds"]
        self.loss, self.since_best = state["loss"], state["since_best"]
        if self.opponent:
            self.opponent.load(state["opponent"])

    def save(self) -> None:
        """Write the checkpoint, never a half one."""
        state = {
            "net": self.net.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
            "best": self.best,
            "seconds": self.seconds,
            "loss": self.loss,
            "since_best": self.since_best,
            "opponent": self.opponent.state() if self.opponent else None,
        }
        torch.save(state, self.out / "checkpoint.part")
        (self.out / "checkpoint.part").replace(self.out / "checkpoint.pt")

    def learn(self, patches: list[Patch], factor: float) -> None:
        """One step at ``factor`` of the full learning rate."""
        self.optimiser.param_groups[0]["lr"] = RATE * factor
        self.optimiser.zero_grad(set_to_none=True)
        loss = loss_of(self.net, patches, self.opponent)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
        self.optimiser.step()
        self.average.update_parameters(self.net)
        value = float(loss.detach())
        self.loss = value if self.step == 0 else 0.99 * self.loss + 0.01 * value
        self.step += 1

    def judge(self, pairs: list[tuple[FloatArray, FloatArray]]) -> None:
        """Validate the average; its weights are written when they are the best so far, with an opponent always."""
        gain = validate(self.average.module, pairs)
        with (self.out / "log.csv").open("a") as file:
            file.write(f"{self.step},{self.seconds:.0f},{self.loss:.4f},{gain:.4f}\n")
        plot(self.out / "log.csv")
        self.since_best += 1
        if gain > self.best or self.opponent:
            self.best, self.since_best = gain, 0
            save_weights(self.average.module.state_dict(), self.out / "weights.safetensors")


def train(data: Path, out: Path, minutes: float, *, resume: bool, start: Path | None, adversarial: bool) -> None:
    """Train for ``minutes`` of this process; keeps ``checkpoint.pt``, ``log.csv``, ``log.png`` and the best weights.

    Raises ``DataSetError`` or ``FileNotFoundError`` when ``data`` cannot be trained on; nothing is written then.
    """
    learned, held_out = samples_of(data, "train"), samples_of(data, "val")
    noise = out / "noise"
    noise.mkdir(parents=True, exist_ok=True)
    bank, pairs = noisy_samples(learned, noise), validation_pairs(held_out, noise)
    kinds = [n for n in bank if n.sample.single], [n for n in bank if not n.sample.single]
    pools = [pool for pool in kinds if pool]
    trainer = Trainer(out, adversarial=adversarial)
    if resume:
        trainer.load()
    else:
        (out / "log.csv").write_text("step,seconds,loss,val_gain_db\n")
        if start:
            trainer.net.load_state_dict(load_weights(start).tensors)
            trainer.average.module.load_state_dict(trainer.net.state_dict())
    rng = np.random.default_rng(SEED + trainer.step)
    top = FINE_TUNING if start else 1.0
    budget, began = 60 * minutes, time.process_time() - trainer.seconds
    with Progress(TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn()) as progress:
        task = progress.add_task("training", total=budget)
        while trainer.seconds < budget and trainer.since_best < PATIENCE:
            drawn = [pools[i % len(pools)] for i in range(BATCH)]
            chosen = [pool[int(rng.integers(len(pool)))] for pool in drawn]
            cosine = 0.5 * (1 + math.cos(math.pi * trainer.seconds / budget))
            warm = min(1.0, (trainer.step + 1) / WARM_UP)
            trainer.learn([make_patch(n, rng) for n in chosen], top * warm * cosine)
            trainer.seconds = time.process_time() - began
            status = f"step {trainer.step}, loss {trainer.loss:.3f}, best {trainer.best:.2f} dB"
            progress.update(task, completed=trainer.seconds, description=status)
            if trainer.step % VALIDATE_EVERY == 0 or trainer.seconds >= budget:
                trainer.judge(pairs)
                trainer.save()


def loss_of(net: DenoiseNet, patches: list[Patch], opponent: Opponent | None = None) -> Tensor:
    """The squared error relative to what is achievable at each patch's noise, and what the opponent adds."""
    slices = torch.from_numpy(np.stack([p.slices for p in patches]))
    level = torch.from_numpy(np.stack([p.noise_level[None] for p in patches]))
    residual = torch.from_numpy(np.stack([p.residual[None] for p in patches]))
    root: Tensor = torch.tensor([p.weight for p in patches]).sqrt().view(-1, 1, 1, 1)
    estimate = net(slices, level)
    loss = huber_loss(estimate * root, residual * root, delta=4.0)
    if opponent:
        loss = loss + opponent.penalty(slices[:, 1:2] - residual, slices[:, 1:2] - estimate)
    return loss


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description="Train the CT denoiser on one CPU thread.")
    parser.add_argument("--data", type=Path, required=True, help="data set of nnU-Net v2, or folder with ct_slices/")
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoint, log and weights")
    parser.add_argument("--minutes", type=float, default=50.0, help="CPU minutes; the schedule follows them")
    parser.add_argument("--resume", action="store_true", help="go on from OUT/checkpoint.pt")
    parser.add_argument("--start", type=Path, help="begin with these weights, for example the packaged ones")
    parser.add_argument("--adversarial", action="store_true", help="against a critic; keeps the last weights")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    try:
        train(
            arguments.data,
            arguments.out,
            arguments.minutes,
            resume=arguments.resume,
            start=arguments.start,
            adversarial=arguments.adversarial,
        )
    except (DataSetError, FileNotFoundError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
