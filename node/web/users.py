"""The users file: one line per user, ``name:role:hash`` or ``name:role:hash:expires``, with an scrypt hash (RFC 7914).

``expires`` is the last day on which the user may log in, as 2026-12-31.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Literal, get_args

from node.config import Web
from node.errors import ConfigError, NotFoundError

Role = Literal["view", "read", "operate", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)
"""``view`` sees everything; ``read`` may also give verdicts on results, ``operate`` retry, cancel, pause, stop and edit
rules; ``admin`` may what ``operate`` may, and add, change and remove users."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}", re.ASCII)
_N, _R, _P = 2**15, 8, 1
"""Cost: 32 MiB and about 0.1 s for each guess (OWASP Password Storage Cheat Sheet)."""
MIN_LENGTH = 10
"""Characters of a password."""


@dataclass(frozen=True, kw_only=True)
class User:
    """A user of the dashboard."""

    name: str
    role: Role
    password: str = ""
    """``scrypt$SALT$KEY`` in base64; empty: only a reverse proxy can vouch for this user."""
    expires: date | None = None
    """The last day, local; ``None``: the user does not expire."""

    def may(self, role: Role) -> bool:
        """Whether the user has what a role has: an administrator is an operator too, but no reader."""
        return self.role == role or (self.role == "admin" and role == "operate")

    @property
    def stamp(self) -> str:
        """Changes with password or role: a session made before is over then."""
        return hashlib.sha256(f"{self.name}:{self.role}:{self.password}".encode()).hexdigest()[:16]

    @property
    def line(self) -> str:
        """Of the users file."""
        expires = f":{self.expires.isoformat()}" if self.expires else ""
        return f"{self.name}:{self.role}:{self.password}{expires}"

    @property
    def is_expired(self) -> bool:
        """Whether the last day is over."""
        return self.expires is not None and datetime.now(UTC).astimezone().date() > self.expires


def users_path(web: Web, folder: Path) -> Path:
    """Return the path of the users file."""
    return web.users_file or folder / "web-users"


def check_name(name: str) -> None:
    """Raise ``ConfigError`` if the name is invalid."""
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"user {name!r}: use letters, digits and . _ @ - (at most 64, beginning with letter or digit)"
        )


def make_user(name: str, role: Role, password: str) -> User:
    """A user with a hashed password. Raises ``ConfigError`` when name or password will not do."""
    check_name(name)
    if len(password) < MIN_LENGTH:
        raise ConfigError(f"password of {name!r} has {len(password)} characters; use at least {MIN_LENGTH}")
    salt = secrets.token_bytes(16)
    return User(name=name, role=role, password=f"scrypt${_text(salt)}${_text(_derive(password, salt))}")


def matches(user: User | None, password: str) -> bool:
    """Whether the password is the user's; takes as long for a user who does not exist."""
    scheme, _, rest = (user.password if user else "").partition("$")
    salt, _, key = rest.partition("$")
    derived = _derive(password, b64decode(salt) if scheme == "scrypt" else b"no such user ...")
    return scheme == "scrypt" and hmac.compare_digest(derived, b64decode(key))


def read_users(path: Path) -> dict[str, User]:
    """Users by name; none when there is no file. Raises ``ConfigError`` naming the line that cannot be read."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return {}
    users = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("#"):
            continue
        name, role, password, expires = (*line.strip().split(":"), "", "", "")[:4]
        if not _NAME.fullmatch(name) or role not in ROLES:
            raise ConfigError(f"{path}, line {number}: is not NAME:ROLE:HASH with a role of {', '.join(ROLES)}")
        try:
            last = date.fromisoformat(expires) if expires else None
        except ValueError:
            raise ConfigError(f"{path}, line {number}: {expires!r} is no day; write it as 2026-12-31") from None
        users[name] = User(name=name, role=role, password=password, expires=last)
    return users


def write_user(path: Path, user: User) -> None:
    """Add or replace a user; the file is replaced in one step and readable by its owner only."""
    _write_users(path, {**read_users(path), user.name: user})


def remove_user(path: Path, name: str) -> None:
    """Remove a user. Raises ``NotFoundError``."""
    users = read_users(path)
    if name not in users:
        raise NotFoundError(f"user {name!r} is not in {path}; `ainode web users` lists all")
    del users[name]
    _write_users(path, users)


def _write_users(path: Path, users: Mapping[str, User]) -> None:
    part = path.with_name(path.name + ".part")
    part.unlink(missing_ok=True)
    descriptor = os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.writelines(f"{user.line}\n" for user in users.values())
    part.replace(path)


def _derive(password: str, salt: bytes) -> bytes:
    return hashlib.scrypt(password.encode(), salt=salt, n=_N, r=_R, p=_P, maxmem=2**27, dklen=32)


def _text(raw: bytes) -> str:
    return b64encode(raw).decode("ascii")
