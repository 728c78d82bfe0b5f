"""The file store of one node: writes received files and results durably, lists and purges them, reads every tier.

Of an instance that comes again with other bytes both files are kept (``Spool.keep``).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal, NamedTuple

from node import log
from node.errors import InputError, PlatformError
from node.spool.cache import Cache
from node.spool.digest import digest_of
from node.spool.drafts import Draft, Drafts
from node.spool.durable_links import DurableLinks
from node.spool.files import same_dataset, sync_folder
from node.spool.free_space import Space, space_of
from node.spool.local_files import JOB, LocalFiles
from node.spool.tiers import OtherTiers, Tiers
from node.spool.uid import is_uid

DATA_FOLDERS = ("incoming", "conflicts", "results")
"""Of all DICOM files, in the storage folder."""
_TEMPORARY = "temporary"
"""Of drafts; they are of this machine alone."""
CACHE = "cache"
"""Of copies of files that are elsewhere: on other machines, or in packs."""
MOST_CONFLICTS = 16
"""Contents of one SOP Instance UID, besides the first: a peer that makes ever new ones must not fill the disk."""
_JOB = re.compile(JOB, re.ASCII)


class StoredFile(NamedTuple):
    """Location and content of a stored file."""

    path: str
    """Relative to the spool's folder."""
    digest: str
    """Digest of the whole file, including File Meta Information."""
    size: int
    """File size in bytes."""
    status: Literal["new", "same", "conflict"]
    """``same``: an identical data set existed; ``conflict``: a different one existed and is unchanged."""


