"""Second copies as the receiver sees them; ``node.fleet`` makes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from node.spool import Draft


class DurableCopy(NamedTuple):
    """A second copy that survives the loss of this machine."""

    machine: str
    """Id of the machine that has it."""
    path: str
    digest: str
    """Of the file there, which has the same data set; another digest: another sender is named in its header."""


class SecondCopy(Protocol):
    """The second copy of one image: any number of ``write``, then ``keep`` and ``wait``, or ``discard`` at any time."""

    def write(self, parts: Sequence[bytes | memoryview]) -> None:
        """Send what is written to the draft. A failure shows in ``wait``."""

    def keep(self, study: str, series: str, sop: str) -> None:
        """Have the complete image stored, without waiting for it."""

    def wait(self) -> DurableCopy:
        """Return when another machine has the image durably. Raises ``AbsentFileError`` when none has it in time."""

    def discard(self) -> None:
        """Give the copy up."""


class Copies(Protocol):
    """The machines that take second copies."""

    def start(self) -> None:
        """Begin to look for them."""

    def stop(self) -> None:
        """Stop looking."""

    def has_machine(self) -> bool:
        """Return whether there is any."""

    def begin(self, draft: Draft) -> SecondCopy:
        """Begin the second copy of an image that is being written to ``draft``."""
