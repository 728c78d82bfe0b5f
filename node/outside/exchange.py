"""The two folders through which a pipeline and what runs outside of its process give each other files."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from node.errors import PipelineError
from node.spool.remove_tree import remove_tree

REQUEST, ANSWER, ABOUT = "request.body", "answer.body", "about.json"
"""Files of calls of a server; ``ABOUT`` says in both directions how long the JSON before binary tensors is."""


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """``inputs`` and ``outputs``; both may be written by strangers, neither can be replaced by them."""

    folder: Path
    """Only the node writes to it."""

    @property
    def inputs(self) -> Path:
        """What the process of the pipeline lays out."""
        return self.folder / "in"

    @property
    def outputs(self) -> Path:
        """What the container or server returns."""
        return self.folder / "out"

    def make(self) -> None:
        """Make both folders."""
        for folder in (self.inputs, self.outputs):
            folder.mkdir(parents=True, exist_ok=True)

    def clear(self) -> None:
        """Remove everything in both folders."""
        for folder in (self.inputs, self.outputs):
            with suppress(FileNotFoundError):
                for child in os.scandir(folder):
                    if child.is_dir(follow_symlinks=False):
                        remove_tree(Path(child.path))
                    else:
                        Path(child.path).unlink(missing_ok=True)


def open_given(path: Path, most_bytes: int) -> int:
    """Open a file that a stranger wrote: a plain file of at most ``most_bytes``, no link. Raises ``PipelineError``."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise PipelineError(f"the process of the pipeline left no {path.name} that can be read: {error}") from None
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_size > most_bytes:
        os.close(descriptor)
        raise PipelineError(
            f"the process of the pipeline left a {path.name} that is no file of {most_bytes} bytes at most"
        )
    return descriptor
