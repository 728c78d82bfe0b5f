"""The CT denoiser: geometry, HU, options, pinned weights, and the simulation it was trained with."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from scipy import ndimage
from volume_series import VolumeSeries

from node.errors import WeightsError
from node.pipeline import Unsuitable, Volume
from pipelines.denoise import create
from pipelines.denoise.network import DenoiseNet
from pipelines.denoise.noise import noise_level, noise_map
from pipelines.denoise.pipeline import WEIGHTS
from pipelines.denoise.training.lowdose import WATER_PER_MM, line_integrals, noise_fields, with_kernel
from pipelines.denoise.training.peers import noise_free_gain
from pipelines.denoise.training.phantom import responses
from pipelines.weights import save_weights

SIZE = 96
PADDING = -2000.0


def phantom(noise_hu, slices=3, seed=0):
    """A water cylinder in air with a bright rod left of its centre; corners are padding. Noise like a CT kernel's."""
    rng = np.random.default_rng(seed)
    axis = np.arange(SIZE) - (SIZE - 1) / 2
    radius = np.hypot(axis[:, None], axis[None, :])
    plain = np.where(radius < 42, 40.0, -1000.0)
    plain[np.hypot(axis[:, None] + 12, axis[None, :] - 10) < 6] = 300.0
    noise = with_kernel(rng.standard_normal((slices, SIZE, SIZE)).astype(np.float32), 0.4, 0.0)
    noisy = plain + noise * (noise_hu / noise.std())
    noisy[:, radius > 50] = PADDING
    return noisy.astype(np.float32), plain.astype(np.float32)


def series(array, orientation="HPL", **attributes):
    """As a series with anisotropic voxels, its array turned to ``orientation``."""
    volume = Volume.from_components(
        array,
        spacing=(2.5, 0.8, 0.8),
        coordinate_system="PATIENT",
        position=(-30.0, 10.0, 5.0),
        patient_orientation="HPL",
    )
    return VolumeSeries(volume.to_patient_orientation(orientation), attributes=attributes)


def denoised(source, **options):
    findings = create(weights=None, device="cpu", options=options).run(source)
    (derived,) = findings.derived
    return derived


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def water(array):
    """Pixels well inside the water, away from rod and rim."""
    axis = np.arange(SIZE) - (SIZE - 1) / 2
    radius = np.hypot(axis[:, None], axis[None, :])
    rod = np.hypot(axis[:, None] + 12, axis[None, :] - 10)
    return array[:, (radius < 36) & (rod > 11)]


@pytest.mark.parametrize("shape", [(64, 64), (61, 47)])
def test_network_keeps_any_number_of_rows_and_columns(shape):
    estimate = DenoiseNet()(torch.zeros(2, 3, *shape), torch.zeros(2, 1, *shape))
    assert estimate.shape == (2, 1, *shape)


def test_noise_of_a_noisy_series_falls_and_the_mean_stays_within_two_hu():
    noisy, _ = phantom(60)
    result = denoised(series(noisy)).volume.array
    assert water(result).std() < 0.65 * water(noisy).std()
    assert abs(water(result).mean() - water(noisy).mean()) < 2


def test_full_strength_removes_more_noise_than_the_default():
    noisy, plain = phantom(60)
    default, full = (
        water(denoised(series(noisy), **o).volume.array - plain).std()
        for o in ({}, {"strength": 1.0, "reference_noise_hu": 0})
    )
    assert full < default < 60


def test_quiet_series_changes_by_less_than_three_hu():
    quiet, _ = phantom(12)
    change = denoised(series(quiet)).volume.array - quiet
    assert change.std() < 3


def test_strength_zero_returns_the_source():
    noisy, _ = phantom(60)
    np.testing.assert_array_equal(denoised(series(noisy), strength=0).volume.array, noisy)


