"""Train embeddings: ``python -m pipelines.nodule.training.embedding --data DIR --out FOLDER [--split test]``.

Three backbones: the packaged classifier as it is, and two copies of it that go on with nodules alone, by cross-entropy
with the malignancy that readers stated and supervised contrast (Khosla et al., NeurIPS 2020) of malignant and benign
ones. Then heads on their features and the size, with the same losses. A backbone that is in ``--out`` is not trained.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows
from rich.console import Console
from rich.progress import track
from torch import Tensor, nn

from pipelines.nodule.embedding import DIMENSIONS, FEATURES, HEADS, EmbeddingNet, head, scaled
from pipelines.nodule.network import ClassifierNet
from pipelines.nodule.pipeline import WEIGHTS
from pipelines.nodule.search import part_of
from pipelines.nodule.training.classifier_examples import turned_views
from pipelines.nodule.training.embedding_examples import Nodules, features_of, nodules
from pipelines.nodule.training.embedding_figures import precisions, summary, within_strata
from pipelines.weights import load_weights, save_weights

SHARES = {1: 0.38, 0: 0.38, -1: 0.24}
"""How often each kind of nodule is drawn for a backbone."""
BATCH, HIDDEN = 48, 64
SIZE_JITTER = 0.15
"""Standard deviation of the logarithm of diameters, for a backbone."""
BACKBONE_RATE, HEAD_RATE, HEAD_BATCH = 1e-3, 3e-3, 128
TEMPERATURE, SHARPNESS = 0.1, 4.0


class _BackboneEmbedding(nn.Module):
    """What a backbone is trained under: an embedding of its features and the size, and its malignancy."""

    def __init__(self, backbone: ClassifierNet) -> None:
        super().__init__()
        self.backbone = backbone
        self.hidden = nn.Sequential(nn.Dropout(0.3), nn.Linear(FEATURES + 1, HIDDEN), nn.ReLU())
        self.out = nn.Linear(HIDDEN, 32)
        self.malignant = nn.Linear(32, 1)

    def forward(self, views: Tensor, size: Tensor) -> Tensor:
        features = torch.cat([self.backbone.features(views), size[:, None]], 1)
        return F.normalize(self.out(self.hidden(features)), dim=1)


def contrast(embedding: Tensor, kinds: Tensor) -> Tensor:
    """Supervised contrast of unit vectors: those of one kind should be near to one another."""
    alike = embedding @ embedding.T / TEMPERATURE - 1e9 * torch.eye(len(embedding))
    chance = alike - alike.logsumexp(1, keepdim=True)
    same = (kinds[:, None] == kinds[None]).float() * (1 - torch.eye(len(kinds)))
    return -((same * chance).sum(1) / same.sum(1).clamp(min=1)).mean()


def train_backbone(of: Nodules, tensors: dict[str, Tensor], seed: int, steps: int) -> ClassifierNet:
    """A copy of the classifier that has gone on with nodules alone."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    guide = _BackboneEmbedding(ClassifierNet())
    guide.backbone.load_state_dict(tensors)
    optimizer = torch.optim.AdamW(guide.parameters(), lr=BACKBONE_RATE, weight_decay=1e-2)
    kinds = of.kinds
    chance = np.array([SHARES[kind] / (kinds == kind).sum() for kind in kinds.tolist()])
    count = torch.bincount(of.owner).numpy()
    first = np.r_[0, np.cumsum(count)[:-1]]
    average = {k: v.clone() for k, v in guide.state_dict().items()}
    for step in track(range(steps), f"backbone {seed}", console=Console(stderr=True)):
        _set_rate(optimizer, BACKBONE_RATE, step, steps)
        rows = rng.choice(len(kinds), BATCH, p=chance)
        picked = first[rows] + (rng.random(BATCH) * count[rows]).astype(int)
        views = turned_views(rng, of.planes[torch.from_numpy(picked)])
        size = scaled(of.diameter_mm[rows] * torch.from_numpy(np.exp(rng.normal(0, SIZE_JITTER, BATCH))).float())
        guide.train()
        _learn(optimizer, guide, _loss(guide(views, size), guide.malignant, of.malignancy[rows], kinds[rows]))
        keep = min(0.99, (step + 1) / (step + 20))
        for key, value in guide.state_dict().items():
            average[key] = average[key] * keep + value * (1 - keep) if value.is_floating_point() else value.clone()
    guide.load_state_dict(average)
    return guide.backbone.eval()


