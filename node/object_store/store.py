"""The object store: named objects that are written once, read in ranges, listed and deleted.

obstore is imported when a store is opened. Its errors become ``AbsentFileError``: the store may come back.
"""

from __future__ import annotations

import configparser
import mmap
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from node.config import ObjectStoreTable
from node.errors import AbsentFileError, ConfigError, PlatformError
from node.tls import path_of

if TYPE_CHECKING:
    from obstore.store import ClientConfig, ObjectStore, RetryConfig

SILENCE_SECONDS = 20.0
"""A store that sends nothing for this long is treated as unreachable."""
UPLOAD_SECONDS = 1800.0
"""Longest time of one upload, which is less than the age at which one counts as cut off."""
STALE_SECONDS = 4 * UPLOAD_SECONDS
"""A claim that is older was left by a process that has died: upload and verification are over by then."""
_RETRIES, _RETRY_SECONDS = 2, 20.0
_LONGEST_ERROR = 300
_KEYS = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")


MARKS = "nodes"
"""Folder of the marks of ledgers; see ``node.object_store.marks``."""


class StoredObject(NamedTuple):
    """An object as the store lists it."""

    name: str
    size: int
    modified_at: float
    """Seconds since 1970 UTC, by the clock of the store."""


class Objects:
    """The objects below the prefix of one node; any thread may call.

    Every method raises ``AbsentFileError`` when the store does not answer or refuses.
    """

    def __init__(self, where: str, reading: ObjectStore, writing: ObjectStore) -> None:
        """``where``: what messages call the store. ``reading``, ``writing``: clients with their own time limits."""
        self.where = where
        self._reading = reading
        self._writing = writing

    def put_new(self, name: str, file: Path) -> bool:
        """Write an object from a file; ``False`` when there is one of this name, which stays as it is."""
        import obstore

        with self._explained(f"write {name}"), file.open("rb") as content, _mapped(content.fileno()) as data:
            try:
                obstore.put(self._writing, name, data, mode="create", use_multipart=False)
            except obstore.exceptions.AlreadyExistsError:
                return False
        return True

    def size(self, name: str) -> int | None:
        """Return the size of an object; ``None`` when there is none."""
        found = self.find(name)
        return found and found.size

    def find(self, name: str) -> StoredObject | None:
        """Return what the store says of an object; ``None`` when there is none."""
        import obstore

        with self._explained(f"look for {name}"):
            try:
                of = obstore.head(self._reading, name)
            except (obstore.exceptions.NotFoundError, FileNotFoundError):
                return None
        return StoredObject(name, int(of["size"]), of["last_modified"].timestamp())

    def answer_for_packs(self) -> None:
        """Raise ``AbsentFileError`` unless a node has left its mark here: no answer on a pack counts without it.

        A bucket, prefix or server that is another one has no pack either, and none is lost by that.
        """
        if not any(self.names(MARKS)):
            raise AbsentFileError(f"{self.where} has nothing of this node; is it another bucket, prefix or server?")

    def read(self, name: str, ranges: Sequence[tuple[int, int]]) -> list[memoryview]:
        """Return the bytes of ranges, each a position and a length.

        Raises ``PlatformError`` when the store has packs, but not this object: it is lost.
        """
        import obstore

        with self._explained(f"read {name}"):
            starts, lengths = [start for start, _ in ranges], [length for _, length in ranges]
            try:
                parts = obstore.get_ranges(self._reading, name, starts=starts, lengths=lengths)
            except (obstore.exceptions.NotFoundError, FileNotFoundError) as error:
                raise self._lost(name) from error
        views = [memoryview(part) for part in parts]
        if [len(view) for view in views] != lengths:
            raise AbsentFileError(f"{self.where}: {name} was cut off in transfer; it is tried again")
        return views

    def stream(self, name: str) -> Iterator[memoryview]:
        """Yield the bytes of an object in order. Raises ``PlatformError`` when there is none."""
        import obstore

        with self._explained(f"read {name}"):
            try:
                parts = obstore.get(self._reading, name).stream()
            except (obstore.exceptions.NotFoundError, FileNotFoundError) as error:
                raise self._lost(name) from error
            for part in parts:
                yield memoryview(part)

    def names(self, below: str) -> Iterator[StoredObject]:
        """Yield every object whose name begins with the folder ``below``."""
        import obstore

        with self._explained(f"list {below}"):
            for part in obstore.list(self._reading, below):
                for of in part:
                    yield StoredObject(str(of["path"]), int(of["size"]), of["last_modified"].timestamp())

    def delete(self, name: str) -> None:
        """Delete an object; one that is not there is no error."""
        import obstore

        with self._explained(f"delete {name}"):
            try:
                obstore.delete(self._writing, name)
            except (obstore.exceptions.NotFoundError, FileNotFoundError):
                return

    def _lost(self, name: str) -> PlatformError:
        self.answer_for_packs()
        return PlatformError(f"{self.where} has no {name} any more; `ainode verify` says what is lost")

    @contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        from obstore.exceptions import BaseError

        try:
            yield
        except (BaseError, OSError) as error:
            reason = " ".join(str(error).split())[:_LONGEST_ERROR] or type(error).__name__
            raise AbsentFileError(f"{self.where} does not {what}: {reason}") from error