def test_edges_keep_their_height():
    noisy, plain = phantom(30, slices=5)
    result = denoised(series(noisy), strength=1, reference_noise_hu=0).volume.array
    axis = np.arange(SIZE) - (SIZE - 1) / 2
    rod = np.hypot(axis[:, None] + 12, axis[None, :] - 10) < 4
    assert abs(result[:, rod].mean() - plain[rod].mean()) < 5


def test_padding_and_values_beyond_ct_range_stay_untouched():
    noisy, _ = phantom(60)
    noisy[1, 40:44, 40:44] = 9000.0  # metal in the extended CT scale
    result = denoised(series(noisy)).volume.array
    outside = (noisy <= -1024) | (noisy >= 3071)
    np.testing.assert_array_equal(result[outside], noisy[outside])
    inside = noisy[~outside]
    assert result[~outside].min() >= inside.min()
    assert result[~outside].max() <= inside.max()


def rod_centre(volume):
    """LPS centroid of the bright rod."""
    index = np.argwhere(volume.array > 170)
    return (volume.affine @ np.append(index.mean(axis=0), 1))[:3]


@pytest.mark.parametrize("orientation", ["HPL", "FAR", "PLH"])
def test_edge_stays_at_its_patient_position_in_any_orientation(orientation):
    noisy, plain = phantom(30, slices=32)
    source = series(noisy, orientation)
    volume = denoised(source).volume
    np.testing.assert_allclose(volume.affine, source.image.affine)
    assert volume.array.shape == source.image.array.shape
    truth = rod_centre(series(np.repeat(plain[None], 32, axis=0)).image)
    np.testing.assert_allclose(rod_centre(volume), truth, atol=0.4)


def test_single_slice_is_denoised():
    noisy, _ = phantom(60, slices=1)
    assert water(denoised(series(noisy)).volume.array).std() < 0.75 * water(noisy).std()


def test_description_names_the_source_and_fits_the_attribute():
    noisy, _ = phantom(30, slices=1)
    description = denoised(series(noisy, SeriesDescription="Thorax  " + "x" * 80)).description
    assert description.startswith("Denoised Thorax x")
    assert len(description) == 64


def test_series_without_tissue_is_unsuitable():
    with pytest.raises(Unsuitable, match="soft tissue"):
        denoised(series(np.full((3, 64, 64), -1000, np.float32)))


def test_values_other_than_hounsfield_units_are_unsuitable():
    noisy, _ = phantom(30)
    with pytest.raises(Unsuitable, match="Z_EFF"):
        denoised(series(noisy, RescaleType="Z_EFF"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strenght": 1}, "strenght.*unknown.*strength"),
        ({"strength": 1.5}, "strength is 1.5.*from 0"),
        ({"strength": "much"}, "strength is 'much'.*number"),
        ({"strength": True}, "strength is True.*number"),
        ({"strength": float("nan")}, "strength is nan"),
        ({"reference_noise_hu": -1}, "reference_noise_hu is -1.*from 0"),
    ],
)
def test_bad_option_is_refused_with_a_remedy(options, message):
    with pytest.raises(ValueError, match=message):
        create(weights=None, device="cpu", options=options)


def test_altered_weights_are_refused(tmp_path):
    content = bytearray(WEIGHTS.read_bytes())
    content[-1] ^= 1
    (tmp_path / WEIGHTS.name).write_bytes(content)
    shutil.copy(WEIGHTS.with_suffix(".sha256"), tmp_path)
    with pytest.raises(WeightsError, match="SHA-256"):
        create(weights=tmp_path / WEIGHTS.name, device="cpu", options={})


