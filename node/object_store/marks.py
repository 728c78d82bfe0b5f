"""Marks of ledgers in the store: with that of another one nothing is deleted, because packs are named by their content.

Two ledgers below one prefix that received the same series share its pack, and neither knows what the other needs.
"""

from __future__ import annotations

import secrets
import tempfile
from pathlib import Path

import sqlalchemy as sa

from node.errors import AbsentStoreError
from node.ledger.engine import begin_immediate
from node.ledger.packs import verified_packs
from node.ledger.secrets import keep_secret
from node.object_store.store import MARKS, Objects

_NAME = "object store"


def leave_mark(engine: sa.Engine, objects: Objects, *, lost: bool = False) -> str:
    """Leave the mark of this ledger unless it is there; return its name.

    ``lost``: also where the ledger has packs, which this store does not have. Else that raises ``AbsentStoreError``:
    it is another bucket or server, and what is written there, or not found, says nothing of those packs.
    """
    with begin_immediate(engine) as connection:
        mark, _ = keep_secret(connection, _NAME, secrets.token_hex(16))
    name = f"{MARKS}/{mark}"
    if all(of.name != name for of in objects.names(MARKS)):  # a listing says why the store refuses, HEAD does not
        with engine.connect() as connection:
            has_packs = bool(verified_packs(connection, limit=1))
        if has_packs and not lost:
            raise AbsentStoreError(
                f"{objects.where} does not have {name}, which this node has left with its packs; is it another bucket, "
                "prefix or server? If it has lost its content: ainode packs --recover"
            )
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "mark"
            file.write_text("An AI node keeps packs below this prefix. Remove this object only with all of them.\n")
            objects.put_new(name, file)
    return name


def other_marks(engine: sa.Engine, objects: Objects) -> list[str]:
    """Leave the mark of this ledger; return the names of those of others."""
    own = leave_mark(engine, objects)
    return sorted(of.name for of in objects.names(MARKS) if of.name != own)


def discard_other_marks(engine: sa.Engine, objects: Objects) -> None:
    """Remove the marks of other ledgers, whose packs this one knows; one that is alive leaves its mark again.

    That of this ledger is left again where the store has lost it.
    """
    leave_mark(engine, objects, lost=True)
    for name in other_marks(engine, objects):
        objects.delete(name)
