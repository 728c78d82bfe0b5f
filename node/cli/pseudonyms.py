"""``ainode pseudonyms``: the pseudonyms of destinations with de-identification, and their key."""

from __future__ import annotations

from pathlib import Path

import click

from node.cli.options import config_option, echo, load, local_user
from node.errors import ConfigError, NodeError


@click.group()
def pseudonyms() -> None:
    """Look up pseudonyms of patients, or change their key."""


@pseudonyms.command("of")
@config_option
@click.option("--study", default="", help="Study Instance UID: also print its UID there, and find a study without ID.")
@click.argument("destination")
@click.argument("patient_id")
def show(*, config_path: Path, study: str, destination: str, patient_id: str) -> None:
    """Print the pseudonym that a patient has at DESTINATION.

    Needs the key. The audit trail records that somebody looked, not for whom.
    """
    from node.deidentify.key import deidentify_key
    from node.deidentify.pseudonyms import Pseudonyms
    from node.ledger.audit_events import give_notice
    from node.ledger.states import NoticeKind
    from node.service import open_storage

    config = load(config_path)
    named = config.destinations.get(destination)
    if named is None or not named.deidentify:
        raise ConfigError(f"[destinations.{destination}] has no deidentify; name a destination that has")
    if not patient_id.strip() and not study:
        raise NodeError("give a Patient ID, or --study for a patient without one")
    engine, _ = open_storage(config)
    there = Pseudonyms(deidentify_key(config, engine), destination)
    detail = f"looked up a pseudonym of destination {destination}"
    give_notice(engine, NoticeKind.ACT, who=local_user(), detail=detail)
    echo(there.patient(patient_id, study))
    if study:
        echo(there.uid(study))


@pseudonyms.command()
@config_option
@click.option("--reason", required=True, help="Why; it is kept in the audit trail.")
@click.confirmation_option(
    prompt="Every patient, study and image gets other pseudonyms and UIDs from now on. Continue?"
)
def rotate(*, config_path: Path, reason: str) -> None:
    """Make a new key, with other pseudonyms from now on.

    What is sent from now on cannot be linked with what was sent before. The earlier key is moved aside. Whoever deletes
    it, also in backups, makes earlier pseudonyms final.
    """
    from node.deidentify.key import key_file, rotate_key
    from node.ledger.audit_events import add_notice
    from node.ledger.engine import begin_immediate
    from node.ledger.states import NoticeKind
    from node.operate.stated_reason import stated_reason
    from node.service import open_storage

    given = stated_reason(reason)
    config = load(config_path)
    engine, _ = open_storage(config)
    with begin_immediate(engine) as connection:
        earlier = rotate_key(config, connection)
        text = f"changed the key of pseudonyms: {given}"
        add_notice(connection, NoticeKind.ACT, who=local_user(), detail=text)
    echo(f"wrote a new key to {key_file(config)}")
    if earlier is not None:
        echo(f"the earlier key is {earlier}; delete it, and its backups, when no pseudonym shall be looked up any more")
