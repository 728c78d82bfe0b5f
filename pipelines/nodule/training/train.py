"""Train: ``python -m pipelines.nodule.training.train --data DIR --out FOLDER [--part P] [--minutes M] [--resume]``.

DIR is the data folder of the project, or a data set of verified cases, such as ``ainode export`` writes, with which
existing weights are fine-tuned (``fine_tuning``).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import click
import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor

from pipelines.nnunet_data_set import DataSetError, is_data_set
from pipelines.nodule.candidates import crop_lungs
from pipelines.nodule.classify import classify
from pipelines.nodule.lungs import find_lungs
from pipelines.nodule.network import CandidateNet, scale_hu
from pipelines.nodule.search import Networks, candidates, part_of
from pipelines.nodule.training.classifier_examples import (
    SHARES,
    from_scan,
    from_slices,
    from_stack,
)
from pipelines.nodule.training.crop_networks import classifier_on, outline_on
from pipelines.nodule.training.data import candidate_loss, cube_batches
from pipelines.nodule.training.fine_tuning import KEPT_START, tuned_parts
from pipelines.nodule.training.hard_negatives import HARD_SHARES, from_candidates, from_crops
from pipelines.nodule.training.lookalikes import from_lookalikes
from pipelines.nodule.training.network_training import SEED, Part, draw, fit
from pipelines.nodule.training.patches import nodule_bank, stacks
from pipelines.nodule.training.planting import plant, site
from pipelines.nodule.training.scans import TRAINING_SCANS, backgrounds, bright_spots
from pipelines.nodule.weighing import fit_weighing
from pipelines.weights import load_weights, save_weights

CANDIDATE_BATCH = 2
PASTED, INSERTED = 250, 400
"""Real nodules, and insertions into each scan, among the classifier's examples."""
LOOKALIKES = 300
"""Negatives that are planted in each scan."""
NEEDS_START = "{} needs the weights to start from: give --begin-with"
NETWORKS = ("candidate", "outline", "classifier")
VALIDATION_BATCHES = 16
PLANTED = 24
"""Nodules of validation patients planted in each training scan for the weighing."""
WEIGHED = 40
"""Of each such scan's candidates those that the classifier likes best."""


def candidate_part(data: Path, steps: int, device: str, scans: tuple[str, ...]) -> Part:
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
        device=device,
    )


def outline_part(data: Path, steps: int, device: str, *, attention: bool = False) -> Part:
    """The outline network, on crops of ``lidc_patches`` (split by patient)."""
    held_back = [s for s in stacks(data, "val") if s.raters >= 3]
    learned = stacks(data, "train")
    return outline_on(
        learned, held_back, validations=VALIDATION_BATCHES, steps=steps, device=device, attention=attention
    )


def classifier_part(
    data: Path, steps: int, device: str, scans: tuple[str, ...], mining: Networks | None = None
) -> Part:
    """The classifier, on crops, scans and slices; validation on other patients' crops and slices.

    ``mining``: the networks whose mistakes are examples too (``hard_negatives``), besides planted ``lookalikes``.
    """
    rng = np.random.default_rng(SEED)
    learned, held_back = stacks(data, "train"), stacks(data, "val")
    firm = [s for s in learned if s.raters >= 3]
    bank = nodule_bank([firm[i] for i in rng.permutation(len(firm))[:PASTED]])
    examples = [e for s in learned for e in from_stack(rng, s)] + list(from_slices(rng, data, "train"))
    for ground in backgrounds(data, scans, (1.0,)):
        examples += from_scan(rng, ground, bank, bright_spots(ground), INSERTED)
        if mining is not None:
            examples += [*from_candidates(rng, mining, ground), *from_lookalikes(rng, ground, LOOKALIKES)]
    if mining is not None:
        examples += [*from_crops(rng, mining.classifier, learned), *from_slices(rng, data, "train", wide=True)]
    shares = SHARES if mining is None else HARD_SHARES
    other = [e for s in held_back for e in from_stack(rng, s)] + list(from_slices(rng, data, "val"))
    return classifier_on(examples, other, shares=shares, validations=VALIDATION_BATCHES, steps=steps, device=device)


