"""Reading of packed files: from this machine, another one, or else from a pack into the cache."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Lock

from sqlalchemy import Engine

from node.config import Storage
from node.errors import AbsentFileError, PlatformError
from node.fleet.cache import Cache
from node.ledger.packed_files import PackedFile, files_of_pack, packed_files
from node.object_store.pack_digests import digests_in_pack
from node.object_store.store import Objects
from node.spool import CACHE, digest_of
from node.spool.free_space import space_of
from node.spool.other_machines import OBJECT_STORE, OtherMachines

_AT_ONCE = 4
_MOST_BYTES = 64 << 20
"""Of one request; in memory."""
_ASKED_SECONDS = 60.0


class PackedReader:
    """The files of the object store, and those of other machines if there are any; any thread may call."""

    def __init__(
        self, storage: Storage, engine: Engine, open_store: Callable[[], Objects], fleet: OtherMachines | None = None
    ) -> None:
        """``open_store``: called when a pack is first read, and again after it failed."""
        self._folder = storage.folder
        self._min_free_gib = storage.min_free_gib
        self._engine = engine
        self._open_store = open_store
        self._fleet = fleet
        self._cache = Cache(storage.folder / CACHE)
        self._objects: Objects | None = None
        self._asked: dict[str, tuple[float, int | None]] = {}
        """Until when the answer on a pack counts, by the monotonic clock, and its size; ``None``: it has gone."""
        self._silent_until = 0.0
        self._lock = Lock()

    @property
    def machine(self) -> str:
        """Id of this machine; "": all machines see its files."""
        return self._fleet.machine if self._fleet else ""

    @property
    def copies(self) -> int:
        """On how many machines each file is to be, until it is packed."""
        return self._fleet.copies if self._fleet else 1

    @property
    def objects(self) -> Objects:
        """The store, opened at the first use."""
        with self._lock:
            if self._objects is None:
                self._objects = self._open_store()
            return self._objects

    def fetch(self, paths: Sequence[str]) -> dict[str, Path]:
        """Return a copy of each file that is not here; see ``OtherMachines``."""
        absent = [path for path in paths if not (self._folder / path).exists()]
        packed = self._packed(absent)
        others = [path for path in paths if path not in packed]
        copies = self._fleet.fetch(others) if self._fleet and others else {}
        return copies | (self._unpacked(packed) if packed else {})

    def sizes(self, paths: Sequence[str], *, asked: bool = False) -> dict[str, int]:
        """Return the size of each file that a verified pack or another machine has.

        ``asked``: whether the store has the pack is asked, once in a while; else the ledger says so.
        """
        packed = self._packed(paths)
        sizes = {path: of.size for path, of in packed.items() if not asked or self._pack_exists(of)}
        others = [path for path in paths if path not in sizes]
        return sizes | (self._fleet.sizes(others, asked=asked) if self._fleet and others else {})

    def _pack_exists(self, of: PackedFile) -> bool:
        """Whether the store has a pack that is long enough for a file."""
        until, size = self._asked.get(of.pack, (0.0, None))
        if until < time.monotonic():
            if self._silent_until > time.monotonic():
                raise AbsentFileError(f"{self.objects.where} does not answer")
            try:
                size = self.objects.size(of.pack)
                if size is None:
                    self.objects.answer_for_packs()
            except AbsentFileError:
                self._silent_until = time.monotonic() + _ASKED_SECONDS
                raise
            self._asked[of.pack] = time.monotonic() + _ASKED_SECONDS, size
        return size is not None and of.position + of.size <= size

    def digests(self, paths: Sequence[str]) -> dict[str, dict[str, str | None]]:
        """Return the digest of each file by machine, and under ``OBJECT_STORE`` the one that its pack has now."""
        digests = self._fleet.digests(paths) if self._fleet else {path: {} for path in paths}
        packed = self._packed(paths)
        for pack in {of.pack for of in packed.values()}:
            with self._engine.connect() as connection:
                places = files_of_pack(connection, pack)
            found = digests_in_pack(self.objects, pack, places)
            for path in places.keys() & packed.keys():
                digests[path][OBJECT_STORE] = found[path]
        return digests

    def fetch_handover(self, path: str) -> None:
        """Place the handover of another machine at ``path``."""
        if self._fleet:
            self._fleet.fetch_handover(path)

    def _packed(self, paths: Sequence[str]) -> dict[str, PackedFile]:
        if not paths:
            return {}
        with self._engine.connect() as connection:
            return packed_files(connection, paths)

    def _unpacked(self, packed: Mapping[str, PackedFile]) -> dict[str, Path]:
        """Return copies of packed files: of the cache, of another machine, or of the store."""
        copies = {path: copy for path, of in packed.items() if (copy := self._cache.get(of.digest, _name(path)))}
        lacking = {path: of for path, of in packed.items() if path not in copies}
        if lacking and self._fleet:
            with suppress(PlatformError):  # the store has them, too
                copies |= self._fleet.fetch(sorted(lacking))
            lacking = {path: of for path, of in lacking.items() if path not in copies}
        if not lacking:
            return copies
        space = space_of(self._folder)
        if space.is_below(self._min_free_gib):
            raise PlatformError(f"disk full: {space.free_gib:.2f} GiB free, limit {self._min_free_gib:g} GiB")
        return copies | self.read_packs(lacking)

    def read_packs(self, lacking: Mapping[str, PackedFile]) -> dict[str, Path]:
        """Read files of packs into the cache."""
        objects, copies = self.objects, dict[str, Path]()
        with ThreadPoolExecutor(_AT_ONCE, "unpack") as threads:
            for part in threads.map(lambda part: self._read(objects, part), list(_requests(lacking))):
                copies |= part
        return copies

    def _read(self, objects: Objects, part: Sequence[tuple[str, PackedFile]]) -> dict[str, Path]:
        """Read files of one pack with one request; they are near one another. What is wrong is read once more."""
        copies, wrong = self._stored(objects, part)
        if wrong:
            again, wrong = self._stored(objects, wrong)
            copies |= again
        for path, of in wrong:
            raise PlatformError(f"{objects.where}: {of.pack} does not have the recorded content of {path}")
        return copies

    def _stored(
        self, objects: Objects, part: Sequence[tuple[str, PackedFile]]
    ) -> tuple[dict[str, Path], list[tuple[str, PackedFile]]]:
        """Read files into the cache; return their copies, and those whose content was not the recorded one."""
        contents = objects.read(part[0][1].pack, [(of.position, of.size) for _, of in part])
        copies, wrong = dict[str, Path](), []
        for (path, of), content in zip(part, contents, strict=True):
            with self._cache.draft() as draft:
                with draft.open("xb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                with draft.open("rb") as file:
                    is_right = digest_of(file, of.digest) == of.digest
                if is_right:
                    copies[path] = self._cache.add(draft, of.digest, _name(path))
                else:
                    wrong.append((path, of))
        return copies, wrong


def _requests(packed: Mapping[str, PackedFile]) -> Iterator[list[tuple[str, PackedFile]]]:
    """Divide files into requests: each of one pack, in its order, up to ``_MOST_BYTES`` or one larger file."""
    part: list[tuple[str, PackedFile]] = []
    size = 0
    for path, of in sorted(packed.items(), key=lambda one: (one[1].pack, one[1].position)):
        if part and (part[0][1].pack != of.pack or size + of.size > _MOST_BYTES):
            yield part
            part, size = [], 0
        part.append((path, of))
        size += of.size
    if part:
        yield part


def _name(path: str) -> str:
    return path.rpartition("/")[2]
