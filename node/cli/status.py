"""``ainode status``: the state of the node."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from node.cli.options import config_option, echo, json_option, load, print_json


@click.command()
@config_option
@json_option
@click.option("--studies", default=20, show_default=True, help="Number of latest studies to list.")
@click.argument("name", metavar="[STUDY]", required=False)
def status(*, config_path: Path, as_json: bool, studies: int, name: str | None) -> None:
    """Show counts, waiting and failed work, and the latest studies.

    With STUDY, named as for `ainode explain`, list only that one.
    """
    from node.operate.explain import clock
    from node.operate.lookup import find_studies, read_labels
    from node.operate.stage_text import stage_text
    from node.operate.status import status as read
    from node.service import open_storage

    config = load(config_path)
    engine, spool = open_storage(config)
    chosen = studies if name is None else find_studies(config, engine, spool, name)
    summary = read(engine, config.storage.folder, chosen)
    labels = read_labels(config, engine, spool, [study["study_instance_uid"] for study in summary["studies"]])
    for study in summary["studies"]:
        called = labels[study["study_instance_uid"]]
        study |= {key: getattr(called, key) for key in ("patient", "patient_id", "accession", "description")}
        for series in study["each_series"]:
            series["description"] = called.series.get(series["series_instance_uid"], "")
    if as_json:
        print_json(summary)
        return
    conflicts = ("conflicts", "identity_changed", "outdated_results", "half_corrected", "held")
    for key in ("images", *conflicts, "quarantined", "free_gib"):
        echo(f"{'free GiB' if key == 'free_gib' else key.replace('_', ' '):16} {summary[key]}")
    for key in ("series", "jobs", "outcomes", "deliveries", "commitments", "procedure_steps", "processes"):
        echo(f"{key.replace('_', ' '):16} " + (", ".join(f"{n} {what}" for what, n in summary[key].items()) or "none"))
    for one in summary["turnaround"]:
        median, most, _ = one["quantiles"].values()
        of = f"{one['pipeline']}, {one['scanner'] or 'unnamed scanner'}: {one['analyses']} analyses"
        echo(f"turnaround 24 h  {of}, median {median:.0f} s, 90 % within {most:.0f} s, longest {one['longest']:.0f} s")
    for pipeline, stages in summary["turnaround_stages"].items():
        echo(f"time 24 h        {pipeline}, medians: {stage_text(stages)}")
    _echo_waiting(summary)
    for destination in summary["down"]:
        how, until = (
            ("PAUSED", "until it is resumed")
            if destination["paused"]
            else ("DOWN", f"next probe {clock(destination['probe_at'])}")
        )
        echo(f"{how} since {clock(destination['opened_at'])}: {destination['destination']}, {until}")
        echo(f"  {destination['error']}")
    _echo_late(summary)
    for study in summary["studies"]:
        _echo_study(study)


def _echo_late(summary: Mapping[str, Any]) -> None:
    from node.operate.explain import clock

    for receiver in summary["lost"]:
        echo(f"LOST since {clock(receiver['last_beat_at'])}: a receiver on {receiver['host']}")
        echo("  images that it acknowledged may wait on its disk; start a receiver there")
    for machine in summary["drained"]:
        echo(f"DRAINED since {clock(machine['since'])}: {machine['host']} begins nothing")
        echo(f"  `ainode drain --undo {machine['host']}` lets it work again")
    for destination in summary["overdue"]:
        echo(f"OVERDUE: job {destination['job_id']} to {destination['destination']}: {destination['error']}")


def _echo_waiting(summary: Mapping[str, Any]) -> None:
    """Pipelines whose jobs wait for more than their turn, or whose results are not sent."""
    from node.operate.explain import clock

    for one in summary["failing"]:
        echo(f"FAILING since {clock(one['since'])}: pipeline {one['pipeline']}, {one['failures']} jobs in a row")
        echo(f"  next attempt after {clock(one['until'])}")
    for one in summary["in_shadow"]:
        echo(f"IN SHADOW since {clock(one['since'])}: pipeline {one['pipeline']}, its results are sent nowhere")
        echo(f"  {one['reason']}; `ainode resume {one['pipeline']} --reason ...` sends them again")
    for one in summary["promotions"]:
        echo(f"PROMOTED since {clock(one['promoted_at'])}: {one['candidate']} in the place of {one['champion']}")
        echo(f"  by {one['who']}: {one['reason']}")
    for one in summary["without_worker"]:
        echo(f"NO WORKER: {one['number']} jobs wait for pipeline {one['name']}, which no live worker has")


def _echo_study(study: Mapping[str, Any]) -> None:
    from node.ledger import ACTIVE
    from node.operate.explain import clock

    echo(f"\n{clock(study['last_at'])}  {study['study_instance_uid']}: {study['progress']}")
    names = (study["patient"], study["patient_id"], study["accession"], study["description"])
    if any(names):
        echo("  " + " · ".join(name for name in names if name))
    for series in study["each_series"]:
        called = f" {series['description']!r}" if series["description"] else ""
        echo(f"  {series['modality'] or 'no modality'}{called}, {series['images']} images: {series['progress']}")
    for job in study["jobs"]:
        at = job["stage"] if job["state"] in ACTIVE else job["outcome"] or ""
        kept = f", in shadow: {job['shadow']}" if job["shadow"] else ""
        echo(f"  {job['pipeline']}: {job['state']} {at}{kept}  (job {job['id']})")


VERBS = (status,)