def weighing_tensor(
    data: Path,
    tensors: dict[str, Tensor],
    out: Path,
    device: str,
    scans: tuple[str, ...],
    *,
    without: Mapping[str, Path],
) -> Tensor:
    """``Weighing`` fitted on nodules of validation patients planted in the training scans.

    ``without``: study -> weights whose classifier was trained without it. With them each scan is judged by a classifier
    that does not know it; one that does is surer of its vessels than of those of the next patient.
    """
    networks = Networks.of(tensors | {"weighing.values": torch.zeros(3)}, out, device)
    strangers = {study: Networks.of(load_weights(path).tensors, path, device) for study, path in without.items()}
    bank = nodule_bank(stacks(data, "val"))
    rng = np.random.default_rng(SEED)
    seen: list[tuple[float, float]] = []
    nodules: list[bool] = []
    for scan in track(scans, "weighing", console=Console(stderr=True)):
        where = site(data, scan)
        hu, placed = plant(rng, where, [bank[i] for i in rng.permutation(len(bank))[:PLANTED]])
        lungs = find_lungs(hu, where.spacing)
        if lungs is None:
            raise ValueError(f"no lung in {scan}; choose other scans")
        crop = crop_lungs(hu, where.spacing, lungs)
        proposed = candidates(networks.heat(crop), crop, where.spacing)
        judge = strangers.get(scan.split("/")[0], networks)
        verdicts = classify(judge.classifier, hu, where.spacing, proposed, device)
        for i in np.argsort([-v.nodule for v in verdicts])[:WEIGHED]:
            place = np.array(proposed[i].centre) * where.spacing
            if not any(lesion.hit(place) for lesion in where.own):
                seen.append((verdicts[i].nodule, proposed[i].bulge_hu))
                nodules.append(any(lesion.hit(place) for lesion in placed))
    weighing = fit_weighing(seen, np.array(nodules))
    print(f"{sum(nodules)} of {len(seen)} candidates are planted nodules: {weighing}")
    return torch.tensor([weighing.verdict, weighing.bulge, weighing.base])


@click.command()
@click.option("--data", type=click.Path(path_type=Path, exists=True), required=True, help="data folder or data set")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="checkpoints, curves and weights go here")
@click.option("--minutes", type=float, default=60.0, show_default=True, help="at most, per network")
@click.option("--candidate-steps", default=3600, show_default=True)
@click.option("--outline-steps", default=2400, show_default=True)
@click.option("--classifier-steps", default=3000, show_default=True)
@click.option("--part", type=click.Choice([*NETWORKS, "weighing", "all"]), default="all", show_default=True)
@click.option(
    "--scan", "scans", multiple=True, help="background series under studies/ (repeat; default: all but the held-out)"
)
@click.option("--device", default="cpu", show_default=True, help="cpu, or cuda:0 and so on")
@click.option("--begin-with", type=click.Path(path_type=Path, exists=True), help="weights to start from, not chance")
@click.option("--rate", type=float, help="highest learning rate (default: 0.002; with verified cases 0.0002)")
@click.option("--hard-negatives", is_flag=True, help="classifier: mistakes of --begin-with, planted lookalikes")
@click.option(
    "--keep-start",
    type=float,
    help="share of --begin-with in the mean of both sets of weights (default: 0; with verified cases 0.5)",
)
@click.option(
    "--without",
    type=(str, click.Path(path_type=Path, exists=True)),
    multiple=True,
    help="weighing: a study, and weights trained without it (repeat)",
)
@click.option("--attention", is_flag=True, help="outline: attention gates, only to compare; no weights are written")
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
    device: str,
    begin_with: Path | None,
    rate: float | None,
    hard_negatives: bool,
    keep_start: float | None,
    without: tuple[tuple[str, Path], ...],
    attention: bool,
    resume: bool,
) -> None:
    """Train, then write ``weights.safetensors``; parts without a checkpoint in --out come from --begin-with."""
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    scans = scans or TRAINING_SCANS
    check_options(part, begin_with, needs_start=bool(hard_negatives or keep_start), attention=attention)
    try:
        is_verified = is_data_set(data, "lidc_patches/index.csv")
        if begin_with is None and is_verified:
            raise click.UsageError(NEEDS_START.format("a data set of verified cases"))
        if is_verified and begin_with is not None:
            share = KEPT_START if keep_start is None else keep_start
            fine_tune(data, out, begin_with, part, minutes=minutes, device=device, rate=rate, kept=share, resume=resume)
            return
        out.mkdir(parents=True, exist_ok=True)
        start = load_weights(begin_with).tensors if begin_with else {}
        mining = Networks.of(start, begin_with, device) if hard_negatives and begin_with else None
        makers = {
            "candidate": lambda: candidate_part(data, candidate_steps, device, scans),
            "outline": lambda: outline_part(data, outline_steps, device, attention=attention),
            "classifier": lambda: classifier_part(data, classifier_steps, device, scans, mining),
        }
        parts = []
        for name in makers if part == "all" else [n for n in NETWORKS if n == part]:
            parts.append(makers[name]())
            if start:
                parts[-1].begin_with(part_of(start, name))
            parts[-1].rate = rate or parts[-1].rate
            fit(parts[-1], out, minutes, resume=resume)
        if parts:
            draw(parts, out / f"{part}.png")
        if attention:
            print("no weights written: the network with gates only serves to compare curves")
            return
        tensors = start | {
            name: mean_of(start.get(name), value, keep_start or 0.0) for name, value in trained(out).items()
        }
        missing = [n for n in NETWORKS if not part_of(tensors, n)]
        if missing:
            print(f"no weights written yet: train {', '.join(missing)} too, or give --begin-with")
            return
        if part in ("weighing", "all") or "weighing.values" not in tensors:
            tensors["weighing.values"] = weighing_tensor(data, tensors, out, device, scans, without=dict(without))
        print(f"{out}: SHA-256 {save_weights(tensors, out / 'weights.safetensors')}")
    except (DataSetError, FileNotFoundError) as error:
        raise click.UsageError(str(error)) from error


