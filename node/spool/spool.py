"""The files of one node: kept durably, found again, forgotten."""

from __future__ import annotations

import itertools
import os
import re
import threading
import time
import weakref
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple

from node.errors import InputError, PlatformError
from node.spool.digest import digest_of
from node.spool.files import Draft, locked, new_locked, same_dataset, sync_folder
from node.spool.free_space import Space, space_of

_UID = re.compile(r"[0-9]+(\.[0-9]+)*", re.ASCII)
_JOB = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", re.ASCII)


def is_uid(value: str) -> bool:
    """Whether ``value`` has the form of PS3.5 9.1: digits and single dots, at most 64 characters.

    Components with leading zeros are let through: devices write them, and they do no harm in a path.
    """
    return len(value) <= 64 and _has_form(value)


@lru_cache(maxsize=1024)  # those of one image are asked for again and again; no long ones are kept
def _has_form(value: str) -> bool:
    return _UID.fullmatch(value) is not None


class StoredFile(NamedTuple):
    """Where the bytes are now."""

    path: str
    """Relative to the spool's folder."""
    digest: str
    """Of the whole file at ``path``, File Meta Information included."""
    size: int
    """Bytes of the file at ``path``."""
    status: Literal["new", "same", "conflict"]
    """``same``: this data set was there before; ``conflict``: other bytes were, and stay where they are."""


