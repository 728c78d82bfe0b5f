"""The queues of a node in its busiest hours, played through: studies arrive, wait for a device, are encoded and sent.

Arrivals are a Poisson process with the rate of the busiest hour, which lasts as long as ``HOURS``: no pause lets the
queue run empty. Every stage serves in the order of arrival; priorities and the fair turns of pipelines move waiting
from one study to another, and change the mean little.
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from node.operate.capacity.workload import Workload

HOURS = 3.0
REPEATS = 20
"""Times that the hours are played through, each with other arrivals."""
QUANTILES = (0.5, 0.95, 0.99)
MOST_DEVICES = 1000
_SEED = 20

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Servers:
    """What works on the stages of an analysis."""

    devices: int
    encoders: int
    senders: int
    quiet_seconds: float
    """From the last image until the series is taken for complete."""
    encode_seconds: float
    deliver_seconds: float


@dataclass(frozen=True, kw_only=True)
class Simulation:
    """What came out."""

    analyses: int
    quantiles: dict[float, float]
    """Of ``QUANTILES``: seconds from the last image to delivery that this share of the analyses did not exceed."""
    busy: float
    """Share of the time in which a device worked, 0 to 1."""


def served(ready: Floats, seconds: Floats, servers: int) -> Floats:
    """When each task ends that is ``ready`` at a time, takes ``seconds`` and waits for one of ``servers``."""
    free = [-math.inf] * servers
    ends = np.empty_like(ready)
    for task in np.argsort(ready, kind="stable"):
        ends[task] = max(ready[task], heapq.heappop(free)) + seconds[task]
        heapq.heappush(free, ends[task])
    return ends


def simulate(work: Workload, servers: Servers, seed: int = _SEED) -> Simulation:
    """Play the busiest hours through. Raises ``ValueError`` when nothing is analysed."""
    if not work.analyses_a_study or not work.studies:
        raise ValueError("a workload without analyses has no queues")
    rng = np.random.default_rng(seed)
    turnarounds, worked, passed = [], 0.0, 0.0
    for _ in range(REPEATS):
        arrivals = np.sort(rng.uniform(0, HOURS * 3600, rng.poisson(work.studies_an_hour * HOURS)))
        parts = [(arrivals[rng.random(len(arrivals)) < analysis.share], analysis.seconds) for analysis in work.analyses]
        last_image = np.concatenate([at for at, _ in parts])
        seconds = np.concatenate([rng.choice(times, len(at)) for at, times in parts])
        inferred = served(last_image + servers.quiet_seconds, seconds, servers.devices)
        encoded = served(inferred, np.full_like(inferred, servers.encode_seconds), servers.encoders)
        sent = served(encoded, np.full_like(encoded, servers.deliver_seconds), servers.senders)
        turnarounds.append(sent - last_image)
        worked += float(seconds.sum())
        passed += float(max(inferred.max(initial=0.0), HOURS * 3600)) * servers.devices
    pooled = np.concatenate(turnarounds)
    quantiles = np.quantile(pooled, QUANTILES) if len(pooled) else np.zeros(len(QUANTILES))
    return Simulation(
        analyses=len(pooled),
        quantiles=dict(zip(QUANTILES, map(float, quantiles), strict=True)),
        busy=worked / passed,
    )
