"""What machines need for a workload: devices, cores, disk, ledger and network, each with how it was computed. Pure.

The costs are those of docs/development/benchmarks.md (two cores of a shared Xeon), rounded up; docs/capacity.md says
where each comes from.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from node.ledger.engine import KEPT_CONNECTIONS, MORE_CONNECTIONS
from node.operate.capacity.simulation import MOST_DEVICES, QUANTILES, Servers, Simulation, simulate
from node.operate.capacity.workload import Workload

RECEIVE_CPU_SECONDS = 1.3
"""For 1000 images, with the row of each."""
HEADERS_CPU_SECONDS = 1.5
"""For 1000 images: routing and its reading of headers."""
READ_CPU_SECONDS = 5.0
"""For 1000 images that a pipeline gets: reading, decoding, hand-over. JPEG 2000: seven times as much."""
ENCODE_CPU_SECONDS = 1.5
"""For the SEG and SR of one analysis, with the gate."""
DELIVER_SECONDS = 2.0
"""For the objects of one analysis: a new association, C-STORE of SEG and SR, the wait for its turn."""
BUSY_CORES = 0.6
"""Share of the cores that is planned to work in the busiest hour."""
FREE_DISK = 0.2
"""Share of the disk that is planned to stay free."""
ROW_BYTES = 750
"""Of the ledger for one image; PostgreSQL and SQLite differ by a twentieth."""
ANALYSIS_BYTES = 10_000
"""Of the ledger for one analysis, with the rows of the job engine."""
RESULT_MIB = 1.0
"""Results of one analysis on disk and to the PACS; derived series have the size of their source and are not in it."""
DAYS_BEFORE_PURGE = 1
"""Retention deletes once a day at the latest."""


@dataclass(frozen=True, kw_only=True)
class Site:
    """What was decided about the machines."""

    retention_days: float
    within_seconds: float
    """What 95 of 100 analyses shall not exceed, from the last image to delivery."""
    quiet_seconds: float
    senders: int
    """Deliveries at once."""
    other_roles: int
    """Processes of one machine besides receivers."""
    devices: int | None = None
    """None: the fewest that suffice."""


@dataclass(frozen=True, kw_only=True)
class Requirement:
    """One line of the plan."""

    what: str
    amount: float
    unit: str
    because: str


@dataclass(frozen=True, kw_only=True)
class CapacityPlan:
    """The answer."""

    servers: Servers
    simulation: Simulation | None
    """None where nothing is analysed."""
    is_enough: bool
    """Whether 95 of 100 analyses are delivered in time."""
    requirements: tuple[Requirement, ...]


def plan(work: Workload, site: Site) -> CapacityPlan:
    """Say what ``work`` needs. Raises ``ValueError`` when no number of devices suffices."""
    if not work.analyses_a_study:
        servers = _servers(site, 0)
        return CapacityPlan(servers=servers, simulation=None, is_enough=True, requirements=requirements(work, site, 0))
    if site.devices is not None:
        simulation = simulate(work, _servers(site, site.devices))
        return _plan(work, site, site.devices, simulation)
    fastest = simulate(work, _servers(site, MOST_DEVICES))
    if not _in_time(fastest, site):
        raise ValueError(
            f"95 of 100 analyses need {fastest.quantiles[QUANTILES[1]]:.0f} s with any number of devices: "
            f"{site.quiet_seconds:g} s until the series is complete, and the pipeline itself; allow more time"
        )
    low, high = max(1, math.ceil(work.devices_busy)), MOST_DEVICES
    while low < high:
        middle = (low + high) // 2
        if _in_time(simulate(work, _servers(site, middle)), site):
            high = middle
        else:
            low = middle + 1
    return _plan(work, site, low, simulate(work, _servers(site, low)))


def _in_time(simulation: Simulation, site: Site) -> bool:
    return simulation.quantiles[QUANTILES[1]] <= site.within_seconds


def _plan(work: Workload, site: Site, devices: int, simulation: Simulation) -> CapacityPlan:
    return CapacityPlan(
        servers=_servers(site, devices),
        simulation=simulation,
        is_enough=_in_time(simulation, site),
        requirements=requirements(work, site, devices),
    )


def _servers(site: Site, devices: int) -> Servers:
    """With one encoder, as a single worker has: more machines only shorten the queue."""
    return Servers(
        devices=devices,
        encoders=1,
        senders=site.senders,
        quiet_seconds=site.quiet_seconds,
        encode_seconds=ENCODE_CPU_SECONDS,
        deliver_seconds=DELIVER_SECONDS,
    )


def requirements(work: Workload, site: Site, devices: int) -> tuple[Requirement, ...]:
    """The lines of the plan."""
    an_hour, a_second = work.studies_an_hour, work.images_a_second
    analyses = work.analyses_a_study
    days = site.retention_days + DAYS_BEFORE_PURGE
    study_mib = work.images * work.image_mib
    stored_gib = days * work.studies * (study_mib + analyses * RESULT_MIB) / 1024
    ledger_gib = days * work.studies * (work.images * ROW_BYTES + analyses * ANALYSIS_BYTES) / 2**30
    per_image = (RECEIVE_CPU_SECONDS + HEADERS_CPU_SECONDS + analyses * READ_CPU_SECONDS) / 1000
    cores = (a_second * per_image + an_hour / 3600 * analyses * ENCODE_CPU_SECONDS) / BUSY_CORES
    incoming = a_second * work.image_mib * 8 * 2**20 / 1e6
    outgoing = an_hour / 3600 * analyses * RESULT_MIB * 8 * 2**20 / 1e6
    receivers = max(1, math.ceil(a_second * RECEIVE_CPU_SECONDS / 1000 / BUSY_CORES))
    processes, of_each = receivers + site.other_roles, KEPT_CONNECTIONS + MORE_CONNECTIONS
    return tuple(
        Requirement(what=what, amount=amount, unit=unit, because=because)
        for what, amount, unit, because in (
            (
                "busiest hour",
                an_hour,
                "studies",
                f"{a_second:.1f} images/s, {an_hour * analyses:.0f} analyses",
            ),
            (
                "devices",
                float(devices),
                "GPUs (or CPUs, one analysis at a time)",
                f"{work.devices_busy:.2f} would be busy all the time",
            ),
            (
                "receivers",
                float(receivers),
                "receiver processes",
                f"each takes {1000 * BUSY_CORES / RECEIVE_CPU_SECONDS:.0f} images/s; {BUSY_CORES:.0%} busy",
            ),
            (
                "processor cores",
                math.ceil(cores),
                "besides those on which pipelines compute",
                f"reception, routing, reading, encoding; {BUSY_CORES:.0%} busy",
            ),
            (
                "disk",
                stored_gib / (1 - FREE_DISK),
                "GiB",
                f"{days:g} days of {study_mib:.0f} MiB a study and results; {FREE_DISK:.0%} stays free",
            ),
            ("ledger", ledger_gib, "GiB", f"{days * work.studies * work.images / 1e6:.1f} million images"),
            (
                "connections",
                float(of_each * processes),
                "at most, to a PostgreSQL",
                f"{of_each} of each process of a machine with all roles, and as many for a further machine",
            ),
            ("network in", incoming, "Mbit/s", "in the busiest hour"),
            ("network out", outgoing, "Mbit/s", f"{RESULT_MIB:g} MiB of results an analysis; forwarded images besides"),
        )
    )


def as_text(plan: CapacityPlan, work: Workload, site: Site) -> str:
    """The plan in plain words."""
    arrives = f"{work.studies:g} studies a day, {work.busiest_hour:.1%} of them in the busiest hour"
    lines = [
        f"{arrives}; {work.images:.0f} images of {work.image_mib:.2f} MiB a study.",
        *(
            f"{analysis.pipeline}: {analysis.mean_seconds:.1f} s on {analysis.share:.0%} of the studies"
            f"{f' (mean of {len(analysis.seconds)} measured)' if len(analysis.seconds) > 1 else ''}"
            for analysis in work.analyses
        ),
        "",
    ]
    lines += [
        f"{requirement.what:16} {_number(requirement.amount):>8} {requirement.unit}: {requirement.because}"
        for requirement in plan.requirements
    ]
    if plan.simulation is None:
        return "\n".join([*lines, "", "Nothing is analysed: no device is needed."])
    times = ", ".join(f"{share:.0%} {seconds:.0f} s" for share, seconds in plan.simulation.quantiles.items())
    lines += [
        "",
        f"From the last image to delivery in the busiest hours: {times}; devices busy {plan.simulation.busy:.0%}.",
    ]
    if not plan.is_enough:
        lines.append(
            f"Not enough: 95 of 100 analyses shall be delivered within {site.within_seconds:.0f} s. More devices, "
            "faster ones, or fewer analyses are needed."
        )
    return "\n".join(lines)


def _number(amount: float) -> str:
    return f"{amount:.0f}" if amount >= 10 or amount == int(amount) else f"{amount:.1f}"
