"""Train the denoiser: ``python -m pipelines.denoise.train --data DIR --out FOLDER [--minutes M] [--resume]``.

Input: real slices with simulated additional noise; target: the noise that was added. The network is told how strong
that noise is, so at use it can be told how much to remove.
"""

from __future__ import annotations

import argparse
import csv
import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn, track
from torch import Tensor
from torch.nn.functional import avg_pool2d, grid_sample, huber_loss, interpolate

from pipelines.denoise.data import (
    CEILING_HU,
    FLOOR_HU,
    KERNELS,
    REALISATIONS,
    FloatArray,
    Noisy,
    add_noise_fields,
    low_dose,
    samples,
)
from pipelines.denoise.lowdose import noise_fields, with_kernel
from pipelines.denoise.network import DenoiseNet
from pipelines.denoise.noise import noise_map
from pipelines.weights import save_weights

SEED = 20
PATCH, MARGIN, BATCH = 96, 16, 4
LEARNING_RATE, WARM_UP, DECAY = 1.5e-3, 300, 0.999
VALIDATE_EVERY = 400
VAL_DOSE = 0.25


@dataclass(frozen=True, eq=False)
class Patch:
    """One training pair, HU."""

    slices: FloatArray
    noise_level: FloatArray
    residual: FloatArray
    weight: float


def _warped(image: FloatArray, rng: np.random.Generator) -> FloatArray:
    """``image`` ``[row, column]`` smoothly displaced by up to some pixels: the anatomy of a plausible neighbour."""
    size = image.shape[0]
    coarse = torch.from_numpy(rng.normal(0, rng.uniform(0, 3), (1, 2, 4, 4)).astype(np.float32))
    shift = interpolate(coarse, size=(size, size), mode="bicubic", align_corners=True)[0].permute(1, 2, 0)
    axis = torch.linspace(-1, 1, size)
    rows, columns = torch.meshgrid(axis, axis, indexing="ij")
    grid = torch.stack([columns, rows], dim=-1) + shift * (2 / size)
    source = torch.from_numpy(np.ascontiguousarray(image))[None, None]
    return grid_sample(source, grid[None], padding_mode="border", align_corners=True)[0, 0].numpy()


