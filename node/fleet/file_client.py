"""The tier of the other machines of a fleet: fetches their files, compares them with the ledger and caches them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from pathlib import Path
from typing import NamedTuple, TypeVar

import httpx
from sqlalchemy import Connection, Engine

from node.bounded_answers import bound_answers
from node.config import DestinationTls, Fleet, Storage
from node.errors import AbsentFileError, PlatformError
from node.ledger.holdings import file_services, folder_of, handover_holder, holders
from node.spool import CACHE
from node.spool.cache import Cache
from node.spool.machine import machine_id
from node.spool.tiers import Content, first_fault
from node.tls import client_context

_Answer = TypeVar("_Answer")

SILENCE_SECONDS = 10.0
"""A machine that sends nothing for this long is treated as unreachable."""
_LEAST_SECONDS, _SLOWEST_BYTES_PER_SECOND = 30.0, 1_000_000
"""Longest time of a file: this much, and what a slow network takes."""
_AT_ONCE = 4
_MOST_FILES, _MOST_BYTES = 256, 64 << 20
"""Of one request for digests."""
_AVOIDED_SECONDS = 30.0
"""How long a machine that could not be reached is not asked again."""
_NOT_FOUND = 404


class FileClient:
    """The files of the other machines, as ``node.spool.tiers.OtherMachines``."""

    def __init__(self, fleet: Fleet, storage: Storage, engine: Engine) -> None:
        self._fleet = fleet
        self._folder = storage.folder
        self.copies: int = storage.copies
        self._engine = engine
        self._cache = Cache(storage.folder / CACHE, storage.min_free_gib)
        self._avoided: dict[str, float] = {}
        """Machines that could not be reached, and until when they are not asked, by the monotonic clock."""

    @cached_property
    def machine(self) -> str:
        """Id of this machine."""
        return machine_id(self._folder)

    def fetch(self, wanted: Mapping[str, Content]) -> dict[str, Path | PlatformError]:
        """Return a copy of each file; see ``Files``."""
        return self._each(wanted, lambda asked, path: self._copy(asked, path, wanted[path]))

    def sizes(self, paths: Sequence[str]) -> dict[str, int | PlatformError]:
        """Return the size of each file; see ``Files``."""
        return self._each(paths, self._size)

    def digests(self, recorded: Mapping[str, Content]) -> dict[str, dict[str, str | None]]:
        """Return the digest of each file by machine, each of which has one request at a time; see ``Files``."""
        machines, services = self._holders(recorded)
        held: dict[str, dict[str, Content]] = {}
        for path, of in recorded.items():
            for machine in machines[folder_of(path)]:
                held.setdefault(machine, {})[path] = of
        digests: dict[str, dict[str, str | None]] = {}
        if not held:
            return digests
        with new_client(self._fleet) as client, ThreadPoolExecutor(_AT_ONCE, "files") as threads:
            asked = partial(self._digests, _Asked(client, machines, services))
            for machine, answer in zip(held, threads.map(asked, held, held.values()), strict=True):
                for path, digest in answer.items():
                    digests.setdefault(path, {})[machine] = digest
        return digests

    def _each(self, paths: Collection[str], answer: Callable[[_Asked, str], _Answer | None]) -> dict[str, _Answer]:
        """Return what the machines answer for each file that they may have; ``None`` is left out."""
        machines, services = self._holders(paths)
        held = sorted(path for path in paths if machines[folder_of(path)])
        if not held:
            return {}
        with new_client(self._fleet) as client, ThreadPoolExecutor(_AT_ONCE, "files") as threads:
            asked = _Asked(client, machines, services)
            answers = zip(held, threads.map(partial(answer, asked), held), strict=True)
            return {path: of for path, of in answers if of is not None}

    def _holders(self, paths: Iterable[str]) -> tuple[dict[str, list[str]], dict[str, str]]:
        """Return the other machines that may have files, by folder, and the URLs of those that are alive."""
        with self._engine.connect() as connection:
            having = holders(connection, set(map(folder_of, paths)))
            return {folder: sorted(of - {self.machine}) for folder, of in having.items()}, self._services(connection)

    def fetch_handover(self, path: str) -> None:
        """Place the handover that the ledger recorded at ``path``. Raises ``AbsentFileError``."""
        with self._engine.connect() as connection:
            machine, services = handover_holder(connection, folder_of(path)), self._services(connection)
        if machine in (None, self.machine):
            return
        target = self._folder / path
        with self._cache.draft() as part, new_client(self._fleet) as client:
            size = _download(client, _url(services, str(machine), path), part, None)
            if size is None:
                raise AbsentFileError(f"{path} is not on machine {machine}, which was to have it")
            target.parent.mkdir(parents=True, exist_ok=True)
            part.replace(target)

    def _services(self, connection: Connection) -> dict[str, str]:
        """Machine -> URL of the file services that are alive and could be reached."""
        at = time.monotonic()
        return {of: url for of, url in file_services(connection).items() if self._avoided.get(of, 0.0) < at}

    def _avoid(self, machine: str, services: dict[str, str]) -> None:
        if services.pop(machine, None) is not None:
            self._avoided[machine] = time.monotonic() + _AVOIDED_SECONDS

    def _copy(self, asked: _Asked, path: str, content: Content) -> Path | PlatformError | None:
        """Return a copy of a file from the first machine that gives it, why none does, or ``None``: none has it."""

        def copy(url: str) -> Path | None:
            with self._cache.draft() as part:
                if _download(asked.client, url, part, content) is None:
                    return None
                if (place := self._cache.add(part, path, content)) is None:
                    raise PlatformError(
                        f"{url} is not the file that the ledger recorded; `ainode verify` there says why"
                    )
                return place

        return self._first(asked, path, copy)

    def _size(self, asked: _Asked, path: str) -> int | PlatformError | None:
        return self._first(asked, path, partial(_size, asked.client))

    def _first(self, asked: _Asked, path: str, ask: Callable[[str], _Answer | None]) -> _Answer | PlatformError | None:
        """Return the answer of the first machine that has a file, why none gives it, or ``None``: none has it."""
        faults: list[PlatformError] = []
        for machine in asked.machines[folder_of(path)]:
            try:
                if (answer := ask(_url(asked.services, machine, path))) is not None:
                    return answer
            except PlatformError as error:
                if isinstance(error, AbsentFileError):
                    self._avoid(machine, asked.services)
                faults.append(error)
        return first_fault(faults) if faults else None

    def _digests(self, asked: _Asked, machine: str, recorded: Mapping[str, Content]) -> dict[str, str | None]:
        """Return the digests that files have on a machine; ``None`` from where it does not answer."""
        digests: dict[str, str | None] = dict.fromkeys(recorded)
        try:
            for part in _requests(recorded):
                digests |= _digests(asked.client, asked.services[machine], part)
        except (AbsentFileError, KeyError):
            self._avoid(machine, asked.services)
        return digests


class _Asked(NamedTuple):
    """The machines that are asked in one go."""

    client: httpx.Client
    machines: Mapping[str, Sequence[str]]
    """Those that may have files, by folder."""
    services: dict[str, str]
    """Their URLs; without those that have not answered."""


def _download(client: httpx.Client, url: str, part: Path, content: Content | None) -> int | None:
    """Write a file durably to ``part`` and return its size; ``None`` when the machine does not have it.

    ``content``: what it should be, which is compared later; ``None``: unknown.
    """
    started = time.monotonic()
    try:
        with client.stream("GET", url) as response, part.open("xb") as file:
            if response.status_code == _NOT_FOUND:
                return None
            response.raise_for_status()
            size = content.size if content else int(response.headers["content-length"])
            longest = _LEAST_SECONDS + size / _SLOWEST_BYTES_PER_SECOND
            for block in response.iter_raw():
                file.write(block)
                if file.tell() > size:
                    raise PlatformError(f"{url} has more than the {size} bytes that it should have")
                if time.monotonic() - started > longest:
                    raise AbsentFileError(f"{url}: not transferred within {longest:.0f} s")
            file.flush()
            os.fsync(file.fileno())
    except (httpx.HTTPError, KeyError, ValueError) as error:
        raise _unreachable(url, error) from error
    return size


def _size(client: httpx.Client, url: str) -> int | None:
    try:
        response = client.head(url)
        if response.status_code == _NOT_FOUND:
            return None
        response.raise_for_status()
        return int(response.headers["content-length"])
    except (httpx.HTTPError, KeyError, ValueError) as error:
        raise _unreachable(url, error) from error


def _requests(recorded: Mapping[str, Content]) -> Iterator[dict[str, Content]]:
    """Divide files into requests of up to ``_MOST_BYTES`` and ``_MOST_FILES``, or one larger file."""
    part, size = dict[str, Content](), 0
    for path, of in recorded.items():
        if part and (len(part) == _MOST_FILES or size + of.size > _MOST_BYTES):
            yield part
            part, size = {}, 0
        part[path] = of
        size += of.size
    if part:
        yield part


def _digests(client: httpx.Client, service: str, recorded: Mapping[str, Content]) -> dict[str, str]:
    """Return the digest of each file as the machine of a service has it now; "": it has none."""
    url = f"{service}/digests"
    longest = _LEAST_SECONDS + sum(of.size for of in recorded.values()) / _SLOWEST_BYTES_PER_SECOND
    try:
        response = client.post(
            url,
            json={path: of.digest for path, of in recorded.items()},
            timeout=httpx.Timeout(SILENCE_SECONDS, read=longest),
        )
        response.raise_for_status()
        answer = response.json()
        return {path: str(answer[path]) for path in recorded}
    except (httpx.HTTPError, KeyError, TypeError, ValueError) as error:
        raise _unreachable(url, error) from error


def new_client(fleet: Fleet) -> httpx.Client:
    """Connections with the certificate of this machine to those that the fleet's authority has signed.

    Raises ``ConfigError`` when a file cannot be used.
    """
    tls = DestinationTls(certificate=fleet.certificate, key=fleet.key, ca=fleet.ca, crl=fleet.crl)
    context = client_context(tls, "[fleet]")
    return bound_answers(httpx.Client(verify=context, timeout=SILENCE_SECONDS, trust_env=False))


def fault(fleet: Fleet, url: str) -> str:
    """Return why the file service at ``url`` cannot be used, or "". Raises ``ConfigError``."""
    with new_client(fleet) as client:
        try:
            status = client.head(f"{url}/files/").status_code
        except httpx.HTTPError as error:
            return str(error) or type(error).__name__
    return "" if status == _NOT_FOUND else f"another program answers there (status {status})"


def _url(services: dict[str, str], machine: str, path: str) -> str:
    if machine not in services:
        raise AbsentFileError(f"{path} is on machine {machine}, whose file service does not answer; start it again")
    return f"{services[machine]}/files/{path}"


def _unreachable(url: str, error: Exception) -> AbsentFileError:
    return AbsentFileError(f"{url} cannot be fetched ({error or type(error).__name__}); check network and [fleet]")
