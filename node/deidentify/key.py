"""The key of pseudonyms: in a file of its own, outside the ledger, the same on all machines of a node.

The ledger has its fingerprint, so that a lost or foreign key stops deliveries instead of giving every patient a second
pseudonym. Who destroys the key makes pseudonyms final: nobody can compute them from patients any more.
"""

from __future__ import annotations

import hashlib
import os
from datetime import datetime
from pathlib import Path

from sqlalchemy import Connection, Engine

from node.config import Config
from node.errors import ConfigError, PlatformError
from node.ledger.engine import begin_immediate
from node.ledger.secrets import destroy_secret, keep_secret, stored_secret
from node.spool import write_once

_NAME = "deidentify-key-fingerprint"


def key_file(config: Config) -> Path:
    """Return the place of the key."""
    return config.deidentify.key_file or config.storage.folder / "deidentify-key"


def deidentify_key(config: Config, engine: Engine) -> bytes:
    """Return the key, 32 bytes; make it when this node has never had one. Processes that do so at once agree.

    Raises ``ConfigError`` when the file is missing, holds no key or another one than before, ``PlatformError`` when it
    cannot be read or written.
    """
    file = key_file(config)
    try:
        with begin_immediate(engine) as connection:
            known = stored_secret(connection, _NAME)
            if not file.exists():
                if known is not None:
                    raise ConfigError(
                        f"{file} is missing: it is the key of the pseudonyms that this node has given. Restore it from "
                        "a backup or copy it from another machine of the node, or run `ainode pseudonyms rotate`"
                    )
                write_once(file, f"{os.urandom(32).hex()}\n", 0o600)
            key = _read(file)
            known, _ = keep_secret(connection, _NAME, _fingerprint(key))
    except OSError as error:
        raise PlatformError(f"{file}: {error.strerror}; give the user of the node the right to use it") from error
    if known != _fingerprint(key):
        raise ConfigError(
            f"{file} is not the key that this node has used: patients would get other pseudonyms. Bring the key back, "
            "or run `ainode pseudonyms rotate`"
        )
    return key


def rotate_key(config: Config, connection: Connection) -> Path | None:
    """Make another key; return where the earlier one is now, ``None``: there was none. Raises ``PlatformError``."""
    file = key_file(config)
    earlier = file.with_name(f"{file.name}.until-{datetime.now().astimezone():%Y%m%dT%H%M%S}")
    try:
        earlier_key = earlier if file.exists() else None
        if earlier_key is not None:
            file.rename(earlier_key)
        destroy_secret(connection, _NAME)
        write_once(file, f"{os.urandom(32).hex()}\n", 0o600)
        keep_secret(connection, _NAME, _fingerprint(_read(file)))
    except OSError as error:
        raise PlatformError(f"{file}: {error.strerror}; give the user of the node the right to use it") from error
    return earlier_key


def _fingerprint(key: bytes) -> str:
    return hashlib.sha256(b"fingerprint\0" + key).hexdigest()


def _read(file: Path) -> bytes:
    try:
        key = bytes.fromhex(file.read_text("ascii").strip())
    except ValueError:
        key = b""
    if len(key) != 32:
        raise ConfigError(f"{file} holds no key (64 hexadecimal digits); restore it from a backup")
    return key
