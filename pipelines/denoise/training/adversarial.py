"""An opponent for training: asks for the texture of full-dose slices beside the least error (``train --adversarial``).

A critic of patches (PatchGAN, Isola et al., CVPR 2017; hinge loss, spectral normalisation after Miyato et al., ICLR
2018) sees the fine detail only, so it judges texture and no anatomy; a second term compares noise power spectra.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu, relu
from torch.nn.utils.parametrizations import spectral_norm

from pipelines.denoise.network import NOISE_SCALE
from pipelines.denoise.noise import FINE_SIGMA, gaussian

CRITIC_WEIGHT, SPECTRUM_WEIGHT = 0.1, 0.1
"""Of both terms beside the squared error, which is about 1 where the network does what is possible."""
RATE = 4e-4
LIMIT = 6.0
"""Fine detail beyond this multiple of ``NOISE_SCALE`` is an edge of bone and is cut off."""
CHANNELS = (32, 64, 64)
FLOOR = 1.0
"""HU squared; added to the power, so that empty frequencies do not decide."""


def texture(hu: Tensor) -> Tensor:
    """Fine detail of ``[batch, 1, row, column]`` in HU, in units of about 1."""
    return ((hu - gaussian(hu, FINE_SIGMA)) / NOISE_SCALE).clamp(-LIMIT, LIMIT)


class Critic(nn.Module):
    """Texture ``[batch, 1, row, column]`` to one judgement of each overlapping patch; high: full dose."""

    def __init__(self) -> None:
        super().__init__()
        pairs = zip((1, *CHANNELS[:-1]), CHANNELS, (1, 2, 2), strict=True)
        self.layers = nn.ModuleList(spectral_norm(nn.Conv2d(a, b, 4, stride)) for a, b, stride in pairs)
        self.last = spectral_norm(nn.Conv2d(CHANNELS[-1], 1, 3))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = leaky_relu(layer(x), 0.2)
        judged: Tensor = self.last(x)
        return judged


def log_power(detail: Tensor) -> Tensor:
    """Logarithm of the radial power of ``[batch, 1, size, size]``: ``[batch, size / 2]``, rings from frequency 1 up."""
    size = detail.shape[-1]
    window = torch.hann_window(size, periodic=False)
    power = torch.fft.fft2(NOISE_SCALE * detail[:, 0] * window[:, None] * window[None, :]).abs().square()
    power = power / window.square().sum().square()
    f = np.fft.fftfreq(size) * size
    ring = torch.from_numpy(np.round(np.hypot(f[:, None], f[None, :])).astype(np.int64)).flatten()
    total = torch.zeros(len(power), int(ring.max()) + 1).index_add(1, ring, power.flatten(1))
    return torch.log(total / torch.bincount(ring) + FLOOR)[:, 1 : size // 2 + 1]


class Opponent:
    """The critic and its optimiser; learns beside the denoiser."""

    def __init__(self) -> None:
        self.critic = Critic()
        self.optimiser = torch.optim.AdamW(self.critic.parameters(), RATE, betas=(0.5, 0.9), weight_decay=0.0)

    def penalty(self, full: Tensor, denoised: Tensor) -> Tensor:
        """What is added to the loss for ``denoised``, after the critic has learned from the pair; both in HU."""
        real, denoised_texture = texture(full), texture(denoised)
        self.optimiser.zero_grad(set_to_none=True)
        wrong = relu(1 - self.critic(real)).mean() + relu(1 + self.critic(denoised_texture.detach())).mean()
        wrong.backward()
        self.optimiser.step()
        spectra = (log_power(denoised_texture) - log_power(real)).abs().mean()
        return SPECTRUM_WEIGHT * spectra - CRITIC_WEIGHT * self.critic(denoised_texture).mean()

    def state(self) -> dict[str, Any]:
        """For the checkpoint."""
        return {"critic": self.critic.state_dict(), "optimiser": self.optimiser.state_dict()}

    def load(self, state: dict[str, Any]) -> None:
        """Go on from ``state``."""
        self.critic.load_state_dict(state["critic"])
        self.optimiser.load_state_dict(state["optimiser"])