def check_options(part: str, begin_with: Path | None, *, needs_start: bool, attention: bool) -> None:
    """Refuse options that do not go together."""
    if begin_with is None and needs_start:
        raise click.UsageError(NEEDS_START.format("--hard-negatives or --keep-start"))
    if attention and (part != "outline" or begin_with is not None):
        raise click.UsageError("--attention compares outline networks that begin from chance: give --part outline")


def fine_tune(
    data: Path,
    out: Path,
    begin_with: Path,
    part: str,
    *,
    minutes: float,
    device: str,
    rate: float | None,
    kept: float,
    resume: bool,
) -> None:
    """Fine-tune with verified cases, then write ``weights.safetensors``; what is not tuned stays as it was."""
    start = load_weights(begin_with).tensors
    parts = tuned_parts(data, Networks.of(start, begin_with, device), part, device)
    out.mkdir(parents=True, exist_ok=True)
    for tuned_part in parts:
        tuned_part.begin_with(part_of(start, tuned_part.name))
        tuned_part.rate = rate or tuned_part.rate
        tuned_part.validate(float("nan"))
        first = tuned_part.best
        fit(tuned_part, out, minutes, resume=resume)
        print(f"{tuned_part.name}: loss on val {first:.4f} before, {tuned_part.best:.4f} after {tuned_part.done} steps")
    draw(parts, out / f"{part}.png")
    tuned = {name: mean_of(start.get(name), value, kept) for name, value in trained(out).items()}
    print(f"{out}: SHA-256 {save_weights(start | tuned, out / 'weights.safetensors')}")


def mean_of(start: Tensor | None, value: Tensor, share: float) -> Tensor:
    """``share`` of ``start`` and the rest of ``value``: between two sets of weights of which one came from the other.

    Wortsman et al., "Robust fine-tuning of zero-shot models" (CVPR 2022): better on scans of other origin than either.
    """
    if start is None or not value.is_floating_point():
        return value
    return start.to(value) * share + value * (1 - share)


def trained(out: Path) -> dict[str, Tensor]:
    """The best tensors of all checkpoints in ``out``."""
    tensors: dict[str, Tensor] = {}
    for name in NETWORKS:
        if (out / f"{name}.ckpt").is_file():
            best = torch.load(out / f"{name}.ckpt", weights_only=True, map_location="cpu")["best_tensors"]
            tensors |= {f"{name}.{key}": value for key, value in best.items()}
    return tensors


if __name__ == "__main__":
    main()
