"""``ainode status``: the state of the node."""

from __future__ import annotations

from pathlib import Path

import click

from node.cli.options import config_option, echo, json_option, load, print_json


@click.command()
@config_option
@json_option
@click.option("--studies", default=20, show_default=True, help="Number of latest studies to list.")
def status(*, config_path: Path, as_json: bool, studies: int) -> None:
    """Show counts, waiting and failed work, and the latest studies."""
    from node.ledger import ACTIVE
    from node.operate.explain import clock
    from node.operate.status import status as read
    from node.service import open_storage

    config = load(config_path)
    engine, _ = open_storage(config)
    summary = read(engine, config.storage.folder, studies)
    if as_json:
        print_json(summary)
        return
    conflicts = ("conflicts", "identity_changed", "outdated_results", "half_corrected", "held")
    for key in ("images", *conflicts, "quarantined", "free_gib"):
        echo(f"{'free GiB' if key == 'free_gib' else key.replace('_', ' '):16} {summary[key]}")
    for key in ("series", "jobs", "outcomes", "deliveries", "commitments", "procedure_steps", "processes"):
        label = "workers, senders" if key == "processes" else key.replace("_", " ")
        echo(f"{label:16} " + (", ".join(f"{n} {what}" for what, n in summary[key].items()) or "none"))
    for destination in summary["down"]:
        how, until = (
            ("PAUSED", "until it is resumed")
            if destination["paused"]
            else ("DOWN", f"next probe {clock(destination['probe_at'])}")
        )
        echo(f"{how} since {clock(destination['opened_at'])}: {destination['destination']}, {until}")
        echo(f"  {destination['error']}")
    for destination in summary["overdue"]:
        echo(f"OVERDUE: job {destination['job_id']} to {destination['destination']}: {destination['error']}")
    for study in summary["studies"]:
        echo(f"\n{clock(study['last_at'])}  {study['study_instance_uid']}")
        echo(f"  {study['series']} series, {study['images']} images")
        for job in study["jobs"]:
            at = job["stage"] if job["state"] in ACTIVE else job["outcome"] or ""
            echo(f"  {job['pipeline']}: {job['state']} {at}  (job {job['id']})")


VERBS = (status,)