def open_objects(of: ObjectStoreTable) -> Objects:
    """Open the store of ``[storage.object_store]``; nothing is sent yet.

    Raises ``ConfigError`` when a file cannot be used, ``PlatformError`` when obstore is not installed.
    """
    try:
        from obstore.store import S3Store
    except ImportError as error:
        raise PlatformError("obstore is not installed; pip install 'ainode[object-store]'") from error
    config: dict[str, Any] = {"region": of.region, **_credentials(of.credentials_file)}
    if of.endpoint:
        config["endpoint"] = of.endpoint
    if of.encryption:
        config["aws_server_side_encryption"] = of.encryption
    if of.kms_key:
        config["aws_sse_kms_key_id"] = of.kms_key
    retry: RetryConfig = {"max_retries": _RETRIES, "retry_timeout": timedelta(seconds=_RETRY_SECONDS)}

    def client(**limits: timedelta) -> S3Store:
        is_http = of.endpoint.startswith("http:")
        options: dict[str, Any] = {"connect_timeout": timedelta(seconds=5), "allow_http": is_http, **limits}
        if of.ca:
            options["root_certificate"] = _read(of.ca, "ca")
        client_options: ClientConfig = options  # type: ignore[assignment]
        prefix = of.prefix or None
        return S3Store(of.bucket, prefix=prefix, client_options=client_options, retry_config=retry, **config)

    upload = timedelta(seconds=UPLOAD_SECONDS)
    return Objects(
        f"object store {of.url}",
        reading=client(read_timeout=timedelta(seconds=SILENCE_SECONDS), timeout=upload),
        writing=client(timeout=upload),
    )


def _credentials(name: str) -> dict[str, str]:
    """Read the keys of AWS's file of credentials: those of its first section."""
    if not name:
        return {}
    parser = configparser.ConfigParser(interpolation=None)
    text = _read(name, "credentials_file")
    try:
        parser.read_string(text if text.lstrip().startswith("[") else f"[default]\n{text}")
    except configparser.Error as error:
        raise ConfigError(f"[storage.object_store] credentials_file {name}: not in the form of AWS") from error
    section = parser[parser.sections()[0]] if parser.sections() else parser[parser.default_section]
    keys = {key: section[key] for key in _KEYS if section.get(key)}
    if missing := [key for key in _KEYS[:2] if key not in keys]:
        raise ConfigError(f"[storage.object_store] credentials_file {name}: {missing[0]} is missing")
    return keys


def _read(name: str, key: str) -> str:
    try:
        return path_of(name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not text"
        raise ConfigError(f"[storage.object_store] {key} {path_of(name)}: {reason}") from error


@contextmanager
def _mapped(descriptor: int) -> Iterator[mmap.mmap | bytes]:
    """The content of a file as memory that the kernel may drop."""
    if not os.fstat(descriptor).st_size:
        yield b""
        return
    mapped = mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
    yield mapped  # obstore may still hold it: it is unmapped with its last user
