"""Backup and restore: ledger, configuration, users and audit trail in a folder, with the DICOM files if wanted.

The node may run meanwhile. The ledger is that of one moment. Files are write-once, so those that the ledger names are
as they were; the audit trail is copied after the ledger and repeats nothing that it lacks.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import sqlalchemy as sa

from node import __version__
from node.config import Config, load
from node.config.secret_files import secret_files
from node.errors import InputError, PlatformError
from node.ledger.copying import copy_ledger, infer_again, recorded_paths
from node.ledger.engine import begin_immediate, ledger_url, open_ledger
from node.spool import DATA_FOLDERS, Spool

_MANIFEST, _LEDGER, _CONFIG, _FILES = "manifest.json", "ledger.sqlite", "config.toml", "files"
_KEPT = {"[audit] file": "audit.log", "[web] users_file": "web-users"}
"""Name in the backup by key of ``config.toml``."""
_OWN = "[storage] folder"
"""Key under which ``secret_files`` names the ledger and the secret, which the ledger has."""


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a backup holds."""

    version: str
    """Of the node that made it."""
    made_at: float
    rows: int
    """Of the ledger."""
    digests: dict[str, str]
    """SHA-256 by name in the backup, without the DICOM files: the ledger has their digests."""
    files: int | None
    """Number of DICOM files; ``None``: they are not in it."""
    keys: dict[str, str]
    """Path on the node -> name in the backup; "": a key or password that is not in it."""


def back_up(config: Config, config_path: Path, folder: Path, *, files: bool, keys: bool) -> Manifest:
    """Write a backup to ``folder``, which must not exist; it appears there when it is complete.

    Raises ``InputError`` when it exists, ``PlatformError`` when it cannot be written.
    """
    if folder.exists():
        raise InputError(f"{folder} exists; name a folder that does not, for example one with today's date")
    storage, part = config.storage.folder, folder.with_name(f"{folder.name}.partial")
    with _writing(part):
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(mode=0o700, parents=True)
        if files:  # before the ledger, so that what retention purges meanwhile is there; then what has come since
            _place(storage, part / _FILES, _files(storage))
        rows = _ledger(config, part / _LEDGER)
        count = _complete(storage, part) if files else None
        shutil.copyfile(config_path, part / _CONFIG)
        named: dict[str, str] = {}
        for number, (key, path) in enumerate(secret_files(config)):
            if key == _OWN or not path.is_file():
                continue
            name = _KEPT.get(key, f"key-{number}" if keys else "")
            if name:
                _copy_lines(path, part / name) if key == "[audit] file" else shutil.copyfile(path, part / name)
            if key not in _KEPT:
                named[str(path)] = name
        digests = {path.name: _sha256(path) for path in sorted(part.iterdir()) if path.is_file()}
        manifest = Manifest(
            version=__version__, made_at=time.time(), rows=rows, digests=digests, files=count, keys=named
        )
        (part / _MANIFEST).write_text(json.dumps(asdict(manifest), indent=2), encoding="utf-8")
        for path in part.iterdir():
            if path.is_file():
                path.chmod(0o600)
        os.sync()
        part.rename(folder)
    return manifest


def restore(folder: Path, config_path: Path) -> tuple[Config, Manifest]:
    """Make a node of a backup: its configuration at ``config_path`` unless there is one, then what that names.

    Raises ``InputError`` for a folder that is no whole backup, ``LedgerError`` when the ledger is in use,
    ``PlatformError`` when a file is there already or cannot be written. Then the ledger is as empty as before.
    """
    manifest = read_manifest(folder)
    with _writing(config_path):
        if not config_path.exists():
            config_path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / _CONFIG, config_path)
        config = load(config_path)
        spool = Spool(config.storage.folder)
        secrets = {key: path for key, path in secret_files(config) if key in _KEPT}
        wanted = {path: _KEPT[key] for key, path in secrets.items() if _KEPT[key] in manifest.digests}
        wanted |= {Path(path): name for path, name in manifest.keys.items() if name}
        for path in wanted:
            if path.exists():
                raise PlatformError(f"{path} exists; restore to a machine without a node, or move the file away")
        if manifest.files is not None:
            _place(folder / _FILES, spool.folder, _files(folder / _FILES))
        with TemporaryDirectory(dir=spool.folder, prefix="restore-") as name:
            copy = Path(name) / _LEDGER  # opening it may upgrade its tables
            shutil.copyfile(folder / _LEDGER, copy)
            origin, target = open_ledger(f"sqlite:///{copy}"), _open(config)
            copy_ledger(origin, target)
            origin.dispose()
            with begin_immediate(target) as connection:
                infer_again(connection)
            target.dispose()
        for path, name in wanted.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / name, path)
            path.chmod(0o600)
    return config, manifest


def read_manifest(folder: Path) -> Manifest:
    """Read and check a backup. Raises ``InputError`` when it is none, or a file of it is missing or altered."""
    try:
        manifest = Manifest(**json.loads((folder / _MANIFEST).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{folder}: no backup ({error}); give the folder that `ainode backup` made") from None
    for name, digest in manifest.digests.items():
        if not (folder / name).is_file() or _sha256(folder / name) != digest:
            raise InputError(f"{folder / name}: missing or altered since the backup was made; take another backup")
    return manifest


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise PlatformError(f"{error.filename or path}: {error.strerror}; check rights and free space") from error


def _open(config: Config) -> sa.Engine:
    return open_ledger(ledger_url(config.storage.ledger_url, config.storage.folder))


def _ledger(config: Config, path: Path) -> int:
    origin, target = _open(config), open_ledger(f"sqlite:///{path}")
    try:
        rows = copy_ledger(origin, target)
    finally:
        origin.dispose()
        _close(target)
    return rows


def _close(engine: sa.Engine) -> None:
    """Leave one file of SQLite, without journals."""
    with engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA journal_mode=DELETE")
    engine.dispose()


def _files(folder: Path) -> set[str]:
    """Relative paths of all DICOM files of a storage folder."""
    below = (path for root in DATA_FOLDERS for path in (folder / root).rglob("*"))
    return {str(path.relative_to(folder)) for path in below if path.is_file()}


def _complete(storage: Path, part: Path) -> int:
    """Add the files that came before the ledger was copied, and remove those that came after; return the number."""
    engine = open_ledger(f"sqlite:///{part / _LEDGER}")
    with engine.connect() as connection:
        recorded = recorded_paths(connection)
    _close(engine)
    there = _files(part / _FILES)
    for path in there - recorded:
        file = part / _FILES / path
        file.unlink()
        for folder in (file.parent, file.parent.parent):
            with suppress(OSError):  # not empty
                folder.rmdir()
    _place(storage, part / _FILES, recorded - there)
    return len(_files(part / _FILES))


def _place(origin: Path, target: Path, paths: Iterable[str]) -> None:
    """Link files (they are never modified), or copy them to another file system."""
    target.mkdir(mode=0o750, exist_ok=True)
    for path in paths:
        (target / path).parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        with suppress(FileExistsError, FileNotFoundError):  # there already; purged at this moment
            try:
                os.link(origin / path, target / path)
            except OSError as error:
                if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP):
                    raise
                shutil.copy2(origin / path, target / path)


def _copy_lines(path: Path, target: Path) -> None:
    """Copy the whole lines of a file that grows."""
    shutil.copyfile(path, target)
    with target.open("rb+") as file:
        end = file.seek(0, os.SEEK_END)
        while end and os.pread(file.fileno(), 1, end - 1) != b"\n":
            end -= 1
        file.truncate(end)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