class Spool:
    """The files of one node. Any number of processes and threads may use the same folder."""

    def __init__(self, folder: Path, *, synced: bool = True) -> None:
        """Create the folders that are missing. Raises ``PlatformError`` when that is not possible.

        Not ``synced``: what is kept survives the end of the process, but not that of the machine.
        """
        self.folder = folder
        self._synced = synced
        self._temporary = folder / "temporary"
        self._lock = threading.Lock()
        self._durable: set[str] = set()
        self._own = ""
        """Folder of this process's temporaries, once it has written one."""
        self._numbers = itertools.count()
        try:
            for name in ("incoming", "conflicts", "results", "work", "temporary"):
                (folder / name).mkdir(parents=True, exist_ok=True)
            sync_folder(folder)
        except OSError as error:
            raise PlatformError(f"[storage] folder {folder}: {error}; give a folder this user may write") from error

    @property
    def writer(self) -> str:
        """Name of this process among those that write here, alive until the process ends; see ``is_alive``."""
        return self._own_folder().rpartition("/")[2]

    def is_alive(self, writer: str) -> bool:
        """Whether the process of this name still runs, on whatever machine that shares the folder."""
        descriptor = locked(self._temporary / writer)
        if descriptor is not None:
            os.close(descriptor)
        return descriptor is None and (self._temporary / writer).is_dir()

    def draft(self) -> Draft:
        """A new temporary to write a received file into as it comes."""
        name = f"{self._own or self._own_folder()}/{next(self._numbers)}"
        return Draft(name, os.open(name, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o640))

    def _own_folder(self) -> str:
        with self._lock:
            if not self._own:
                folder, descriptor = new_locked(self._temporary)
                self._own = str(folder)
                weakref.finalize(self, os.close, descriptor)
        return self._own

    def keep(self, study: str, series: str, sop: str, content: Draft | Iterable[bytes | memoryview]) -> StoredFile:
        """Keep one received Part 10 file durably; nothing that exists is overwritten.

        A draft stays its owner's, closed: its temporary name tells ``sweep`` of a file that may have no row yet, until
        the owner has written the row and discards the draft.

        Two files hold the same instance when their data sets are equal byte for byte; the File Meta Information, which
        names the sender, may differ. Raises ``InputError`` when a UID is no UID, ``OSError`` when the disk refuses
        (nothing is left behind then).
        """
        for keyword, uid in (("StudyInstanceUID", study), ("SeriesInstanceUID", series), ("SOPInstanceUID", sop)):
            if not is_uid(uid):
                raise InputError(f"{keyword} {uid!r} is no UID (PS3.5 9.1); the sender must correct it")
        folder = f"{study}/{series}"
        if isinstance(content, Draft):
            return self._keep(content, folder, sop)
        with self._written(content) as draft:
            return self._keep(draft, folder, sop)

    def keep_result(self, job_id: str, sop: str, data: bytes) -> StoredFile:
        """Write one encoded result durably; an earlier one of the same name is replaced in one step."""
        if not is_uid(sop):
            raise InputError(f"SOPInstanceUID {sop!r} is no UID (PS3.5 9.1)")
        path = f"results/{_job(job_id)}/{sop}.dcm"
        target = self.absolute(path)
        with self._written([data]) as draft:
            os.fsync(draft.descriptor)
            self._make(str(target.parent))
            draft.path.replace(target)
            sync_folder(target.parent)
        return StoredFile(path=path, digest=draft.digest, size=draft.size, status="new")

    def work(self, job_id: str) -> Path:
        """Folder of one job for the handover between its stages (not created)."""
        return self.folder / "work" / _job(job_id)

    @property
    def logs(self) -> Path:
        """Folder of what was logged about each study; see ``node.log``."""
        return self.folder / "logs"

    @property
    def trays(self) -> Path:
        """Folder of what the processes that run models see of the rest; see ``node.inference.sandbox_folder``."""
        return self.folder / "trays"

    def absolute(self, path: str) -> Path:
        """The path of a kept file from its ledger row."""
        return self.folder / path

    def space(self) -> Space:
        """Space of the file system that keeps the files."""
        return space_of(self.folder)

    def sweep(self, rescue: Callable[[list[Path]], Collection[Path]]) -> int:
        """Delete temporaries whose writer is gone; return how many. Safe while other processes write.

        ``rescue`` gets those first that are second names of kept files: their rows may be missing. What it returns is
        left for a later sweep.
        """
        swept = 0
        for path in self._temporary.iterdir():
            if not path.is_dir():  # of a release that wrote all into one folder
                path.unlink(missing_ok=True)
                swept += 1
            elif (descriptor := locked(path)) is not None:
                try:
                    files = list(path.iterdir())
                    kept = [file for file in files if file.stat().st_nlink > 1]
                    left = rescue(kept) if kept else ()
                    for file in files:
                        if file not in left:
                            file.unlink()
                            swept += 1
                    if not left:
                        path.rmdir()
                finally:
                    os.close(descriptor)
        return swept

    def without_row(self, seconds: float) -> int:
        """How many received files have had no row for this long: each has its second name among the temporaries."""
        before, count = time.time() - seconds, 0
        for folder in self._temporary.iterdir():
            with suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:  # swept meanwhile
                for entry in entries:
                    with suppress(FileNotFoundError):
                        state = entry.stat(follow_symlinks=False)
                        count += state.st_nlink > 1 and state.st_ctime < before
        return count

    def path_of(self, file: Path, study: str, series: str, sop: str) -> str | None:
        """The relative path under which ``keep`` has kept a file; ``None`` when it has not."""
        named = [f"incoming/{study}/{series}/{sop}.dcm"]
        beside = self.absolute(f"conflicts/{study}/{series}")
        named += [str(path.relative_to(self.folder)) for path in beside.glob(f"{sop}.*.dcm")]
        return next((p for p in named if self.absolute(p).exists() and self.absolute(p).samefile(file)), None)

    def received(self) -> Iterator[tuple[str, list[str]]]:
        """Every received file, one study at a time: ``(StudyInstanceUID, relative paths)``."""
        for root in ("incoming", "conflicts"):
            for study in sorted((self.folder / root).iterdir()):
                yield study.name, sorted(str(path.relative_to(self.folder)) for path in study.glob("*/*.dcm"))

    def has_writer(self, path: str) -> bool:
        """Whether a kept file still has its second name among the temporaries: its row is written, or rescued, by that.

        Other second names tell nothing: models read images under names of their own.
        """
        state = self.absolute(path).stat()
        for folder in self._temporary.iterdir() if state.st_nlink > 1 else ():
            with suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:  # swept meanwhile
                if any(entry.inode() == state.st_ino for entry in entries):
                    return True
        return False

    def names(self, root: str) -> set[str]:
        """What lies in ``incoming`` or ``conflicts`` (StudyInstanceUIDs) or in ``results`` (job ids)."""
        return {path.name for path in (self.folder / root).iterdir()}

    def files(self, folder: str) -> list[str]:
        """Relative paths of all files below a relative folder, which need not exist."""
        return sorted(str(p.relative_to(self.folder)) for p in (self.folder / folder).rglob("*") if p.is_file())

    def delete(self, paths: Iterable[str]) -> None:
        """Delete received files, and the folders that are empty then; what is gone already is no error."""
        folders = set()
        for path in paths:
            file = self.absolute(path)
            file.unlink(missing_ok=True)
            folders |= {file.parent, file.parent.parent}
        for folder in sorted(folders, reverse=True):  # a series before its study
            with suppress(OSError):  # not empty, or gone
                folder.rmdir()

    @contextmanager
    def _written(self, content: Iterable[bytes | memoryview]) -> Iterator[Draft]:
        """A temporary with this content; gone afterwards."""
        draft = self.draft()
        try:
            for chunk in content:
                draft.write([chunk])
            yield draft
        finally:
            draft.discard()

    def _keep(self, draft: Draft, folder: str, sop: str) -> StoredFile:
        path = f"incoming/{folder}/{sop}.dcm"
        if self._synced:
            os.fsync(draft.descriptor)
        draft.close()
        while True:
            if self._link(draft.name, path):
                return StoredFile(path=path, digest=draft.digest, size=draft.size, status="new")
            try:
                if same_dataset(draft.path, self.absolute(path)):
                    with self.absolute(path).open("rb") as file:
                        return StoredFile(path=path, digest=digest_of(file), size=file.tell(), status="same")
                break
            except FileNotFoundError:  # purged at this moment: the name is free
                continue
        path = f"conflicts/{folder}/{sop}.{draft.digest.rpartition(':')[2][:16]}.dcm"
        self._link(draft.name, path)
        return StoredFile(path=path, digest=draft.digest, size=draft.size, status="conflict")

    def _link(self, temporary: str, path: str) -> bool:
        """Give the temporary its final name; ``False`` when that name is taken. Durable in both cases."""
        target = f"{self.folder}/{path}"
        folder = target.rpartition("/")[0]
        new = True
        if folder not in self._durable:
            self._make(folder)
        try:
            try:
                os.link(temporary, target)
            except FileNotFoundError:  # the folder's last file was forgotten, and the folder with it
                self._make(folder)
                os.link(temporary, target)
        except FileExistsError:
            new = False
        # Also when it was there: another thread may have linked it and not yet synced the folder.
        if self._synced:
            sync_folder(folder)
        return new

    def _make(self, name: str) -> None:
        """Create a folder so that it survives a power cut."""
        folder = Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        ancestor = folder.parent
        while ancestor != self.folder.parent:
            sync_folder(ancestor)
            ancestor = ancestor.parent
        with self._lock:
            if len(self._durable) > 10_000:
                self._durable.clear()
            self._durable.add(name)


def _job(job_id: str) -> str:
    if not _JOB.fullmatch(job_id):
        raise InputError(f"job id {job_id!r} cannot be a folder name; use letters, digits, '.', '_' and '-'")
    return job_id
