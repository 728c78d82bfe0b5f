"""Drafts: temporary files of the processes that write to the spool, living and dead.

Each process has a folder of its own. A sweep takes the folder over when its process is no living member of the fleet
and does not hold the folder's lock, which other machines may not see. After ``Spool.keep`` a draft is a second link of
the stored file, and marks it as one that may have no row yet.
"""

from __future__ import annotations

import errno
import itertools
import os
import stat
import threading
import time
import uuid
import weakref
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from pathlib import Path

from blake3 import blake3

from node.errors import InputError
from node.spool.digest import written
from node.spool.files import locked, new_locked

LARGEST_OBJECT = 2**31 - 1
"""Bytes of a result: many archives and toolkits count those of an object in 31 bits."""
_BLOCK = 1 << 20
_TAKEN = "~"
"""Between the name of a writer and what makes the name of its folder unique once that was taken over."""


class Draft:
    """A temporary file being written. Its name remains after ``Spool.keep`` links the file, until ``discard``."""

    def __init__(self, name: str, descriptor: int) -> None:
        """``name``: absolute; a string, because creating a ``Path`` takes longer than creating a file."""
        self.name = name
        self.descriptor = descriptor
        """Open for reading and writing."""
        self.size = 0
        self._digest = blake3()
        self._synced_size = -1
        self._open = True

    @property
    def path(self) -> Path:
        """The temporary name."""
        return Path(self.name)

    @property
    def digest(self) -> str:
        """Digest of the bytes written so far."""
        return written(self._digest)

    def write(self, parts: Sequence[bytes | memoryview]) -> None:
        """Append at most 1024 parts (IOV_MAX). Raises ``OSError`` when the disk refuses."""
        end = self.size
        for part in parts:
            self._digest.update(part)
            end += len(part)
        self.size += os.writev(self.descriptor, parts)
        if self.size < end:  # a partial write: the next one continues or raises
            rest = memoryview(b"".join(parts))
            while self.size < end:
                self.size += os.write(self.descriptor, rest[self.size - end :])

    def copy(self, file: Path) -> None:
        """Append a file that its writer may still change, so that what is checked later is the copy.

        Raises ``InputError`` when it is a link, no regular file, or larger than ``LARGEST_OBJECT``, ``OSError`` when it
        cannot be read or the disk refuses.
        """
        try:
            descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise InputError(f"{file.name} is a link") from error
            raise
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise InputError(f"{file.name} is no regular file")
            while block := os.read(descriptor, _BLOCK):
                self.write([block])
                if self.size > LARGEST_OBJECT:
                    raise InputError(f"{file.name} has more than {LARGEST_OBJECT} bytes")
        finally:
            os.close(descriptor)

    def sync(self) -> None:
        """Make all that was written durable; a second call does nothing. Raises ``OSError``."""
        if self._synced_size != self.size:
            os.fsync(self.descriptor)
            self._synced_size = self.size

    def close(self) -> None:
        """Close the file; may be called twice."""
        if self._open:
            self._open = False
            os.close(self.descriptor)

    def discard(self) -> None:
        """Close the file and delete its temporary name; may be called twice."""
        self.close()
        with suppress(FileNotFoundError):
            os.unlink(self.name)  # noqa: PTH108 - a string, see __init__


class Drafts:
    """The temporary files of one spool. Any number of processes and threads may use the same folder."""

    def __init__(self, folder: Path, writer: str = "") -> None:
        """``folder``: of all processes; it exists. ``writer``: the id of this process as a member of the fleet."""
        self._folder = folder
        self.writer = writer or uuid.uuid4().hex
        """Name of this process as a writer, and of its folder."""
        self._lock = threading.Lock()
        self._own = ""
        """Folder of this process; empty before its first draft."""
        self._numbers = itertools.count()

    def of(self, writer: str) -> Drafts:
        """Return the temporary files that this process writes for another member."""
        return Drafts(self._folder, writer)

    def is_locked(self, writer: str) -> bool:
        """Return whether the process of this name holds its folder; other machines that share it may not see that."""
        descriptor = locked(self._folder / writer)
        if descriptor is not None:
            os.close(descriptor)
        return descriptor is None and (self._folder / writer).is_dir()

    def new(self) -> Draft:
        """Create a temporary file for an instance that is being received."""
        while True:
            name = f"{self._own or self._own_folder()}/{next(self._numbers)}"
            try:
                return Draft(name, os.open(name, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o640))
            except FileNotFoundError:  # another machine held this process for dead and took its folder over
                with self._lock:
                    self._own = ""

    def _own_folder(self) -> str:
        with self._lock:
            if not self._own:
                folder, descriptor = new_locked(self._folder, self.writer)
                self._own = str(folder)
                weakref.finalize(self, os.close, descriptor)
        return self._own

    def sweep(
        self, rescue: Callable[[list[Path]], Collection[Path]], spared: Callable[[], Collection[str]] = frozenset
    ) -> int:
        """Delete temporary files of dead writers; return how many. Safe while other processes write and sweep.

        ``rescue`` first gets those that are second links of stored files, whose rows may be missing. Files that it
        returns are left for a later sweep. ``spared``: names of folders that are left alone, such as those of living
        members.
        """
        folders = list(self._folder.iterdir())
        left_alone = spared()  # after the folders were listed: a process is a member before it has one
        return sum(self._sweep_folder(path, rescue) for path in folders if path.name not in left_alone)

    def _sweep_folder(self, path: Path, rescue: Callable[[list[Path]], Collection[Path]]) -> int:
        if not path.is_dir():  # written by an old release, or swept by another process
            path.unlink(missing_ok=True)
            return 1
        descriptor = locked(path)
        if descriptor is None:
            return 0
        swept = 0
        try:
            with suppress(FileNotFoundError):  # another machine sweeps it too
                if _TAKEN not in path.name:
                    # From now on its writer, should it live after all, links none of these files any more.
                    path = path.rename(path.with_name(f"{path.name}{_TAKEN}{uuid.uuid4().hex}"))
                files = list(path.iterdir())
                linked = [file for file in files if file.stat().st_nlink > 1]
                left = rescue(linked) if linked else ()
                for file in files:
                    if file not in left:
                        file.unlink()
                        swept += 1
                if not left:
                    path.rmdir()
        finally:
            os.close(descriptor)
        return swept

    def writers(self) -> set[str]:
        """Return the names of all processes, living and dead, that have a folder."""
        return {path.name.partition(_TAKEN)[0] for path in self._folder.iterdir()}

    def without_row(self, seconds: float) -> int:
        """Count received files without a row for this long, by their temporary links."""
        before, count = time.time() - seconds, 0
        for folder in self._folder.iterdir():
            with suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:  # swept meanwhile
                for entry in entries:
                    with suppress(FileNotFoundError):
                        state = entry.stat(follow_symlinks=False)
                        count += state.st_nlink > 1 and state.st_ctime < before
        return count

    def has_writer(self, file: Path) -> bool:
        """Return whether a stored file still has its temporary link, through which its row is written or rescued.

        Other links do not count: models read images under names of their own.
        """
        state = file.stat()
        for folder in self._folder.iterdir() if state.st_nlink > 1 else ():
            with suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:  # swept meanwhile
                if any(entry.inode() == state.st_ino for entry in entries):
                    return True
        return False
