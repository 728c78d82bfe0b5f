"""``ainode audit``: the audit trail."""

from __future__ import annotations

from pathlib import Path

import click

from node.cli.options import config_option, echo, in_language_of_user, json_option, load, print_json
from node.errors import LedgerError
from node.translation import gettext


@click.group()
def audit() -> None:
    """Verify the audit trail: who did what with which study."""


@audit.command()
@config_option
@json_option
@click.argument("file", required=False, type=click.Path(path_type=Path, dir_okay=False))
@in_language_of_user
def verify(*, config_path: Path, as_json: bool, file: Path | None) -> None:
    """Check that no line of the audit file was changed or removed.

    Exits with status 7 if one was.
    """
    from node.operate.audit.auditor import trail_path
    from node.operate.audit.trail import verify as check

    path = file or trail_path(load(config_path))
    faults = [{"line": number, "fault": fault} for number, fault in check(path)]
    if as_json:
        print_json(faults)
    for fault in faults if not as_json else ():
        echo(f"{path}:{fault['line']}: {fault['fault']}")
    if faults:
        raise LedgerError(
            f"{path}: the hash chain is broken at {len(faults)} line(s); compare with the syslog server's copy"
        )
    if not as_json:
        echo(gettext("{path}: the hash chain is intact", path=path))
