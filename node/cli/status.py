"""``ainode status``: the state of the node."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from node.cli.options import config_option, echo, in_language_of_user, json_option, load, print_json
from node.translation import gettext, marked
from node.translation.cells import cells, padded

_WIDTH = 16
"""Cells of the labels."""
_LABELS = {
    "images": marked("images"),
    "conflicts": marked("conflicts"),
    "identity_changed": marked("identity changed"),
    "outdated_results": marked("outdated results"),
    "half_corrected": marked("half corrected"),
    "held": marked("held"),
    "merged_patients": marked("merged patients"),
    "quarantined": marked("quarantined"),
    "free_gib": marked("free GiB"),
    "series": marked("series"),
    "jobs": marked("jobs"),
    "outcomes": marked("outcomes"),
    "deliveries": marked("deliveries"),
    "commitments": marked("commitments"),
    "procedure_steps": marked("procedure steps"),
    "processes": marked("processes"),
}
"""Of what the status counts."""
_TURNAROUND = marked("turnaround 24 h")
_STAGES = marked("time 24 h")


@click.command()
@config_option
@json_option
@click.option("--studies", default=20, show_default=True, help="Number of latest studies to list.")
@click.argument("name", metavar="[STUDY]", required=False)
@in_language_of_user
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
    width = max(_WIDTH, *(cells(gettext(label)) for label in (*_LABELS.values(), _TURNAROUND, _STAGES)))
    for key, label in _LABELS.items():
        counted = summary[key]
        if isinstance(counted, Mapping):
            counted = ", ".join(f"{n} {gettext(what)}" for what, n in counted.items()) or gettext("none")
        echo(f"{padded(gettext(label), width)} {counted}")
    for row in summary["turnaround"]:
        median, most, _ = row["quantiles"].values()
        sentence = gettext(
            "{pipeline}, {scanner}: {analyses} analyses, median {median:.0f} s, 90 % within {most:.0f} s, longest "
            "{longest:.0f} s",
            scanner=row["scanner"] or gettext("unnamed scanner"),
            median=median,
            most=most,
            **{key: row[key] for key in ("pipeline", "analyses", "longest")},
        )
        echo(f"{padded(gettext(_TURNAROUND), width)} {sentence}")
    for pipeline, stages in summary["turnaround_stages"].items():
        medians = gettext("{pipeline}, medians: {stages}", pipeline=pipeline, stages=stage_text(stages))
        echo(f"{padded(gettext(_STAGES), width)} {medians}")
    _echo_waiting(summary)
    for destination in summary["down"]:
        times = {"since": clock(destination["opened_at"]), "probe": clock(destination["probe_at"])}
        text = (
            marked("PAUSED since {since}: {destination}, until it is resumed")
            if destination["paused"]
            else marked("DOWN since {since}: {destination}, next probe {probe}")
        )
        echo(gettext(text, destination=destination["destination"], **times))
        echo(f"  {destination['error']}")
    _echo_late(summary)
    for study in summary["studies"]:
        _echo_study(study)


def _echo_late(summary: Mapping[str, Any]) -> None:
    from node.operate.explain import clock

    for receiver in summary["lost"]:
        since = clock(receiver["last_beat_at"])
        echo(gettext("LOST since {since}: a receiver on {host}", since=since, host=receiver["host"]))
        echo("  " + gettext("images that it acknowledged may wait on its disk; start a receiver there"))
    for machine in summary["drained"]:
        since = clock(machine["since"])
        echo(gettext("DRAINED since {since}: {host} begins nothing", since=since, host=machine["host"]))
        echo("  " + gettext("`ainode drain --undo {host}` lets it work again", host=machine["host"]))
    for destination in summary["overdue"]:
        echo(gettext("OVERDUE: job {job_id} to {destination}: {error}", **destination))


def _echo_waiting(summary: Mapping[str, Any]) -> None:
    """Pipelines whose jobs wait for more than their turn, or whose results are not sent."""
    from node.operate.explain import clock

    for row in summary["failing"]:
        times = {"since": clock(row["since"]), "until": clock(row["until"])}
        echo(gettext("FAILING since {since}: pipeline {pipeline}, {failures} jobs in a row", **row | times))
        echo("  " + gettext("next attempt after {until}", **times))
    for row in summary["in_shadow"]:
        values = row | {"since": clock(row["since"])}
        echo(gettext("IN SHADOW since {since}: pipeline {pipeline}, its results are sent nowhere", **values))
        echo("  " + gettext("{reason}; `ainode resume {pipeline} --reason ...` sends them again", **values))
    for row in summary["promotions"]:
        values = row | {"since": clock(row["promoted_at"])}
        echo(gettext("PROMOTED since {since}: {candidate} in the place of {champion}", **values))
        echo("  " + gettext("by {who}: {reason}", **values))
    for row in summary["without_worker"]:
        echo(gettext("NO WORKER: {number} jobs wait for pipeline {name}, which no live worker has", **row))


def _echo_study(study: Mapping[str, Any]) -> None:
    from node.ledger import ACTIVE
    from node.operate.explain import clock

    progress = study["progress"]
    echo(f"\n{clock(study['last_at'])}  {study['study_instance_uid']}: {gettext(progress)}")
    names = (study["patient"], study["patient_id"], study["accession"], study["description"])
    if any(names):
        echo("  " + " · ".join(name for name in names if name))
    for series in study["each_series"]:
        called = f" {series['description']!r}" if series["description"] else ""
        what = f"{series['modality'] or gettext('no modality')}{called}"
        progress = series["progress"]
        images = gettext("{images} images: {progress}", images=series["images"], progress=gettext(progress))
        echo(f"  {what}, {images}")
    for job in study["jobs"]:
        at, cause = job["stage"] if job["state"] in ACTIVE else job["outcome"] or "", job["shadow"]
        of = gettext("job {id}", id=job["id"])
        kept = gettext(", in shadow: {cause}", cause=gettext(cause)) if cause else ""
        echo(f"  {job['pipeline']}: {job['state']} {gettext(at)}{kept}  ({of})")


VERBS = (status,)