class Spool:
    """The files of one node. Any number of processes and threads may use the same folder."""

    def __init__(
        self, folder: Path, *, synced: bool = True, writer: str = "", others: OtherTiers | None = None
    ) -> None:
        """Create missing folders. Raises ``PlatformError`` when that is not possible.

        ``synced=False``: received files survive a crash of the process, but not of the machine. ``writer``: the id of
        this process as a member of the fleet; "": it is none. ``others``: ``None`` when all files are in this folder.
        """
        self.folder = folder
        self._others = others
        self._synced = synced
        self.drafts = Drafts(folder / _TEMPORARY, writer)
        self._links = DurableLinks(folder, synced=synced)
        try:
            folder.mkdir(mode=0o750, parents=True, exist_ok=True)
            for name in (*DATA_FOLDERS, "work", _TEMPORARY, *((CACHE,) if others else ())):
                (folder / name).mkdir(mode=0o750, exist_ok=True)
            sync_folder(folder)
        except OSError as error:
            raise PlatformError(f"[storage] folder {folder}: {error}; use a folder that this user can write") from error
        self._machines = others.machines if others else None
        self.here = LocalFiles(folder, self.machine or "this machine")
        """The files of this folder alone."""
        tiers = (self.here, *((others.machines, others.packs) if others else ()))
        self.tiers = Tiers([tier for tier in tiers if tier is not None])
        """Where stored files are, in the order in which they are looked for."""
        self._cache = Cache(folder / CACHE)

    def keep(self, study: str, series: str, sop: str, content: Draft | Iterable[bytes | memoryview]) -> StoredFile:
        """Store one received Part 10 file durably; existing files are never overwritten.

        A draft is closed, and its temporary name marks a file that may have no row yet until the caller has written
        the row and discards the draft.

        An instance is the same when the data sets are identical; the File Meta Information, which names the sender,
        may differ. Raises ``InputError`` for an invalid UID and for one conflict too many, ``OSError`` when the disk
        cannot be written; then no file is left behind.
        """
        for keyword, uid in (("StudyInstanceUID", study), ("SeriesInstanceUID", series), ("SOPInstanceUID", sop)):
            if not is_uid(uid):
                raise InputError(f"{keyword} {uid!r} is not a UID (PS3.5 9.1); correct it at the sender")
        folder = f"{study}/{series}"
        if isinstance(content, Draft):
            return self._keep(content, folder, sop)
        with self._written(content) as draft:
            return self._keep(draft, folder, sop)

    def sync(self, draft: Draft) -> None:
        """Make the content of a draft durable, as ``keep`` does. Raises ``OSError``."""
        if self._synced:
            draft.sync()

    def place(self, file: Path, path: str) -> None:
        """Store a durable file of the cache at exactly ``path``; a received file that is there stays."""
        if path.startswith("results/"):
            self.absolute(path).unlink(missing_ok=True)
        self._links.add(str(file), path)

    def keep_result(self, job_id: str, sop: str, content: Draft | bytes) -> StoredFile:
        """Write one encoded result durably; an existing file of that name is replaced atomically.

        A draft loses its temporary name.
        """
        if not is_uid(sop):
            raise InputError(f"SOPInstanceUID {sop!r} is not a UID (PS3.5 9.1)")
        if isinstance(content, bytes):
            with self._written([content]) as written:
                return self.keep_result(job_id, sop, written)
        draft = content
        path = f"results/{_job(job_id)}/{sop}.dcm"
        target = self.absolute(path)
        os.fsync(draft.descriptor)
        self._links.make_folder(str(target.parent))
        draft.path.replace(target)
        sync_folder(target.parent)
        return StoredFile(path=path, digest=draft.digest, size=draft.size, status="new")

    def work(self, job_id: str) -> Path:
        """Folder for the handover between the stages of a job (not created)."""
        return self.folder / "work" / _job(job_id)

    def fetch_work(self, job_id: str, name: str) -> None:
        """Place a file of ``work`` here that another machine has made; raise ``AbsentFileError`` if it cannot be."""
        if self._machines is not None:
            self._machines.fetch_handover(f"work/{_job(job_id)}/{name}")

    def holds_study(self, study: str) -> bool:
        """Return whether a file of this study is stored."""
        return is_uid(study) and any((self.folder / root / study).is_dir() for root in ("incoming", "conflicts"))

    @property
    def data_folders(self) -> tuple[Path, ...]:
        """Folders of all DICOM files, with the copies of those that are elsewhere."""
        return tuple(self.folder / name for name in (*DATA_FOLDERS, *((CACHE,) if self._others else ())))

    @property
    def machine(self) -> str:
        """Id of the machine that holds these files; "": all machines do."""
        return self._machines.machine if self._machines else ""

    @property
    def copies(self) -> int:
        """On how many machines each file is to be."""
        return self._machines.copies if self._machines else 1

    @property
    def logs(self) -> Path:
        """Folder of what was logged about each study, and of warnings; see ``node.log``."""
        return self.folder / log.FOLDER

    @property
    def sandbox_folders(self) -> Path:
        """Folder of what the confined processes of this one can see; see ``node.inference.sandbox_folder``."""
        return self.folder / "trays" / self.drafts.writer

    def absolute(self, path: str) -> Path:
        """Return the place of a file in this folder from its path in the ledger; it may be on another machine only."""
        return self.folder / path

    def readable(self, path: str) -> Path:
        """Return a file that is to be read; see ``all_readable``."""
        return self.all_readable([path])[0]

    def all_readable(self, paths: Iterable[str]) -> tuple[Path, ...]:
        """Return files that are to be read, by their paths in the ledger; those of other tiers are fetched.

        A file that no tier has is returned too: who opens it learns that it is missing. Raises as ``Tiers.fetch``.
        """
        wanted = list(paths)
        doubtful = [path for path in wanted if self._may_be_elsewhere(path)] if self._others else []
        elsewhere = self._others.recorded(doubtful) if self._others and doubtful else {}
        places = self._cache.fetch(elsewhere)
        places |= self.tiers.fetch({path: of for path, of in elsewhere.items() if path not in places})
        return tuple(places.get(path) or self.absolute(path) for path in wanted)

    def _may_be_elsewhere(self, path: str) -> bool:
        """Whether another tier may have to be asked: the result that is here may be that of a lost attempt."""
        return path.startswith("results/") or not (path.startswith(f"{_TEMPORARY}/") or self.absolute(path).exists())

    def stored_size(self, path: str) -> int | None:
        """Return the size of a file in any tier; ``None`` when there is no such file. Raises ``AbsentFileError``."""
        return self.tiers.sizes([path]).get(path)

    def space(self) -> Space:
        """Return the space of the file system."""
        return space_of(self.folder)

    def path_of(self, file: Path, study: str, series: str, sop: str) -> str | None:
        """Return the relative path under which ``keep`` stored a file; ``None`` if it did not."""
        named = [f"incoming/{study}/{series}/{sop}.dcm"]
        beside = self.absolute(f"conflicts/{study}/{series}")
        named += [str(path.relative_to(self.folder)) for path in beside.glob(f"{sop}.*.dcm")]
        return next((p for p in named if self.absolute(p).exists() and self.absolute(p).samefile(file)), None)

    def received(self) -> Iterator[tuple[str, list[str]]]:
        """Yield ``(StudyInstanceUID, relative paths)`` of the received files of each study."""
        for root in ("incoming", "conflicts"):
            for study in sorted((self.folder / root).iterdir()):
                yield study.name, sorted(str(path.relative_to(self.folder)) for path in study.glob("*/*.dcm"))

    def names(self, root: str) -> set[str]:
        """List the folders in ``incoming`` or ``conflicts`` (StudyInstanceUIDs) or ``results`` (job ids)."""
        return {path.name for path in (self.folder / root).iterdir()}

    def files(self, folder: str) -> list[str]:
        """List the relative paths of all files below a relative folder, which need not exist."""
        return sorted(str(p.relative_to(self.folder)) for p in (self.folder / folder).rglob("*") if p.is_file())

    def purge(self, paths: Iterable[str], *, keep_study: bool = False) -> None:
        """Delete received files and empty folders; missing ones are no error.

        ``keep_study``: the files are elsewhere, and the folder of their study stays, which says that it is stored.
        """
        folders = set()
        for path in paths:
            file = self.absolute(path)
            file.unlink(missing_ok=True)
            folders |= {file.parent} if keep_study else {file.parent, file.parent.parent}
        for folder in sorted(folders, reverse=True):  # a series before its study
            with suppress(OSError):  # not empty, or gone
                folder.rmdir()

    @contextmanager
    def _written(self, content: Iterable[bytes | memoryview]) -> Iterator[Draft]:
        """Write a temporary file with this content; delete it afterwards."""
        draft = self.drafts.new()
        try:
            for chunk in content:
                draft.write([chunk])
            yield draft
        finally:
            draft.discard()

    def _keep(self, draft: Draft, folder: str, sop: str) -> StoredFile:
        path = f"incoming/{folder}/{sop}.dcm"
        self.sync(draft)
        draft.close()
        while True:
            if self._links.add(draft.name, path):
                return StoredFile(path=path, digest=draft.digest, size=draft.size, status="new")
            try:
                if same_dataset(draft.path, self.absolute(path)):
                    with self.absolute(path).open("rb") as file:
                        return StoredFile(path=path, digest=digest_of(file), size=file.tell(), status="same")
                break
            except FileNotFoundError:  # purged at this moment: the name is free
                continue
        path = f"conflicts/{folder}/{sop}.{draft.digest.rpartition(':')[2][:16]}.dcm"
        others = list(self.absolute(f"conflicts/{folder}").glob(f"{sop}.*.dcm"))
        if len(others) >= MOST_CONFLICTS and self.absolute(path) not in others:
            raise InputError(f"{len(others)} other contents of this SOP Instance UID are stored")
        self._links.add(draft.name, path)
        return StoredFile(path=path, digest=draft.digest, size=draft.size, status="conflict")

    def set_aside(self, path: str, digest: str) -> str:
        """Make a received file a conflict, because another machine has other bytes at ``path``; return its new path.

        Done again after a crash it changes nothing.
        """
        root, _, rest = path.partition("/")
        if root != "incoming":
            raise InputError(f"{path}: only a received file can become a conflict")
        target = f"conflicts/{rest.removesuffix('.dcm')}.{digest.rpartition(':')[2][:16]}.dcm"
        file = self.absolute(path)
        if file.exists():
            self._links.add(str(file), target)
            file.unlink()
            sync_folder(file.parent)
        return target


def _job(job_id: str) -> str:
    if not _JOB.fullmatch(job_id):
        raise InputError(f"job id {job_id!r} is not a valid folder name; use letters, digits, '.', '_' and '-'")
    return job_id
