"""Secrets that the node shares with a program that calls it: a proxy, a client of DICOMweb."""

from __future__ import annotations

from pathlib import Path

from node.errors import ConfigError

_SHORTEST = 32
"""Characters."""


def read_secret(path: Path, key: str) -> str:
    """Read a secret, at each use: a renewed one counts at once. ``key``: of the configuration.

    Raises ``ConfigError`` when the file cannot be read, or its secret is too short.
    """
    try:
        secret = path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{key} {path}: cannot be read ({error})") from error
    if len(secret) < _SHORTEST:
        raise ConfigError(
            f"{key} {path}: {len(secret)} characters; use at least {_SHORTEST}, for example of `openssl rand -hex 32`"
        )
    return secret
