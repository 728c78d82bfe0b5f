"""``ainode fleet``: the processes of all machines that share the ledger."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from node.cli.options import config_option, echo, json_option, load, print_json

_MACHINE = 8
"""Characters of a machine's id that are shown."""
_REMEDY = {
    "incoming": "send the series again",
    "conflicts": "send the series again",
    "results": "what was not delivered is made again",
}


@click.command()
@config_option
@json_option
@click.option("--abandon", metavar="MACHINE", help="Treat this machine (name or id) as gone for good, with its disk.")
def fleet(*, config_path: Path, as_json: bool, abandon: str | None) -> None:
    """List the processes of all machines that share this ledger.

    Shows for each its machine, version, pipelines and devices, whether it drains, and how long ago it last beat. A
    receiver that died is *lost* until a receiver of its machine has recorded the images that it left.
    """
    from node.operate.fleet import abandon_machine, missing_copies
    from node.operate.fleet import fleet as read
    from node.service import open_storage

    engine, _ = open_storage(load(config_path))
    if abandon is not None:
        abandoned = abandon_machine(engine, abandon)
        lost = f"{abandoned.receivers} lost receivers of {abandon} are not waited for any more"
        echo(f"{lost}; what its disk holds is not recorded, and files with a copy there get another one")
        for folder in abandoned.folders:
            echo(f"no other machine has {folder}; {_REMEDY.get(folder.partition('/')[0], 'it is made again')}")
        return
    members, missing = read(engine), missing_copies(engine)
    if as_json:
        print_json(members)
        return
    for member in members:
        parts = (
            f"{member['role']:9} {member['host']} ({member['machine'][:_MACHINE]}), process {member['pid']}",
            f"version {member['version']}, tables {member['revision']}",
            f"{member['state']}{_busy(member)}, beat {member['beat_age_seconds']:.0f} s ago",
        )
        echo("; ".join(parts))
        if member["devices"]:
            pipelines = ", ".join(member["pipelines"]) or "no pipeline"
            echo(f"{'':9} {pipelines} on {', '.join(member['devices'])}")
        if member["files_url"]:
            echo(f"{'':9} serves its files at {member['files_url']}")
    if missing.files:
        echo(f"{missing.files} files have one copy only; the second one is being made, or waits for another machine")
    if not members:
        echo("no process is running")


def _busy(member: dict[str, Any]) -> str:
    what = {"receiver": "open associations", "worker": "running attempts", "sender": "running attempts"}
    return f", {member['busy']} {what[member['role']]}" if member["role"] in what else ""


@click.command()
@config_option
@click.argument("machine")
@click.option("--undo", is_flag=True, help="Let the machine work again.")
def drain(*, config_path: Path, machine: str, undo: bool) -> None:
    """Have a machine finish its work and begin nothing.

    MACHINE is a host name or the beginning of an id, as `ainode fleet` lists them. Within seconds, its receivers reject
    new associations as temporary congestion and serve the open ones to their end, its workers and senders finish what
    they have begun, and other machines do the rest. It stays like this, also after a restart, until `--undo`.
    """
    from node.operate import fleet as machines
    from node.service import open_storage

    engine, _ = open_storage(load(config_path))
    if undo:
        echo(f"{', '.join(machines.end_drain(engine, machine))}: works again")
        return
    names = ", ".join(machines.drain(engine, machine))
    echo(f"{names}: finishes its work and begins nothing; `ainode fleet` shows what is left")


VERBS = (fleet, drain)
