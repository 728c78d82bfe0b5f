"""The object store: named objects that are written once, read in ranges, listed and deleted.

obstore is imported when a store is opened. Its errors become ``AbsentStoreError``: the store may come back.
"""

from __future__ import annotations

import configparser
import math
import mmap
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from node.config import ObjectStoreTable
from node.errors import AbsentStoreError, ConfigError, PlatformError
from node.tls import path_of

if TYPE_CHECKING:
    from obstore.store import ClientConfig, ObjectStore, RetryConfig

SILENCE_SECONDS = 20.0
"""A store that sends nothing for this long is treated as unreachable; while it is sent something, see below."""
_LEAST_SECONDS, _SLOWEST_BYTES_PER_SECOND = 30.0, 300_000
"""Longest time of a request: this much, and what a slow line takes for its bytes."""
STALE_SECONDS = 7200.0
"""A claim that is older was left by a process that has died: upload and verification are over by then."""
_GAP_BYTES = 1 << 20
"""Between two ranges, which is rather read than asked for in two requests."""
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

    Every method raises ``AbsentStoreError`` when the store does not answer in time or refuses.
    """

    def __init__(
        self, where: str, reading: Callable[[float], ObjectStore], writing: Callable[[float], ObjectStore]
    ) -> None:
        """``where``: what messages call the store. ``reading``, ``writing``: a client by its longest seconds."""
        self.where = where
        self._reading = reading
        self._writing = writing

    def put_new(self, name: str, file: Path) -> bool:
        """Write an object from a file; ``False`` when there is one of this name, which stays as it is."""
        import obstore

        with self._explained(f"write {name}"), file.open("rb") as content, _mapped(content.fileno()) as data:
            try:
                obstore.put(self._writing(_longest(len(data))), name, data, mode="create", use_multipart=False)
            except obstore.exceptions.AlreadyExistsError:
                return False
        return True

    def size(self, name: str) -> int | None:
        """Return the size of an object; ``None`` when there is none."""
        stored = self.find(name)
        return stored and stored.size

    def find(self, name: str) -> StoredObject | None:
        """Return what the store says of an object; ``None`` when there is none."""
        import obstore

        with self._explained(f"look for {name}"):
            try:
                of = obstore.head(self._reading(_longest()), name)
            except (obstore.exceptions.NotFoundError, FileNotFoundError):
                return None
        return StoredObject(name, int(of["size"]), of["last_modified"].timestamp())

    def answer_for_packs(self) -> None:
        """Raise ``AbsentStoreError`` unless a node has left its mark here: no answer on a pack counts without it.

        A bucket, prefix or server that is another one has no pack either, and none is lost by that.
        """
        if not any(self.names(MARKS)):
            raise AbsentStoreError(f"{self.where} has nothing of this node; is it another bucket, prefix or server?")

    def read(self, name: str, ranges: Sequence[tuple[int, int]]) -> list[memoryview]:
        """Return the bytes of ranges, each a position and a length, in the order of their positions.

        Raises ``PlatformError`` when the store has packs, but not this object: it is lost.
        """
        import obstore

        views: list[memoryview] = []
        for near in _near(ranges):  # ``obstore.get_ranges`` does the same, and panics when an answer is too short
            start, end = near[0][0], max(at + length for at, length in near)
            with self._explained(f"read {name}"):
                try:
                    block = obstore.get_range(self._reading(_longest(end - start)), name, start=start, end=end)
                except (obstore.exceptions.NotFoundError, FileNotFoundError) as error:
                    raise self._lost(name) from error
            if len(block) != end - start:
                raise AbsentStoreError(f"{self.where}: {name} was cut off in transfer; it is tried again")
            views += [memoryview(block)[at - start : at - start + length] for at, length in near]
        return views

    def stream(self, name: str, size: int) -> Iterator[memoryview]:
        """Yield the bytes of an object of about ``size`` in order. Raises ``PlatformError`` when there is none."""
        import obstore

        with self._explained(f"read {name}"):
            try:
                parts = obstore.get(self._reading(_longest(size)), name).stream()
            except (obstore.exceptions.NotFoundError, FileNotFoundError) as error:
                raise self._lost(name) from error
            for part in parts:
                yield memoryview(part)

    def names(self, below: str) -> Iterator[StoredObject]:
        """Yield every object whose name begins with the folder ``below``."""
        import obstore

        with self._explained(f"list {below}"):
            for part in obstore.list(self._reading(_longest()), below):
                for of in part:
                    yield StoredObject(str(of["path"]), int(of["size"]), of["last_modified"].timestamp())

    def delete(self, name: str) -> None:
        """Delete an object; one that is not there is no error."""
        import obstore

        with self._explained(f"delete {name}"):
            try:
                obstore.delete(self._reading(_longest()), name)
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
            text, _, details = " ".join(str(error).split()).partition(" Debug source:")
            text = text.partition(" - ")[2] or text  # without the address, which ``where`` and ``what`` say
            reason = (text[:_LONGEST_ERROR] or type(error).__name__) + (" (too slow)" if "TimedOut" in details else "")
            raise AbsentStoreError(f"{self.where} does not {what}: {reason}") from error


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

    @cache
    def client(seconds: float, silence: float | None) -> S3Store:
        limits = {"connect_timeout": 5.0, "timeout": seconds, **({} if silence is None else {"read_timeout": silence})}
        options: dict[str, Any] = {name: timedelta(seconds=limit) for name, limit in limits.items()}
        options["allow_http"] = of.endpoint.startswith("http:")
        if of.ca:
            options["root_certificate"] = _read(of.ca, "ca")
        client_options: ClientConfig = options  # type: ignore[assignment]
        prefix = of.prefix or None
        return S3Store(of.bucket, prefix=prefix, client_options=client_options, retry_config=retry, **config)

    client(_longest(), SILENCE_SECONDS)  # what is wrong in the configuration is said now
    return Objects(
        f"object store {of.url}",
        reading=lambda seconds: client(seconds, SILENCE_SECONDS),
        writing=lambda seconds: client(seconds, None),  # which is silent until it has everything
    )


def _near(ranges: Sequence[tuple[int, int]]) -> Iterator[list[tuple[int, int]]]:
    """Divide ranges into those that one request reads, with the little that lies between them."""
    near: list[tuple[int, int]] = []
    for position, length in ranges:
        if near and position - sum(near[-1]) > _GAP_BYTES:
            yield near
            near = []
        near.append((position, length))
    if near:
        yield near


def _longest(size: int = 0) -> float:
    """Return the longest seconds of a request with so many bytes, in steps, because each makes a client."""
    steps = math.ceil(size / _SLOWEST_BYTES_PER_SECOND / _LEAST_SECONDS)
    return _LEAST_SECONDS * (1 << steps.bit_length())


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