def train_head(features: Tensor, of: Nodules, seed: int, steps: int) -> nn.Sequential:
    """A head on ``features`` (normalised) and the size, for malignant and benign nodules."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    embedding_head, malignant, kinds = head(features.shape[1]), nn.Linear(DIMENSIONS, 1), of.kinds
    both = nn.ModuleList([embedding_head, malignant])
    optimizer = torch.optim.AdamW(both.parameters(), lr=HEAD_RATE, weight_decay=0.0)
    chance = np.array([0.5 / (kinds == kind).sum() if kind >= 0 else 0.0 for kind in kinds.tolist()])
    x = torch.cat([features, scaled(of.diameter_mm)[:, None]], 1)
    for step in range(steps):
        _set_rate(optimizer, HEAD_RATE, step, steps)
        rows = rng.choice(len(kinds), HEAD_BATCH, p=chance)
        _learn(
            optimizer,
            both,
            _loss(F.normalize(embedding_head(x[rows]), dim=1), malignant, of.malignancy[rows], kinds[rows]),
        )
    return embedding_head.eval()


def _loss(embedding: Tensor, malignant: nn.Linear, scores: Any, kinds: Any) -> Tensor:
    """Cross-entropy with the kind, or with the score of a nodule that is neither, and the contrast of the kinds."""
    target = torch.from_numpy(np.where(kinds >= 0, kinds, (scores - 1) / 4)).float()
    malignancy_loss = F.binary_cross_entropy_with_logits(malignant(SHARPNESS * embedding)[:, 0], target)
    known = torch.from_numpy(kinds >= 0)
    return malignancy_loss + contrast(embedding[known], torch.from_numpy(kinds)[known])


def _learn(optimizer: torch.optim.Optimizer, network: nn.Module, loss: Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(network.parameters(), 5.0)
    optimizer.step()


def _set_rate(optimizer: torch.optim.Optimizer, rate: float, step: int, steps: int) -> None:
    """Warm-up of 50 steps, then a cosine."""
    for group in optimizer.param_groups:
        group["lr"] = rate * min(1.0, (step + 1) / 50) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / steps)))


def figures(network: EmbeddingNet, gallery: Nodules, query: Nodules) -> dict[str, Any]:
    """Figures of MODEL_CARD.md: the gallery is of the training patients, or of the queries' own split."""
    vectors, kinds, diameters = {}, {}, {}
    for name, of in (("gallery", gallery), ("query", query)):
        known = of.kinds >= 0
        with torch.inference_mode():
            vectors[name] = network(features_of(network, of), of.diameter_mm).numpy()[known]
        kinds[name], diameters[name] = of.kinds[known], of.diameter_mm.numpy()[known]
    sizes = {name: np.log(values)[:, None] for name, values in diameters.items()}
    patients = query.patients[query.kinds >= 0]
    result: dict[str, Any] = {}
    for name, by in (("embedding", vectors), ("size alone", sizes)):
        own = kinds["query"]
        result[name] = {
            "gallery of training patients": summary(
                precisions(by["query"], by["gallery"], (own, kinds["gallery"])), own, patients
            ),
            "gallery of patients not trained on": summary(
                precisions(by["query"], by["query"], (own, own), is_self=True), own, patients
            ),
            "within strata of size": within_strata(
                (by["query"], own, diameters["query"]), (by["gallery"], kinds["gallery"], diameters["gallery"])
            ),
        }
    return result


@click.command()
@click.option("--data", type=click.Path(path_type=Path, exists=True), required=True, help="the data folder")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="backbones, weights and figures go here")
@click.option("--split", type=click.Choice(["val", "test"]), default="val", show_default=True, help="of the queries")
@click.option("--steps", default=500, show_default=True, help="of each backbone")
@click.option("--head-steps", default=400, show_default=True)
@click.option("--figures-only", is_flag=True, help="evaluate the weights in --out")
def main(*, data: Path, out: Path, split: str, steps: int, head_steps: int, figures_only: bool) -> None:
    """Train, write ``embedding.safetensors`` and print the figures as JSON."""
    torch.set_num_threads(1)
    try:
        gallery, path = nodules(data, "train"), out / "embedding.safetensors"
    except FileNotFoundError as error:
        raise click.UsageError(str(error)) from error
    out.mkdir(parents=True, exist_ok=True)
    if not figures_only:
        save_weights(trained(gallery, out, steps, head_steps).state_dict(), path)
    network, stored = EmbeddingNet().eval(), load_weights(path)  # as they are stored, in float16
    network.load_state_dict(stored.tensors)
    result = figures(network, gallery, nodules(data, split)) | {"split": split, "sha256": stored.sha256}
    text = json.dumps(result, indent=1)
    (out / f"embedding-{split}.json").write_text(text)
    click.echo(text)


def trained(gallery: Nodules, out: Path, steps: int, head_steps: int) -> EmbeddingNet:
    """Backbones, of which those in ``out`` are taken from there, and heads."""
    packaged = part_of(load_weights(WEIGHTS).tensors, "classifier")
    network = EmbeddingNet()
    for number, backbone in enumerate(network.backbones):
        checkpoint = out / f"backbone-{number}.safetensors"
        if number and not checkpoint.is_file():
            save_weights(train_backbone(gallery, packaged, number, steps).state_dict(), checkpoint)
        backbone.load_state_dict(load_weights(checkpoint).tensors if number else packaged)
    network.eval()
    seen = features_of(network, gallery)
    network.mean.data, network.deviation.data = seen.mean(0), seen.std(0) + 1e-4
    normalised = (seen - network.mean.data) / network.deviation.data
    for seed in range(HEADS):
        network.heads[seed] = train_head(normalised, gallery, seed, head_steps)
    return network


if __name__ == "__main__":
    main()
