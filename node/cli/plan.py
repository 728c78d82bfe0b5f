"""``ainode plan``: how much machine a number of studies needs."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from node.cli.options import config_option, echo, json_option, load, print_json

if TYPE_CHECKING:
    from node.config import Config
    from node.ledger.study_sizes import StudySizes

_MEASURED = 1000
"""Latest analyses whose run times count."""


def _analysis(
    _ctx: click.Context, _parameter: click.Parameter, values: tuple[str, ...]
) -> list[tuple[str, float, float]]:
    """``nodule=15`` or ``nodule=15:0.3`` as pipeline, seconds, share."""
    analyses = []
    for value in values:
        name, _, rest = value.partition("=")
        seconds, _, share = rest.partition(":")
        try:
            analysis = (name, float(seconds), float(share or 1))
        except ValueError:
            analysis = ("", 0.0, 0.0)
        if not analysis[0] or not 0 < analysis[1] < 1e6 or not 0 <= analysis[2] <= 1:
            raise click.BadParameter(
                f"{value!r} is not PIPELINE=SECONDS[:SHARE], such as nodule=15:0.3 "
                "(15 s on the device, on 30 % of the studies)"
            )
        analyses.append(analysis)
    return analyses


@click.command()
@config_option
@json_option
@click.option("--studies", type=click.FloatRange(min=1), required=True, help="Studies of a day.")
@click.option("--images", type=click.FloatRange(min=1), help="Images of a study. Default: as the ledger has them.")
@click.option(
    "--image-mib",
    type=click.FloatRange(min=0, min_open=True),
    help="Size of an image. Default: as the ledger has them.",
)
@click.option(
    "--busiest-hour",
    type=click.FloatRange(100 / 24, 100),
    default=12.5,
    show_default=True,
    help="Percent of a day's studies that arrive in its busiest hour.",
)
@click.option(
    "--analysis",
    "analyses",
    multiple=True,
    callback=_analysis,
    metavar="PIPELINE=SECONDS[:SHARE]",
    help="Time on the device, and the share of the studies it is for. Default: pipelines and run times of the ledger, "
    "for every study.",
)
@click.option(
    "--within",
    type=click.FloatRange(min=1),
    default=600.0,
    show_default=True,
    help="Seconds from the last image to delivery that 95 of 100 analyses shall not exceed.",
)
@click.option("--devices", type=click.IntRange(1, 1000), help="Plan with so many devices. Default: the fewest.")
def plan(
    *,
    config_path: Path,
    as_json: bool,
    studies: float,
    images: float | None,
    image_mib: float | None,
    busiest_hour: float,
    analyses: list[tuple[str, float, float]],
    within: float,
    devices: int | None,
) -> None:
    """Compute the machines that a number of studies needs.

    Says how many devices, processor cores, how much disk, ledger and network the busiest hour takes, and how long
    results then take, from a simulation of the queues (docs/capacity.md). Works before there is a configuration or a
    ledger when sizes and analyses are given. Exits with 1 when --devices are not enough.
    """
    from node.config import Retention, SeriesTable
    from node.operate.capacity.requirements import Site, as_text, plan
    from node.operate.capacity.workload import Workload, planned_analyses
    from node.roles import ROLES
    from node.roles.sender import DELIVERIES_AT_ONCE

    config = load(config_path) if config_path.exists() else None
    sizes, measured = _from_ledger(config)
    if (images is None or image_mib is None) and not sizes.images:
        raise click.UsageError("there is no ledger with studies to take sizes from; give --images and --image-mib")
    if not analyses and not measured:
        raise click.UsageError("no analysis was ever timed here; give --analysis PIPELINE=SECONDS[:SHARE]")
    work = Workload(
        studies=studies,
        busiest_hour=busiest_hour / 100,
        images=images or sizes.images / sizes.studies,
        image_mib=image_mib or sizes.size / sizes.images / 2**20,
        analyses=planned_analyses(analyses, measured),
    )
    site = Site(
        retention_days=(config.retention if config else Retention()).days,
        within_seconds=within,
        quiet_seconds=(config.series if config else SeriesTable()).quiet_seconds,
        senders=DELIVERIES_AT_ONCE,
        other_roles=len(ROLES) - 1,
        devices=devices,
    )
    try:
        requirements = plan(work, site)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    if as_json:
        print_json(asdict(requirements))
    else:
        echo(as_text(requirements, work, site))
    if not requirements.is_enough:
        raise SystemExit(1)


def _from_ledger(config: Config | None) -> tuple[StudySizes, dict[str, list[float]]]:
    """What was received and how long analyses took; nothing where there is no configuration."""
    from node.ledger.analysis_statistics import latest_run_seconds
    from node.ledger.engine import snapshot
    from node.ledger.study_sizes import StudySizes, study_sizes
    from node.service import open_storage

    if config is None:
        return StudySizes(studies=0, images=0, size=0), {}
    engine, _ = open_storage(config)
    with snapshot(engine) as connection:
        return study_sizes(connection), latest_run_seconds(connection, _MEASURED)


VERBS = (plan,)
