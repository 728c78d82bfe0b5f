"""The node secret, part of every result's UID derivation, which makes UIDs unpredictable.

Who knew them could store an object of his own under them first, and the archive would take the real one for a repeat.
The secret is made once and kept in the ledger, which all machines of a node share, and in a file of the storage
folder: a ledger that is rebuilt from the files takes it from there, so that repeated analyses are the same instances.
"""

from __future__ import annotations

import logging
import os
import re
import secrets
import uuid
from pathlib import Path

from sqlalchemy import Engine

from node.errors import PlatformError
from node.ledger.engine import begin_immediate
from node.ledger.secrets import keep_secret
from node.spool import sync_folder

logger = logging.getLogger(__name__)

FILE = "salt"
"""Its name in the storage folder; only its owner may read it."""
_FORM = re.compile(r"[0-9a-f]{64}")
_NAME = "salt"


def secret_of(engine: Engine, folder: Path) -> str:
    """Return the secret, 64 hexadecimal digits; create it when neither the ledger nor ``folder`` has one.

    The ledger's counts. A file that differs is left as it is, with a warning: it may be the only copy of the secret
    that earlier results were made with. Raises ``PlatformError`` when the file cannot be read or written.
    """
    file = folder / FILE
    try:
        stored = _read(file)
        with begin_immediate(engine) as connection:
            salt, is_new = keep_secret(connection, _NAME, stored or secrets.token_hex(32))
        if not stored:
            _write(file, salt)
    except OSError as error:
        raise PlatformError(f"{file}: {error.strerror}; give the user of the node the right to use it") from error
    if stored and stored != salt:
        logger.warning(
            "%s is not the secret that the ledger has; the ledger's is used. Analyses that were made with the other "
            "one have other UIDs when they are repeated. Remove the file if it belongs to another ledger",
            file,
        )
    elif is_new and stored:
        logger.warning("the ledger is new: it takes the secret of earlier results from %s", file)
    elif is_new and any((folder / "results").iterdir()):
        logger.warning(
            "there are results, but neither the ledger nor %s has the secret of their UIDs; a new one was made, and "
            "analyses that are repeated have other UIDs than before",
            file,
        )
    return salt


def _read(file: Path) -> str:
    """The content of the file; empty when there is none or it is damaged."""
    try:
        text = file.read_text("ascii", "replace").strip()
    except FileNotFoundError:
        return ""
    return text if _FORM.fullmatch(text) else ""


def _write(file: Path, salt: str) -> None:
    """Durable and complete or not there, whoever writes the same at the same time."""
    part = file.with_name(f"{file.name}.{uuid.uuid4().hex}")
    try:
        with part.open("x", encoding="ascii") as opened:
            os.fchmod(opened.fileno(), 0o600)
            opened.write(f"{salt}\n")
            opened.flush()
            os.fsync(opened.fileno())
        part.replace(file)
    except OSError:
        part.unlink(missing_ok=True)
        raise
    sync_folder(file.parent)
