"""The first tier: the files in the storage folder of this machine."""

from __future__ import annotations

import re
import stat
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from node.errors import PlatformError
from node.spool.digest import digest_of
from node.spool.tiers import Content

_UID = r"[0-9]+(?:\.[0-9]+)*"
JOB = r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}"
"""Pattern of the folder of a job."""
_STORED = re.compile(
    rf"incoming/{_UID}/{_UID}/{_UID}\.dcm"
    rf"|conflicts/{_UID}/{_UID}/{_UID}\.[0-9a-f]{{16}}\.dcm"
    rf"|results/{JOB}/{_UID}\.dcm",
    re.ASCII,
)


def stored_file(folder: Path, path: str) -> Path | None:
    """Return the file at ``path`` below the storage folder; ``None`` when it is none, or has no name of the spool."""
    return regular_file(folder / path) if _STORED.fullmatch(path) else None


def regular_file(file: Path) -> Path | None:
    """Return a file; ``None`` when it does not exist, or is a link or no regular file."""
    try:
        return file if stat.S_ISREG(file.lstat().st_mode) else None
    except OSError:
        return None


class LocalFiles:
    """The stored files of one folder, as ``node.spool.tiers.Files``."""

    def __init__(self, folder: Path, place: str) -> None:
        """``place``: what the digests of this folder are listed under."""
        self._folder = folder
        self._place = place

    def fetch(self, wanted: Mapping[str, Content]) -> dict[str, Path | PlatformError]:
        """Return where each file is, after its content was compared with the recorded one; see ``Files``."""
        places: dict[str, Path | PlatformError] = {}
        for path, of in wanted.items():
            digest = self.digest(path, of.digest)
            if digest == of.digest:
                places[path] = self._folder / path
            elif digest:
                places[path] = PlatformError(
                    f"{path} is not the file that the ledger recorded; `ainode verify` says why"
                )
        return places

    def has(self, path: str, content: Content) -> bool:
        """Return whether a file is here with exactly this content."""
        return self.digest(path, content.digest) == content.digest

    def sizes(self, paths: Sequence[str]) -> dict[str, int | PlatformError]:
        """Return the size of each file; see ``Files``."""
        sizes: dict[str, int | PlatformError] = {}
        for path in paths:
            with suppress(FileNotFoundError):  # deleted at this moment
                if (file := stored_file(self._folder, path)) is not None:
                    sizes[path] = file.stat().st_size
        return sizes

    def digests(self, recorded: Mapping[str, Content]) -> dict[str, dict[str, str | None]]:
        """Return the digest of each file; one that cannot be read has the reason in its place. See ``Files``."""
        return {path: {self._place: self.digest(path, of.digest)} for path, of in recorded.items()}

    def digest(self, path: str, like: str) -> str:
        """Return the digest of a file now, "" when there is none, or why it cannot be read, which equals no digest."""
        file = stored_file(self._folder, path)
        if file is None:
            return ""
        try:
            with file.open("rb") as content:
                return digest_of(content, like)
        except FileNotFoundError:
            return ""
        except OSError as error:
            return str(error)
