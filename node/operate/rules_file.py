"""The configuration file as the dashboard edits it: its rules and destinations, written, with all versions kept."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from node.config.loader import read
from node.config.rules_text import changed_config, rules_text
from node.errors import ConfigError, PlatformError
from node.spool.files import sync_folder

FOLDER = "rules-versions"
"""Of the versions, in the storage folder."""


@dataclass(frozen=True, kw_only=True)
class RulesVersion:
    """Rules and destinations as they were written once."""

    number: int
    """From 1."""
    at: float
    """Seconds since 1970 UTC, by the clock of the machine."""
    who: str
    """Empty: found in the file, where somebody had edited it."""
    why: str
    text: str


@dataclass(frozen=True, kw_only=True, eq=False)
class RulesFile:
    """The file, the folder of the versions, and what makes the node read the file again."""

    path: Path
    folder: Path
    reload: Callable[[], None]
    _writing: threading.Lock = field(default_factory=threading.Lock)

    def whole(self) -> str:
        """Return the file. Raises ``ConfigError`` when it cannot be read."""
        return read(self.path)

    @property
    def is_writable(self) -> bool:
        """Whether this process may replace the file."""
        target = self.path.resolve()
        return os.access(target, os.W_OK) and os.access(target.parent, os.W_OK)

    def versions(self) -> list[RulesVersion]:
        """Newest first."""
        paths = sorted(self.folder.glob("*.json"), reverse=True)
        return [RulesVersion(**json.loads(path.read_text(encoding="utf-8"))) for path in paths]

    def apply(self, part: str, *, instead_of: str, who: str, why: str, tables: str = "") -> RulesVersion:
        """Write rules and destinations to the file, keep the version, and have the node read the file again.

        ``instead_of``: what they were when the editor was opened. ``tables``: other tables, which are added at the end
        and belong to no version. Raises ``ConfigError`` when they are others by now,
        or not valid, and ``PlatformError`` when the file cannot be written.
        """
        with self._writing:
            text = self.whole()
            before = rules_text(text)
            if before != instead_of:
                raise ConfigError("the file was changed meanwhile; open the editor again, and compare")
            longer = f"{text.rstrip()}\n\n{tables}" if tables else text
            changed, _ = changed_config(longer, part, str(self.path))
            new = self._write(text, changed, who=who, why=why)
        self.reload()
        return new

    def _write(self, text: str, changed: str, *, who: str, why: str, whole: bool = False) -> RulesVersion:
        """Replace the file and keep the version. ``whole``: more than rules and destinations change; keep all of it."""
        if not self.is_writable:
            raise PlatformError(f"{self.path} was not changed: the node may not write it")
        before, versions = rules_text(text), self.versions()
        number = versions[0].number if versions else 0
        try:
            if not versions or versions[0].text != before:
                number += 1
                self._keep(RulesVersion(number=number, at=self.path.stat().st_mtime, who="", why="", text=before))
            if whole:
                self._keep_text(f"{number:06d}.toml", text)
            new = RulesVersion(number=number + 1, at=time.time(), who=who, why=why, text=rules_text(changed))
            self._keep(new)
            _replace(self.path.resolve(), changed)
        except OSError as error:
            raise PlatformError(f"{self.path} was not changed: {error.strerror}") from error
        return new

    def _keep(self, version: RulesVersion) -> None:
        self._keep_text(f"{version.number:06d}.json", json.dumps(asdict(version)))

    def _keep_text(self, name: str, text: str) -> None:
        self.folder.mkdir(mode=0o750, exist_ok=True)
        path = self.folder / name
        path.touch(mode=0o640)
        path.write_text(text, encoding="utf-8")
        if os.geteuid() == 0:  # a command of root; the dashboard has to read it as well
            owner = self.folder.parent.stat()
            for place in (self.folder, path):
                os.chown(place, owner.st_uid, owner.st_gid)


def _replace(path: Path, text: str) -> None:
    """Replace a file whole, with its mode and, where this is allowed, its owner."""
    status = path.stat()
    part = path.with_name(path.name + ".part")
    with part.open("w", encoding="utf-8") as file:
        os.fchmod(file.fileno(), status.st_mode & 0o777)
        if (os.geteuid(), os.getegid()) != (status.st_uid, status.st_gid):
            os.fchown(file.fileno(), status.st_uid if os.geteuid() == 0 else -1, status.st_gid)
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    sync_folder(path.parent)