def _block_mean(block_map: FloatArray, y: int, x: int, size: int) -> FloatArray:
    """The part of a map in blocks of 16 that covers a window, interpolated to ``[size, size]``."""
    part = block_map[y // 16 : (y + size) // 16 + 1, x // 16 : (x + size) // 16 + 1]
    full = interpolate(torch.from_numpy(part)[None, None], size=(size, size), mode="bilinear", align_corners=True)
    return full[0, 0].numpy()


def make_patch(noisy: Noisy, rng: np.random.Generator) -> Patch:
    """Crop, add noise of random strength and texture, and say how strong it is."""
    size = PATCH + 2 * MARGIN
    slices = noisy.sample.slices
    own, own_factor = noisy.own_map, 1.0
    halved = rng.random() < 0.3  # half resolution: an anatomy with finer structures and a cleaner target
    scale = 2 if halved else 1
    y, x = (int(rng.integers(0, n - scale * size + 1)) for n in slices.shape[1:])
    clean = slices[:, y : y + scale * size, x : x + scale * size]
    if halved:
        clean = avg_pool2d(torch.from_numpy(np.ascontiguousarray(clean))[None], 2)[0].numpy()
        own_factor = 0.6
    clean = np.ascontiguousarray(clean)
    kernel = noisy.kernel if rng.random() < 0.6 else int(rng.integers(len(KERNELS)))
    cutoff, boost = KERNELS[kernel]
    mix = np.linalg.qr(rng.standard_normal((4, 4)))[0][:3].astype(np.float32)
    crop = noisy.fields[:, y : y + size, x : x + size].astype(np.float32)
    fields = with_kernel(np.tensordot(mix, crop, axes=1), cutoff * rng.uniform(0.93, 1.07), boost)
    level = _block_mean(noisy.field_maps[kernel], y, x, size)
    target_level = own_factor * float(own[y // 16 : (y + size) // 16 + 1, x // 16 : (x + size) // 16 + 1].mean())
    choice = rng.random()
    if choice < 0.08:
        added = 0.0
    elif choice < 0.75:
        added = target_level * math.sqrt(1 / math.exp(rng.uniform(math.log(0.07), math.log(0.95))) - 1)
    else:
        added = rng.uniform(2, 110)
    factor = np.float32(added / max(float(level.mean()), 1e-3))
    fields, level = fields * factor, level * factor
    if noisy.sample.single:
        if rng.random() < 0.5:
            fields[:] = fields[1]  # what happens at the ends of a series and for single images
        else:
            clean[0], clean[2] = _warped(clean[1], rng), _warped(clean[1], rng)
    dosed = np.clip(clean + fields, FLOOR_HU, CEILING_HU)
    inner = np.s_[..., MARGIN:-MARGIN, MARGIN:-MARGIN]
    stack, level, residual = dosed[inner], level[inner], (dosed - clean)[1][inner]
    if rng.random() < 0.5:
        stack = stack[::-1]
    turns, flip = int(rng.integers(4)), bool(rng.integers(2))
    stack, level, residual = (
        np.rot90(a[..., ::-1] if flip else a, turns, axes=(-2, -1)).copy() for a in (stack, level, residual)
    )
    level *= np.float32(math.exp(rng.normal(0, 0.1)))  # the map is an estimate at use, too
    expected = target_level**2 * added**2 / (target_level**2 + added**2 + 1e-6)
    return Patch(stack, level, residual, 1 / (expected + 4.0))


def psnr(error: FloatArray) -> float:
    """PSNR in dB for a range of 4095 HU (12 bit)."""
    return 20 * math.log10(4095 / math.sqrt(float(np.square(error, dtype=np.float64).mean())))


def noisy_samples(data: Path, out: Path) -> list[Noisy]:
    """Training slices with their noise fields, simulated once and kept in ``out/noise``: minutes of work."""
    folder = out / "noise"
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(SEED)
    bank = []
    for number, sample in enumerate(track(samples(data, "train"), "simulating noise for training")):
        file = folder / f"{number:03}.npz"
        photons = float(np.exp(rng.uniform(np.log(2e4), np.log(2e5))))
        if not file.exists():
            seeded = np.random.default_rng((SEED, number))
            fields = noise_fields(sample.slices[1], sample.spacing_mm, REALISATIONS, seeded).at(photons)
            made = add_noise_fields(sample, fields)
            np.savez(file, fields=made.fields, field_maps=made.field_maps, own_map=made.own_map, kernel=made.kernel)
        with np.load(file) as kept:
            bank.append(Noisy(sample, kept["fields"], kept["field_maps"], kept["own_map"], int(kept["kernel"])))
    return bank


def validation_pairs(data: Path, out: Path) -> list[tuple[FloatArray, FloatArray]]:
    """``(full, low)`` dose, each ``[3, row, column]``, of the validation slices; kept in ``out/noise``, too."""
    pairs = []
    for number, sample in enumerate(track(samples(data, "val"), "simulating noise for validation")):
        file = out / "noise" / f"val{number:03}.npy"
        if not file.exists():
            np.save(file, low_dose(sample, (VAL_DOSE,), np.random.default_rng((SEED, number)))[0])
        pairs.append((sample.slices, np.load(file)))
    return pairs


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
    """Loss and validation gain beside the log, as PNG, when matplotlib is installed."""
    try:
        import matplotlib.pyplot as plt
    except ImportError:
        return
    with log.open(newline="") as file:
        rows = [(int(r["step"]), float(r["loss"]), float(r["val_gain_db"])) for r in csv.DictReader(file)]
    steps, loss, gain = zip(*rows, strict=True)
    figure, axes = plt.subplots(1, 2, figsize=(10, 4))
    for axis, values, label in ((axes[0], loss, "training loss"), (axes[1], gain, "validation PSNR gain, dB")):
        axis.plot(steps, values)
        axis.set_xlabel("step")
        axis.set_ylabel(label)
    figure.tight_layout()
    figure.savefig(log.with_suffix(".png"), dpi=100)
    plt.close(figure)


def train(data: Path, out: Path, minutes: float, *, resume: bool) -> None:
    """Train for ``minutes``; keeps ``checkpoint.pt``, ``log.csv``, ``log.png`` and the best ``weights.safetensors``."""
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(SEED)
    rng = np.random.default_rng(SEED)
    bank = noisy_samples(data, out)
    pairs = validation_pairs(data, out)
    single = [n for n in bank if n.sample.single]
    stacked = [n for n in bank if not n.sample.single]
    net = DenoiseNet()
    average = torch.optim.swa_utils.AveragedModel(net, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(DECAY))
    optimiser = torch.optim.AdamW(net.parameters(), lr=LEARNING_RATE, weight_decay=1e-4)
    step, best, spent, running = 0, -math.inf, 0.0, 0.0
    if resume:
        state = torch.load(out / "checkpoint.pt", weights_only=True)
        net.load_state_dict(state["net"])
        average.load_state_dict(state["average"])
        optimiser.load_state_dict(state["optimiser"])
        step, best, spent = state["step"], state["best"], state["spent"]
        rng = np.random.default_rng(SEED + step)
    log = out / "log.csv"
    if not resume:
        log.write_text("step,seconds,loss,val_gain_db\n")
    began = time.monotonic() - spent
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns) as progress:
        task = progress.add_task("training", total=60 * minutes)
        elapsed = time.monotonic() - began
        while elapsed < 60 * minutes:
            fraction = elapsed / (60 * minutes)
            rate = (
                LEARNING_RATE * min(1.0, (step + 1) / WARM_UP) * (0.02 + 0.98 * math.cos(fraction * math.pi / 2) ** 2)
            )
            for group in optimiser.param_groups:
                group["lr"] = rate
            pools = (single, stacked)
            chosen = [pools[i % 2][int(rng.integers(len(pools[i % 2])))] for i in range(BATCH)]
            loss = train_step(net, optimiser, [make_patch(n, rng) for n in chosen])
            average.update_parameters(net)
            running = loss if step == 0 else 0.99 * running + 0.01 * loss
            step += 1
            progress.update(task, completed=elapsed, description=f"step {step}, loss {running:.3f}, best {best:.2f} dB")
            elapsed = time.monotonic() - began
            if step % VALIDATE_EVERY == 0 or elapsed >= 60 * minutes:
                gain = validate(average.module, pairs)
                with log.open("a") as file:
                    file.write(f"{step},{elapsed:.0f},{running:.4f},{gain:.4f}\n")
                plot(log)
                if gain > best:
                    best = gain
                    save_weights(average.module.state_dict(), out / "weights.safetensors")
                state = {"net": net.state_dict(), "average": average.state_dict(), "optimiser": optimiser.state_dict()}
                torch.save(state | {"step": step, "best": best, "spent": elapsed}, out / "checkpoint.pt")


def train_step(net: DenoiseNet, optimiser: torch.optim.Optimizer, patches: list[Patch]) -> float:
    """One optimiser step; the loss is the squared error relative to what is achievable at each patch's noise."""
    slices = torch.from_numpy(np.stack([p.slices for p in patches]))
    level = torch.from_numpy(np.stack([p.noise_level[None] for p in patches]))
    residual = torch.from_numpy(np.stack([p.residual[None] for p in patches]))
    root: Tensor = torch.tensor([p.weight for p in patches]).sqrt().view(-1, 1, 1, 1)
    loss = huber_loss(net(slices, level) * root, residual * root, delta=4.0)
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
    optimiser.step()
    return float(loss.detach())


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description="Train the CT denoiser on one CPU thread.")
    parser.add_argument("--data", type=Path, required=True, help="data folder with ct_slices and studies")
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoint, log and weights")
    parser.add_argument("--minutes", type=float, default=50.0, help="wall-clock budget of the training loop")
    parser.add_argument("--resume", action="store_true", help="go on from OUT/checkpoint.pt")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    train(arguments.data, arguments.out, arguments.minutes, resume=arguments.resume)


if __name__ == "__main__":
    main()
