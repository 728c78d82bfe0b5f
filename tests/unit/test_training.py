"""Training: the augmentation, the pairs, and that a run can be stopped and taken up again."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipelines.denoise.noise import gaussian
from pipelines.denoise.training.adversarial import Opponent, log_power, texture
from pipelines.denoise.training.data import Noisy, Sample, add_noise_fields
from pipelines.denoise.training.patches import make_patch
from pipelines.denoise.training.train import Trainer as DenoiseTrainer
from pipelines.nodule.network import OutlineNet
from pipelines.nodule.training.attention import AttentionOutlineNet
from pipelines.tumor.network import FlairNet
from pipelines.tumor.training import data as tumor_data
from pipelines.tumor.training import train as tumor_train
from pipelines.tumor.training.attention import AttentionFlairNet
from pipelines.tumor.training.data import CROP, TILE, Patient, Sampler
from pipelines.tumor.training.gallery import draw
from pipelines.tumor.training.train import Trainer, rate_factor, train
from pipelines.weights import load_weights


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def patients() -> list[Patient]:
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:TILE, :TILE]
    made = []
    for number, x in enumerate((100, 156)):
        image = np.where(np.hypot(rows - 128, (columns - 128) * 1.2) < 90, 80, 0) + np.zeros((12, 1, 1))
        mask = np.zeros(image.shape, bool)
        mask[4:8] = np.hypot(rows - 120, columns - x) < 18
        image[mask] = 190
        noisy = np.clip(image + rng.normal(0, 2, image.shape), 0, 255).astype(np.uint8)
        made.append(Patient(f"p{number}", noisy, mask, 80.0))
    return made


def test_an_implanted_tumour_lies_in_the_head_and_is_marked(monkeypatch):
    monkeypatch.setattr(tumor_data, "IMPLANT_SHARE", 1.0)
    sampler = Sampler(patients(), batch=4, with_tumour=1.0, seed=3)
    image = torch.zeros(4, 5, CROP, CROP)
    mask = torch.zeros(4, 1, CROP, CROP)
    for k in range(3):
        image[k, :, 30:160, 30:160] = 1.0
    for k, (y, x) in enumerate(((50, 50), (100, 110), (60, 120))):
        mask[k, 0, y : y + 20, x : x + 20] = 1
        image[k, :, y : y + 20, x : x + 20] = 2.5
    mixed, marked = sampler._implant(image, mask)
    assert torch.equal(marked[1], torch.maximum(mask[0], mask[1]))
    assert mixed[1, :, 55:65, 55:65].min() == 2.5
    assert not mixed[3].any()  # no head, so nothing goes there


def test_a_faint_tumour_comes_nearer_to_brain_and_brain_stays_as_it_is(monkeypatch):
    monkeypatch.setattr(tumor_data, "FAINT_SHARE", 1.0)
    image, mask = torch.full((4, 5, CROP, CROP), 0.8), torch.zeros(4, 1, CROP, CROP)
    image[:, :, 50:90, 50:90], mask[:, :, 50:90, 50:90] = 2.5, 1
    faint = Sampler(patients(), batch=4, with_tumour=1.0, seed=3)._faint(image, mask)
    assert ((faint[:, :, 55:85, 55:85] > 1.5) & (faint[:, :, 55:85, 55:85] < 2.5)).all()
    assert torch.equal(faint[:, :, :, :48], image[:, :, :, :48])


def test_samples_keep_shape_range_and_share_of_tumour():
    image, mask = next(iter(Sampler(patients(), batch=4, with_tumour=0.5, seed=4)))
    assert image.shape == (4, 5, CROP, CROP)
    assert mask.shape == (4, 1, CROP, CROP)
    assert float(image.min()) >= 0
    assert mask[:2].flatten(1).any(dim=1).all()
    assert set(mask.unique().tolist()) <= {0.0, 1.0}


def test_the_learning_rate_rises_then_falls_to_zero():
    rates = [rate_factor(x) for x in (0.0, 0.03, 0.3, 0.6, 1.0)]
    assert rates[0] < rates[1] == 1.0
    assert all(a > b for a, b in pairwise(rates[1:]))
    assert rates[-1] == pytest.approx(0)


@pytest.mark.thorough
def test_tumour_training_goes_on_from_its_checkpoint(tmp_path: Path):
    samples = iter(Sampler(patients(), batch=2, with_tumour=0.5, seed=5))
    trainer = Trainer(tmp_path, seed=1, device="cpu")
    trainer.step(*next(samples), 1e-3)
    trainer.judge(patients()[:1])
    trainer.save()
    again = Trainer(tmp_path, seed=2, device="cpu")
    again.load()
    assert again.state == trainer.state
    batch = next(samples)
    for t in (trainer, again):
        torch.manual_seed(6)  # of the dropout
        t.step(*batch, 1e-3)
    assert again.state.losses == trainer.state.losses
    fresh = Trainer(tmp_path, seed=3, device="cpu")
    fresh.begin_with(load_weights(tmp_path / "weights.safetensors").tensors)
    assert torch.equal(fresh.network.head.bias, load_weights(tmp_path / "weights.safetensors").tensors["head.bias"])


@pytest.mark.thorough
def test_a_refit_learns_from_the_validation_patients_too_and_keeps_its_last_weights(tmp_path: Path, monkeypatch):
    of_split = dict(zip(("train", "val"), patients(), strict=True))
    learned: list[str] = []

    def watched(cases: list[Patient], **settings: Any) -> Sampler:
        learned.extend(patient.name for patient in cases)
        return Sampler(cases, **settings)

    monkeypatch.setattr(tumor_train, "patients_of", lambda _data, split: [of_split[split]])
    monkeypatch.setattr(tumor_train, "Sampler", watched)
    train(tmp_path, tmp_path, 1e-4, resume=False, start=None, refit=True, seed=1, device="cpu")
    assert learned == ["p0", "p1"]
    history = json.loads((tmp_path / "history.json").read_text())
    assert (history["step"], history["validations"]) == (1, [])
    assert load_weights(tmp_path / "weights.safetensors").tensors


def test_the_gallery_begins_with_the_worst_patient(tmp_path: Path):
    both = patients()
    written = draw(both, [both[0].mask, np.roll(both[1].mask, 20, axis=2)], [1.0, 0.2], tmp_path / "gallery")
    assert [p.name for p in written] == ["01_p1.png", "02_p0.png"]
    assert all(p.read_bytes().startswith(b"\x89PNG") for p in written)


def noisy() -> Noisy:
    rng = np.random.default_rng(7)
    plain = np.full((3, 272, 272), 40.0, np.float32) + rng.normal(0, 8, (3, 272, 272)).astype(np.float32)
    fields = rng.normal(0, 20, (4, 272, 272)).astype(np.float32)
    return add_noise_fields(Sample("s", "scanner", plain, 0.7), fields)


def test_a_training_pair_holds_the_noise_that_was_added():
    source, rng = noisy(), np.random.default_rng(8)
    for _ in range(20):
        patch = make_patch(source, rng)
        assert patch.slices.shape == (3, 96, 96)
        clean = patch.slices[1] - patch.residual
        assert clean.std() < 12  # the sample's own noise, or less at half resolution
        assert patch.residual.std() == pytest.approx(patch.noise_level.mean(), rel=0.6, abs=2)


@pytest.mark.thorough
def test_denoise_training_goes_on_from_its_checkpoint(tmp_path: Path):
    source, rng = noisy(), np.random.default_rng(9)
    (tmp_path / "log.csv").write_text("step,seconds,loss,val_gain_db\n")
    trainer = DenoiseTrainer(tmp_path)
    trainer.learn([make_patch(source, rng)], 0.5)
    trainer.save()
    again = DenoiseTrainer(tmp_path)
    again.load()
    patch = make_patch(source, rng)
    for t in (trainer, again):
        t.learn([patch], 0.5)
    assert again.loss == trainer.loss
    assert again.step == trainer.step == 2
    low = source.sample.slices
    trainer.judge([(low, low + 1)])
    assert load_weights(tmp_path / "weights.safetensors").tensors.keys() == dict(trainer.net.named_parameters()).keys()


def test_attention_gates_begin_as_the_same_network_with_skips_let_through():
    torch.manual_seed(1)
    plain = FlairNet((8, 8, 8))
    drawn = torch.rand(1)
    torch.manual_seed(1)
    gated = AttentionFlairNet((8, 8, 8))
    assert torch.equal(torch.rand(1), drawn)
    shared = plain.state_dict()
    assert all(torch.equal(gated.state_dict()[k], v) for k, v in shared.items())
    assert gated.state_dict().keys() - shared.keys() == {k for k in gated.state_dict() if k.startswith("gates.")}
    for gate in gated.gates:
        torch.nn.init.constant_(gate.weight.bias, 50.0)  # wide open
    image = torch.rand(1, 5, 32, 32)
    with torch.no_grad():
        assert torch.allclose(plain.eval()(image), gated.eval()(image), atol=1e-5)
        torch.nn.init.constant_(gated.gates[0].weight.bias, -50.0)  # shut
        assert not torch.allclose(plain(image), gated(image), atol=1e-3)


def test_attention_gates_of_the_outline_network_let_its_skips_through():
    torch.manual_seed(1)
    plain = OutlineNet((8, 8, 8)).eval()
    torch.manual_seed(1)
    gated = AttentionOutlineNet((8, 8, 8)).eval()
    for gate in gated.gates:
        torch.nn.init.constant_(gate.weight.bias, 50.0)  # wide open
    image = torch.rand(1, 4, 32, 32)
    with torch.no_grad():
        assert torch.allclose(plain(image), gated(image), atol=1e-5)
        torch.nn.init.constant_(gated.gates[0].weight.bias, -50.0)  # shut
        assert not torch.allclose(plain(image), gated(image), atol=1e-3)


@pytest.mark.thorough
def test_adversarial_training_goes_on_from_its_checkpoint_with_its_critic(tmp_path: Path):
    source, rng = noisy(), np.random.default_rng(10)
    trainer = DenoiseTrainer(tmp_path, adversarial=True)
    trainer.learn([make_patch(source, rng)], 0.5)
    trainer.save()
    again = DenoiseTrainer(tmp_path, adversarial=True)
    again.load()
    patch = make_patch(source, rng)
    for t in (trainer, again):
        t.learn([patch], 0.5)
    assert again.loss == trainer.loss


@pytest.mark.thorough
def test_the_opponent_asks_for_the_texture_of_the_full_dose():
    rng = np.random.default_rng(11)
    opponent = Opponent()
    full, same, blurred = (torch.from_numpy(a[:, None]) for a in rng.normal(0, 20, (3, 4, 96, 96)).astype(np.float32))
    blurred = gaussian(blurred, 1.5)
    for _ in range(40):
        opponent.penalty(full, blurred)
    with torch.no_grad():
        judged = [float(opponent.critic(texture(x)).mean()) for x in (same, blurred)]
    assert judged[0] > judged[1] + 0.5
    spectra = [log_power(texture(x)).mean(dim=0) for x in (full, same, blurred)]
    assert (spectra[0] - spectra[1]).abs().mean() < 0.3 < (spectra[0] - spectra[2]).abs().mean()
