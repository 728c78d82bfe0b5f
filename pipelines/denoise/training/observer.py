"""Model observers: how well a known lesion at a known place is told from none, by what an image chain leaves of both.

Channelized Hotelling observer (Myers and Barrett 1987; Barrett et al., PNAS 1993) with ten dense difference-of-Gaussian
channels (Abbey and Barrett, JOSA A 2001) and without internal noise: it knows the texture of the noise and prewhitens,
so no filter that can be undone helps it. The non-prewhitening observer correlates with the lesion as the chain shows it
and ignores the texture, as readers do in part; it gains from a filter that takes noise away.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

FloatArray = NDArray[np.float32]
Values = NDArray[np.float64]

CHANNELS = 10
FIRST, RATIO, WIDTH = 0.015, 1.4, 1.67
"""Channels of Abbey and Barrett; the first is at 0.015 cycles per pixel, not 0.005: regions are 37 pixels wide."""
FOLDS = 3
BOOTSTRAP = 1000
SEED = 4


def channels(size: int) -> Values:
    """Ten templates ``[channel, size * size]``: differences of Gaussians in frequency, centred on the middle pixel."""
    f = np.fft.fftfreq(size)
    squared = f[:, None] ** 2 + f[None, :] ** 2
    templates: list[Values] = []
    for number in range(1, CHANNELS + 1):
        centre = FIRST * RATIO**number
        passed = np.exp(-0.5 * squared / (WIDTH * centre) ** 2) - np.exp(-0.5 * squared / centre**2)
        templates.append(np.fft.fftshift(np.fft.ifft2(passed).real).ravel().astype(np.float64))
    return np.stack(templates)


def hotelling(lesion: Values, absent: Values, present: Values) -> Values:
    """Weights of the channels from the mean ``lesion`` and training outputs ``[region, channel]`` of both classes."""
    covariance = (np.cov(absent, rowvar=False) + np.cov(present, rowvar=False)) / 2
    weights: Values = np.linalg.solve(covariance, lesion).astype(np.float64)
    return weights


def matched(lesion: Values, _absent: Values, _present: Values) -> Values:
    """The template of the non-prewhitening observer: the lesion itself."""
    return lesion


Training = Callable[[Values, Values, Values], Values]


@dataclass(frozen=True, eq=False)
class Ratings:
    """What an observer says of every region, each from a template that was trained on other groups."""

    absent: Values
    present: Values
    groups_absent: NDArray[np.int64]
    groups_present: NDArray[np.int64]
    """Regions of one group (realisation of the phantom, slice of a patient) are drawn together by the bootstrap."""

    @property
    def auc(self) -> float:
        """Area under the ROC curve."""
        return area_under_curve(self.absent, self.present)

    @property
    def detectability(self) -> float:
        """d': difference of the means in units of the standard deviation."""
        return d_prime(self.absent, self.present)

    def drawn(self, figure: Callable[[Values, Values], float]) -> Values:
        """``figure`` of every bootstrap sample of groups; the same draws for all chains that saw the same groups."""
        names = np.unique(self.groups_present)
        of_absent = [self.absent[self.groups_absent == g] for g in names]
        of_present = [self.present[self.groups_present == g] for g in names]
        draws = np.random.default_rng(SEED).integers(0, len(names), (BOOTSTRAP, len(names)))
        return np.array(
            [
                figure(np.concatenate([of_absent[k] for k in d]), np.concatenate([of_present[k] for k in d]))
                for d in draws
            ]
        )


def rate(
    absent: Values,
    present: Values,
    twins: NDArray[np.int64],
    groups_absent: NDArray[np.int64],
    groups_present: NDArray[np.int64],
    *,
    by: Training,
) -> Ratings:
    """Train on all folds of groups but one and rate that one, in turn.

    ``absent`` and ``present`` are ``[region, feature]``; ``twins`` says for each of ``present`` which of ``absent`` has
    the same noise without the lesion: the mean difference is the lesion as the chain shows it, with little noise, which
    would otherwise count against noisy chains. Ratings are put on one scale by the training classes.
    """
    lesions = present - absent[twins]
    said_absent, said_present = np.zeros(len(absent)), np.zeros(len(present))
    for fold in range(FOLDS):
        held_absent, held_present = groups_absent % FOLDS == fold, groups_present % FOLDS == fold
        weights = by(lesions[~held_present].mean(axis=0), absent[~held_absent], present[~held_present])
        trained = absent[~held_absent] @ weights, present[~held_present] @ weights
        middle = (trained[0].mean() + trained[1].mean()) / 2
        spread = np.sqrt((trained[0].var() + trained[1].var()) / 2)
        said_absent[held_absent] = (absent[held_absent] @ weights - middle) / spread
        said_present[held_present] = (present[held_present] @ weights - middle) / spread
    return Ratings(said_absent, said_present, groups_absent, groups_present)


def area_under_curve(absent: Values, present: Values) -> float:
    """Probability that a region with the lesion is rated above one without (Wilcoxon)."""
    ranks = rankdata(np.concatenate([present, absent]))[: len(present)]
    return float((ranks.sum() - len(present) * (len(present) + 1) / 2) / (len(present) * len(absent)))


def d_prime(absent: Values, present: Values) -> float:
    """Difference of the means over the root of the mean variance."""
    return float((present.mean() - absent.mean()) / np.sqrt((present.var(ddof=1) + absent.var(ddof=1)) / 2))
