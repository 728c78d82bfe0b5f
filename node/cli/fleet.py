"""``ainode fleet``: the processes of all machines that share the ledger."""

from __future__ import annotations

from pathlib import Path

import click

from node.cli.options import config_option, echo, json_option, load, print_json

_MACHINE = 8
"""Characters of a machine's id that are shown."""


@click.command()
@config_option
@json_option
@click.option("--abandon", metavar="MACHINE", help="No longer wait for the disk of this machine (name or id).")
def fleet(*, config_path: Path, as_json: bool, abandon: str | None) -> None:
    """List the processes of all machines that share this ledger.

    Shows for each its machine, version, pipelines and devices, whether it drains, and how long ago it last beat. A
    receiver that died is *lost* until a receiver of its machine has recorded the images that it left.
    """
    from node.operate.fleet import abandon_machine
    from node.operate.fleet import fleet as read
    from node.service import open_storage

    engine, _ = open_storage(load(config_path))
    if abandon is not None:
        count = abandon_machine(engine, abandon)
        echo(f"{count} lost receivers of {abandon} are not waited for any more; what their disk holds is not recorded")
        return
    members = read(engine)
    if as_json:
        print_json(members)
        return
    for member in members:
        parts = (
            f"{member['role']:9} {member['host']} ({member['machine'][:_MACHINE]}), process {member['pid']}",
            f"version {member['version']}, tables {member['revision']}",
            f"{member['state']}, beat {member['beat_age_seconds']:.0f} s ago",
        )
        echo("; ".join(parts))
        if member["devices"]:
            pipelines = ", ".join(member["pipelines"]) or "no pipeline"
            echo(f"{'':9} {pipelines} on {', '.join(member['devices'])}")
    if not members:
        echo("no process is running")


VERBS = (fleet,)
