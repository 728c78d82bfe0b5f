"""The result of one check, as `ainode check` and `ainode doctor` print it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from node.errors import NodeError
from node.translation import marked

WORDS = (marked("FAIL"), marked("note"), marked("ok"))
_NAMES = (
    *(marked("installation"), marked("libraries"), marked("configuration"), marked("storage"), marked("ledger")),
    *(marked("secrets"), marked("tls"), marked("fleet"), marked("port"), marked("web port"), marked("orders port")),
    *(marked("orders"), marked("device"), marked("typeface"), marked("clock"), marked("disk speed")),
    *(marked("ledger integrity"), marked("dicomweb"), marked("dicomweb port"), marked("workitems")),
    marked("notify"),
)
"""Names of checks that are made once; they are translated where they are shown."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """The result of one check; ``found`` and ``remedy`` are in the language that is spoken."""

    name: str
    good: bool
    found: str
    remedy: str = ""

    @property
    def word(self) -> str:
        """How the result is shown: a note has passed but has a recommendation."""
        failed, note, passed = WORDS
        return failed if not self.good else note if self.remedy else passed


def guarded(name: str, look: Callable[[], Check]) -> Check:
    """Return the result of a check, or the error that ended it."""
    try:
        return look()
    except NodeError as error:  # its message contains the remedy
        return Check(name=name, good=False, found=str(error))