def test_weights_of_another_network_are_refused(tmp_path):
    save_weights({"head.weight": torch.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(WeightsError, match="another network"):
        create(weights=tmp_path / "other.safetensors", device="cpu", options={})


def test_algorithm_carries_digest_and_settings():
    algorithm = create(weights=None, device="cpu", options={"strength": 0.5}).algorithm
    assert algorithm.weights_sha256 == WEIGHTS.with_suffix(".sha256").read_text().split()[0]
    assert algorithm.parameters["strength"] == "0.5"


def test_noise_map_follows_noise_that_differs_from_side_to_side():
    rng = np.random.default_rng(1)
    hu = np.full((256, 256), 40.0, np.float32)
    hu += rng.standard_normal(hu.shape).astype(np.float32) * np.linspace(10, 50, 256, dtype=np.float32)
    measured = noise_map(torch.from_numpy(hu)[None, None])[0, 0].numpy()
    assert measured[:, 24].mean() == pytest.approx(14, rel=0.35)
    assert measured[:, 232].mean() == pytest.approx(46, rel=0.25)


def test_noise_level_is_not_misled_by_edges():
    stripes = np.where(np.arange(256) // 32 % 2, 100.0, 0.0) + np.zeros((256, 1))
    noise = np.random.default_rng(2).standard_normal((256, 256)) * 20
    level = noise_level(torch.from_numpy((stripes + noise).astype(np.float32))[None, None])
    assert float(level) == pytest.approx(20, rel=0.15)


def test_line_integral_of_a_water_disc_is_its_diameter():
    axis = np.arange(128) - 63.5
    disc = np.where(np.hypot(axis[:, None], axis[None, :]) < 50, 0.0, -1000.0).astype(np.float32)
    integrals = line_integrals(disc, 2.0, views=20)
    np.testing.assert_allclose(integrals.max(axis=1), 200 * WATER_PER_MM, rtol=0.03)


@pytest.mark.thorough
def test_simulated_noise_has_no_bias_follows_the_dose_and_is_strongest_in_the_centre():
    axis = np.arange(128) - 63.5
    radius = np.hypot(axis[:, None], axis[None, :])
    disc = np.where(radius < 55, 0.0, -1000.0).astype(np.float32)
    simulated = noise_fields(disc, 2.5, 4, np.random.default_rng(3))
    full, more, quarter = simulated.at(1e6), simulated.at(4e6), simulated.at(1e6, dose=0.25)
    centre, rim = radius < 15, (radius > 45) & (radius < 54)
    assert full[:, centre].std() > 1.2 * full[:, rim].std()
    assert abs(full[:, centre].mean()) < 0.1 * full[:, centre].std()
    assert full[:, centre].std() / more[:, centre].std() == pytest.approx(2, rel=0.1)
    assert quarter[:, centre].std() / full[:, centre].std() == pytest.approx(np.sqrt(3), rel=0.1)


def test_noise_free_gain_is_estimated_without_the_noise_free_slice():
    rng = np.random.default_rng(5)
    truth = np.where(np.arange(200) // 20 % 2, 60.0, 0.0) + np.zeros((200, 1))
    full = truth + 10 * rng.standard_normal(truth.shape)
    low = full + 10 * np.sqrt(3) * rng.standard_normal(truth.shape)
    blurred = ndimage.gaussian_filter(low, 1)
    estimate = noise_free_gain(blurred, low, full, 0.25, np.ones(truth.shape, bool))
    true_gain = 10 * np.log10(np.square(low - truth).mean() / np.square(blurred - truth).mean())
    assert estimate == pytest.approx(true_gain, abs=0.3)


@pytest.mark.thorough
def test_phantom_tells_a_blur_from_the_identity():
    seen = responses(900, 20, {"before": lambda s: s[1], "blurred": lambda s: ndimage.gaussian_filter(s[1], 1.0)})
    before, blurred = seen["before"], seen["blurred"]
    sigma = np.sqrt(np.log(2) / 2) / np.pi / before.ttf_half  # a Gaussian's transfer is exp(-2 pi^2 sigma^2 f^2)
    assert sigma == pytest.approx(1.2, rel=0.1)
    assert blurred.rise_px / before.rise_px == pytest.approx(np.hypot(1.2, 1) / 1.2, rel=0.05)
    assert blurred.noise.noise_hu < before.noise.noise_hu
    assert blurred.noise.mean_frequency < before.noise.mean_frequency
