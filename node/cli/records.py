"""``ainode records``: what was decided on each study, kept for years."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import click

from node.cli.options import config_option, echo, in_language_of_user, json_option, load, local_user, print_json
from node.errors import LedgerError, NodeError
from node.translation import gettext


@click.group()
def records() -> None:
    """Export and verify decision records, which outlive the studies."""


@records.command()
@config_option
@click.option("--since", type=click.DateTime(["%Y-%m-%d"]), help="Only records from this day on (local time).")
def export(*, config_path: Path, since: datetime | None) -> None:
    """Print decision records as lines of JSON.

    The first line is the inventory of all models in use; each following line is one record with its signature.
    """
    from node import __version__
    from node.ledger.clock import ledger_clock
    from node.ledger.decision_records import records as rows
    from node.ledger.engine import snapshot
    from node.operate.records.chain import as_line
    from node.operate.records.inventory import inventory
    from node.operate.records.recorder import canonical
    from node.service import open_storage

    config = load(config_path)
    engine, _ = open_storage(config)
    with snapshot(engine) as connection:
        about = {"node": config.ae.title.strip(), "version": __version__, "at": round(ledger_clock(connection), 3)}
        echo(canonical({"inventory": inventory(config, connection), **about}))
        for row in rows(connection, since.astimezone().timestamp() if since else 0.0):
            echo(as_line(row))


@records.command()
@config_option
@json_option
@click.option("--key", "keys", multiple=True, help="Public key that may have signed; several times for several keys.")
@click.argument("file", required=False, type=click.Path(path_type=Path, dir_okay=False))
@in_language_of_user
def verify(*, config_path: Path, as_json: bool, keys: tuple[str, ...], file: Path | None) -> None:
    """Check that no decision record was changed, removed or reordered.

    Checks the ledger, or a FILE of `ainode records export`. Exits with status 7 if a record is at fault.
    """
    from node.ledger.decision_records import records as rows
    from node.ledger.engine import snapshot
    from node.operate.records import chain
    from node.service import open_storage

    if file is not None:
        verification = chain.verify(chain.of_lines(file), trusted=keys, is_whole=False)
    else:
        engine, _ = open_storage(load(config_path))
        with snapshot(engine) as connection:
            verification = chain.verify(chain.of_rows(rows(connection)), trusted=keys)
    if as_json:
        print_json(vars(verification))
    else:
        for fault in verification.faults:
            echo(fault)
        if verification.last is None:
            echo(gettext("there are no records"))
        else:
            echo(
                gettext(
                    "records {first} to {last}; SHA-256 of the last: {digest}",
                    first=verification.first,
                    last=verification.last,
                    digest=verification.digest,
                )
            )
        for key, number in verification.keys.items():
            echo(gettext("{number} signed with key {key}", number=number, key=key))
    if verification.faults:
        raise LedgerError(f"{len(verification.faults)} faults in the decision records; compare with an earlier export")


@records.command()
@config_option
@click.option("--reason", required=True, help="Why; it is kept in the audit trail.")
@click.confirmation_option(prompt="Records written until now can never be assigned to a patient again. Continue?")
def anonymize(*, config_path: Path, reason: str) -> None:
    """Destroy the key of the patients in all records.

    Nobody can compute the hash of a patient any more, and records before and after cannot be linked. Backups still have
    the key.
    """
    from node.ledger.audit_events import add_notice
    from node.ledger.engine import begin_immediate
    from node.ledger.patient_hash import destroy_patient_key
    from node.ledger.states import NoticeKind
    from node.operate.stated_reason import stated_reason
    from node.service import open_storage

    given = stated_reason(reason)
    engine, _ = open_storage(load(config_path))
    with begin_immediate(engine) as connection:
        if not destroy_patient_key(connection):
            raise NodeError("there is no key of patients: no record was written since it was destroyed")
        text = f"destroyed the key of patients in decision records: {given}"
        add_notice(connection, NoticeKind.ACT, who=local_user(), detail=text)
    echo(gettext("the key is destroyed; records from now on have a new one"))
