"""Fetches files from the other machines of the fleet, compares them with the ledger and keeps copies."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path

import httpx
from sqlalchemy import Connection, Engine

from node.config import DestinationTls, Fleet, Storage
from node.errors import AbsentFileError, PlatformError
from node.fleet.cache import Cache
from node.ledger.holdings import (
    RecordedFile,
    file_services,
    folder_of,
    handover_holder,
    held_elsewhere,
    holders,
    recorded_files,
)
from node.spool import CACHE, digest_of
from node.spool.free_space import space_of
from node.spool.machine import machine_id
from node.tls import client_context

logger = logging.getLogger(__name__)

SILENCE_SECONDS = 10.0
"""A machine that sends nothing for this long is treated as unreachable."""
_LEAST_SECONDS, _SLOWEST_BYTES_PER_SECOND = 30.0, 1_000_000
"""Longest time of a file: this much, and what a slow network takes."""
_AT_ONCE = 4
_AVOIDED_SECONDS = 30.0
"""How long a machine that could not be reached is not asked again."""
_NOT_FOUND = 404


class FileClient:
    """The files of the other machines; any thread may call."""

    def __init__(self, fleet: Fleet, storage: Storage, engine: Engine) -> None:
        self._fleet = fleet
        self._folder = storage.folder
        self.copies: int = storage.copies
        self._min_free_gib = storage.min_free_gib
        self._engine = engine
        self._cache = Cache(storage.folder / CACHE)
        self._avoided: dict[str, float] = {}
        """Machines that could not be reached, and until when they are not asked, by the monotonic clock."""

    @cached_property
    def machine(self) -> str:
        """Id of this machine."""
        return machine_id(self._folder)

    def fetch(self, paths: Sequence[str]) -> dict[str, Path]:
        """Return a copy of each file that is not here; those that no machine has are left out.

        Raises ``AbsentFileError`` when a machine that may have one cannot be reached, ``PlatformError`` when what the
        machines send is not what the ledger recorded, or the disk is full.
        """
        doubtful = [path for path in paths if path.startswith("results/") or not (self._folder / path).exists()]
        if not doubtful:
            return {}
        with self._engine.connect() as connection:
            elsewhere = held_elsewhere(connection, self.machine, {folder_of(path) for path in doubtful})
            recorded = recorded_files(connection, [path for path in doubtful if folder_of(path) in elsewhere])
            services = self._services(connection)
            machines = {folder: holders(connection, folder) - {self.machine} for folder in elsewhere}
        absent = [path for path, of in recorded.items() if not self._is_here(path, of)]

        copies = {path: self._cache.get(recorded[path].digest, _name(path)) for path in absent}
        here = {path: place for path, place in copies.items() if place is not None}
        if len(here) == len(copies):
            return here

        def copy(path: str) -> tuple[str, Path | None]:
            return path, self._copy(client, path, recorded[path], machines[folder_of(path)], services)

        with new_client(self._fleet) as client, ThreadPoolExecutor(_AT_ONCE, "fetch") as threads:
            fetched = threads.map(copy, sorted(copies.keys() - here.keys()))
            return here | {path: place for path, place in fetched if place is not None}

    def sizes(self, paths: Sequence[str], *, asked: bool = False) -> dict[str, int]:  # noqa: ARG002 - always asked
        """Return the size of each file that another machine has. Raises ``AbsentFileError``."""
        with self._engine.connect() as connection:
            services = self._services(connection)
            machines = {of: holders(connection, of) - {self.machine} for of in {folder_of(path) for path in paths}}

        def size(path: str) -> tuple[str, int | None]:
            return path, self._size(client, path, machines[folder_of(path)], services)

        with new_client(self._fleet) as client, ThreadPoolExecutor(_AT_ONCE, "sizes") as threads:
            return {path: of for path, of in threads.map(size, paths) if of is not None}

    def digests(self, paths: Sequence[str]) -> dict[str, dict[str, str | None]]:
        """Return the digest of each file by machine; see ``Spool.digests_elsewhere``."""
        with self._engine.connect() as connection:
            services = self._services(connection)
            recorded = recorded_files(connection, paths)
            machines = {of: holders(connection, of) - {self.machine} for of in {folder_of(path) for path in paths}}
        asked = [(path, machine) for path in paths for machine in sorted(machines[folder_of(path)])]

        def digest(of: tuple[str, str]) -> str | None:
            path, machine = of
            try:
                return _digest(client, _url(services, machine, path, "digests"), recorded.get(path))
            except AbsentFileError:
                self._avoid(machine, services)
                return None

        with new_client(self._fleet) as client, ThreadPoolExecutor(_AT_ONCE, "digests") as threads:
            answers = list(threads.map(digest, asked))
        digests: dict[str, dict[str, str | None]] = {path: {} for path in paths}
        for (path, machine), answer in zip(asked, answers, strict=True):
            digests[path][machine] = answer
        return digests

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

    def _size(self, client: httpx.Client, path: str, machines: Iterable[str], services: dict[str, str]) -> int | None:
        unreachable: AbsentFileError | None = None
        for machine in sorted(machines):
            try:
                if (size := _size(client, _url(services, machine, path))) is not None:
                    return size
            except AbsentFileError as error:
                self._avoid(machine, services)
                unreachable = error
        if unreachable is not None:
            raise unreachable
        return None

    def _services(self, connection: Connection) -> dict[str, str]:
        """Machine -> URL of the file services that are alive and could be reached."""
        at = time.monotonic()
        return {of: url for of, url in file_services(connection).items() if self._avoided.get(of, 0.0) < at}

    def _avoid(self, machine: str, services: dict[str, str]) -> None:
        if services.pop(machine, None) is not None:
            self._avoided[machine] = time.monotonic() + _AVOIDED_SECONDS

    def _is_here(self, path: str, recorded: RecordedFile) -> bool:
        """Whether the file of this machine is the recorded one: a result may have been made on several."""
        try:
            with (self._folder / path).open("rb") as file:
                return digest_of(file, recorded.digest) == recorded.digest
        except FileNotFoundError:
            return False

    def _copy(
        self,
        client: httpx.Client,
        path: str,
        recorded: RecordedFile,
        machines: Iterable[str],
        services: dict[str, str],
    ) -> Path | None:
        space = space_of(self._folder)
        if space.is_below(self._min_free_gib):
            raise PlatformError(f"disk full: {space.free_gib:.2f} GiB free, limit {self._min_free_gib:g} GiB")
        faults: list[PlatformError] = []
        for machine in sorted(machines):
            with self._cache.draft() as part:
                try:
                    if _download(client, _url(services, machine, path), part, recorded) is not None:
                        return self._cache.add(part, recorded.digest, _name(path))
                except PlatformError as error:
                    if isinstance(error, AbsentFileError):
                        self._avoid(machine, services)
                    faults.append(error)
        if faults:  # that a machine could not be reached matters more: it may have the right file
            raise next((error for error in faults if isinstance(error, AbsentFileError)), faults[0])
        return None


def _download(client: httpx.Client, url: str, part: Path, recorded: RecordedFile | None) -> int | None:
    """Write a file durably to ``part`` and return its size; ``None`` when the machine does not have it."""
    started = time.monotonic()
    try:
        with client.stream("GET", url) as response, part.open("xb") as file:
            if response.status_code == _NOT_FOUND:
                return None
            response.raise_for_status()
            size = recorded.size if recorded else int(response.headers["content-length"])
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
    with part.open("rb") as file:
        if recorded is not None and digest_of(file, recorded.digest) != recorded.digest:
            raise PlatformError(f"{url} is not the file that the ledger recorded; `ainode verify` there says why")
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


def _digest(client: httpx.Client, url: str, recorded: RecordedFile | None) -> str:
    longest = _LEAST_SECONDS + (recorded.size if recorded else 0) / _SLOWEST_BYTES_PER_SECOND
    try:
        response = client.get(url, params={"like": recorded.digest} if recorded else {}, timeout=longest)
        if response.status_code == _NOT_FOUND:
            return ""
        response.raise_for_status()
    except httpx.HTTPError as error:
        raise _unreachable(url, error) from error
    return response.text


def new_client(fleet: Fleet) -> httpx.Client:
    """Connections with the certificate of this machine to those that the fleet's authority has signed.

    Raises ``ConfigError`` when a file cannot be used.
    """
    tls = DestinationTls(certificate=fleet.certificate, key=fleet.key, ca=fleet.ca, crl=fleet.crl)
    return httpx.Client(verify=client_context(tls, "[fleet]"), timeout=SILENCE_SECONDS, trust_env=False)


def fault(fleet: Fleet, url: str) -> str:
    """Return why the file service at ``url`` cannot be used, or "". Raises ``ConfigError``."""
    with new_client(fleet) as client:
        try:
            status = client.head(f"{url}/files/").status_code
        except httpx.HTTPError as error:
            return str(error) or type(error).__name__
    return "" if status == _NOT_FOUND else f"another program answers there (status {status})"


def _url(services: dict[str, str], machine: str, path: str, what: str = "files") -> str:
    if machine not in services:
        raise AbsentFileError(f"{path} is on machine {machine}, whose file service does not answer; start it again")
    return f"{services[machine]}/{what}/{path}"


def _unreachable(url: str, error: Exception) -> AbsentFileError:
    return AbsentFileError(f"{url} cannot be fetched ({error or type(error).__name__}); check network and [fleet]")


def _name(path: str) -> str:
    return path.rpartition("/")[2]
