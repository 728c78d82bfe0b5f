"""``ainode fleet``: the processes of all machines that share the ledger."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from node.cli.options import config_option, echo, in_language_of_user, json_option, load, print_json
from node.translation import decimal, gettext, marked, ngettext
from node.translation.cells import padded

_MACHINE = 8
"""Characters of a machine's id that are shown."""
_REMEDY = {
    "incoming": marked("send the series again"),
    "conflicts": marked("send the series again"),
    "results": marked("they are made again unless they were delivered"),
}
_REMADE = marked("it is made again")


@click.command()
@config_option
@json_option
@click.option("--abandon", metavar="MACHINE", help="Treat this machine (name or id) as gone for good, with its disk.")
@in_language_of_user
def fleet(*, config_path: Path, as_json: bool, abandon: str | None) -> None:
    """List the processes of all machines that share this ledger.

    Shows for each its machine, version, pipelines and devices, whether it drains, and how long ago it last beat; then
    for each machine its free space and the offset of its clock from the ledger's. A receiver that died is *lost* until
    a receiver of its machine has recorded the images that it left.
    """
    from node.ledger.published_rules import file_states
    from node.operate.fleet import abandon_machine
    from node.operate.fleet import fleet as read
    from node.operate.fleet_machines import fleet_notices
    from node.operate.published_text import state_lines
    from node.service import open_storage

    engine, _ = open_storage(load(config_path))
    if abandon is not None:
        abandoned = abandon_machine(engine, abandon)
        echo(
            ngettext(
                "{number} lost receiver of {machine} is not waited for any more; what its disk holds is not recorded, "
                "and files with a copy there get another one",
                "{number} lost receivers of {machine} are not waited for any more; what its disk holds is not "
                "recorded, and files with a copy there get another one",
                abandoned.receivers,
                machine=abandon,
            )
        )
        for folder in abandoned.folders:
            remedy = gettext(_REMEDY.get(folder.partition("/")[0], _REMADE))
            echo(gettext("no other machine has {folder}; {remedy}", folder=folder, remedy=remedy))
        return
    members = read(engine)
    with engine.connect() as connection:
        notices, states = fleet_notices(connection, members), file_states(connection)
    if as_json:
        print_json(members)
        return
    _print_members(members)
    _print_machines(members)
    for line in [*notices, *(line for state in states if not state.is_as_published for line in state_lines(state))]:
        echo(line)


def _print_members(members: list[dict[str, Any]]) -> None:
    from node.operate.fleet_machines import load_text

    for member in members:
        role, state = member["role"], member["state"]
        of = member | {
            "role": padded(gettext(role), 9),
            "machine": member["machine"][:_MACHINE],
            "state": ", ".join(filter(None, (gettext(state), load_text(member)))),
            "seconds": f"{member['beat_age_seconds']:.0f}",
        }
        parts = (
            gettext("{role} {host} ({machine}), process {pid}", **of),
            gettext("version {version}, tables {revision}", **of),
            gettext("{state}, beat {seconds} s ago", **of),
        )
        echo("; ".join(parts))
        if member["devices"]:
            pipelines = ", ".join(member["pipelines"]) or gettext("no pipeline")
            devices = ", ".join(member["devices"])
            echo(f"{'':9} " + gettext("{pipelines} on {devices}", pipelines=pipelines, devices=devices))
        if member["files_url"]:
            echo(f"{'':9} " + gettext("serves its files at {url}", url=member["files_url"]))
    if not members:
        echo(gettext("no process is running"))


def _print_machines(members: list[dict[str, Any]]) -> None:
    from node.operate.fleet_machines import fleet_machines, offset_text

    for machine in fleet_machines(members):
        parts = [gettext("machine {host} ({machine})", host=machine.host, machine=machine.machine[:_MACHINE])]
        if machine.space is not None:
            free, total = (decimal(f"{size / 2**30:.1f}") for size in (machine.space.free, machine.space.total))
            parts.append(gettext("{free} of {total} GiB free", free=free, total=total))
        if machine.clock is not None:
            parts.append(gettext("clock {offset} from the ledger's", offset=offset_text(*machine.clock)))
        echo("; ".join(parts))
        for notice in machine.notices():
            echo(f"{'':9} {notice}")


@click.command()
@config_option
@click.argument("machine")
@click.option("--undo", is_flag=True, help="Let the machine work again.")
@click.option(
    "--wait",
    "seconds",
    metavar="SECONDS",
    type=click.FloatRange(min=0),
    help="Wait this long for it to finish its work.",
)
@in_language_of_user
def drain(*, config_path: Path, machine: str, undo: bool, seconds: float | None) -> None:
    """Have a machine finish its work and begin nothing.

    MACHINE is a host name or the beginning of an id, as `ainode fleet` lists them. Within seconds, its receivers reject
    new associations as temporary congestion and serve the open ones to their end, its workers and senders finish what
    they have begun, and other machines do the rest. It stays like this, also after a restart, until `--undo`.
    """
    from node.errors import PlatformError
    from node.operate import fleet as machines
    from node.service import open_storage

    engine, _ = open_storage(load(config_path))
    if undo:
        echo(gettext("{machines}: works again", machines=", ".join(machines.end_drain(engine, machine))))
        return
    names = ", ".join(machines.drain(engine, machine))
    echo(gettext("{machines}: finishes its work and begins nothing; `ainode fleet` shows what is left", machines=names))
    if seconds is None:
        return
    if left := machines.wait_until_idle(engine, machine, seconds):
        raise PlatformError(
            f"{names}: {left} associations, attempts or processes are not finished; `ainode fleet` lists them"
        )
    echo(gettext("{machines}: has finished its work", machines=names))


VERBS = (fleet, drain)
