"""The tier of packs: reads ranges of packs in the object store and keeps copies in the cache."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

from sqlalchemy import Engine

from node.config import Storage
from node.errors import AbsentFileError, AbsentStoreError, PlatformError
from node.ledger.packed_files import PackedFile, files_of_pack, packed_files
from node.object_store.pack_digests import digests_in_pack
from node.object_store.store import Objects
from node.spool import CACHE
from node.spool.cache import Cache
from node.spool.tiers import OBJECT_STORE, Content

_AT_ONCE = 4
_MOST_BYTES = 64 << 20
"""Of one request; in memory."""
_ASKED_SECONDS = 60.0
_LONG_SECONDS = 5.0
"""A store that was waited for in vain for longer is not asked again for ``_ASKED_SECONDS``: others wait behind."""


class PackedReader:
    """The files of verified packs, as ``node.spool.tiers.Files``."""

    def __init__(self, storage: Storage, engine: Engine, open_store: Callable[[], Objects]) -> None:
        """``open_store``: called when a pack is first read, and again after it failed."""
        self._engine = engine
        self._open_store = open_store
        self._cache = Cache(storage.folder / CACHE, storage.min_free_gib)
        self._objects: Objects | None = None
        self._asked: dict[str, tuple[float, int | None]] = {}
        """Until when the answer on a pack counts, by the monotonic clock, and its size; ``None``: it has gone."""
        self._silent_until = 0.0
        self._silence = ""
        """Why it is not asked until then."""
        self._lock = Lock()

    @property
    def objects(self) -> Objects:
        """The store, opened at the first use."""
        with self._lock:
            if self._objects is None:
                self._objects = self._open_store()
            return self._objects

    def fetch(self, wanted: Mapping[str, Content]) -> dict[str, Path | PlatformError]:
        """Return a copy of each file; see ``Files``."""
        packed = {path: of for path, of in self.packed(wanted).items() if of.digest == wanted[path].digest}
        begun = time.monotonic()
        if begun < self._silent_until:
            return dict.fromkeys(packed, AbsentStoreError(self._silence))
        answers = self.read_packs(packed) if packed else {}
        for answer in answers.values():
            if isinstance(answer, AbsentFileError):
                self._wait_after(begun, answer)
        return answers

    def sizes(self, paths: Sequence[str]) -> dict[str, int | PlatformError]:
        """Return the size of each file; whether the store has its pack is asked once in a while. See ``Files``."""
        sizes: dict[str, int | PlatformError] = {}
        for path, of in self.packed(paths).items():
            try:
                if self._pack_exists(of):
                    sizes[path] = of.size
            except AbsentFileError as error:
                sizes[path] = error
        return sizes

    def _pack_exists(self, of: PackedFile) -> bool:
        """Whether the store has a pack that is long enough for a file."""
        until, size = self._asked.get(of.pack, (0.0, None))
        if until < time.monotonic():
            with self._asking():
                size = self.objects.size(of.pack)
                if size is None:
                    self.objects.answer_for_packs()
            self._asked[of.pack] = time.monotonic() + _ASKED_SECONDS, size
        return size is not None and of.position + of.size <= size

    def digests(self, recorded: Mapping[str, Content]) -> dict[str, dict[str, str | None]]:
        """Return under ``OBJECT_STORE`` the digest that each file has in its pack, which is read as a whole."""
        digests: dict[str, dict[str, str | None]] = {}
        packed = self.packed(recorded)
        for pack in {of.pack for of in packed.values()}:
            with self._engine.connect() as connection:
                places = files_of_pack(connection, pack)
            pack_digests = digests_in_pack(self.objects, pack, places)
            digests |= {path: {OBJECT_STORE: pack_digests[path]} for path in places.keys() & packed.keys()}
        return digests

    def packed(self, paths: Collection[str]) -> dict[str, PackedFile]:
        """Return where in a pack each file is, as the ledger says."""
        with self._engine.connect() as connection:
            return packed_files(connection, paths)

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """Ask the store, unless it was silent a moment ago."""
        begun = time.monotonic()
        if begun < self._silent_until:
            raise AbsentStoreError(self._silence)
        try:
            yield
        except AbsentFileError as error:
            self._wait_after(begun, error)
            raise

    def _wait_after(self, begun: float, error: AbsentFileError) -> None:
        """Do not ask again for a while when there was a long wait for nothing."""
        if time.monotonic() - begun > _LONG_SECONDS:
            self._silence, self._silent_until = str(error), time.monotonic() + _ASKED_SECONDS

    def read_packs(self, packed: Mapping[str, PackedFile]) -> dict[str, Path | PlatformError]:
        """Read files of packs into the cache; return their copies, or why one could not be read."""
        objects, answers = self.objects, dict[str, Path | PlatformError]()
        silence: list[AbsentFileError] = []

        def read(part: Mapping[str, PackedFile]) -> dict[str, Path | PlatformError]:
            if silence:  # each of the others would wait as long
                return dict.fromkeys(part, silence[0])
            try:
                return self._read(objects, part)
            except AbsentFileError as error:
                silence.append(error)
                return dict.fromkeys(part, error)
            except PlatformError as error:
                return dict.fromkeys(part, error)

        with ThreadPoolExecutor(_AT_ONCE, "unpack") as threads:
            for part in threads.map(read, list(_requests(packed))):
                answers |= part
        return answers

    def _read(self, objects: Objects, part: Mapping[str, PackedFile]) -> dict[str, Path | PlatformError]:
        """Read files of one pack with one request; they are near one another. What is wrong is read once more."""
        copies = self._stored(objects, part)
        if wrong := {path: of for path, of in part.items() if path not in copies}:
            copies |= self._stored(objects, wrong)
        return copies | {
            path: PlatformError(f"{objects.where}: {of.pack} does not have the recorded content of {path}")
            for path, of in wrong.items()
            if path not in copies
        }

    def _stored(self, objects: Objects, part: Mapping[str, PackedFile]) -> dict[str, Path | PlatformError]:
        """Read files into the cache; return the copies of those whose content was the recorded one."""
        pack = next(iter(part.values())).pack
        contents = objects.read(pack, [(of.position, of.size) for of in part.values()])
        copies: dict[str, Path | PlatformError] = {}
        for (path, of), content in zip(part.items(), contents, strict=True):
            with self._cache.draft() as draft:
                with draft.open("xb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                if (copy := self._cache.add(draft, path, of)) is not None:
                    copies[path] = copy
        return copies


def _requests(packed: Mapping[str, PackedFile]) -> Iterator[dict[str, PackedFile]]:
    """Divide files into requests: each of one pack, in its order, up to ``_MOST_BYTES`` or one larger file."""
    part: dict[str, PackedFile] = {}
    pack, size = "", 0
    for path, of in sorted(packed.items(), key=lambda item: (item[1].pack, item[1].position)):
        if part and (pack != of.pack or size + of.size > _MOST_BYTES):
            yield part
            part, size = {}, 0
        part[path] = of
        pack, size = of.pack, size + of.size
    if part:
        yield part
