"""The result of one check of ``ainode check`` or ``ainode doctor``."""

from __future__ import annotations

from dataclasses import dataclass

from node.translation import marked

WORDS = (marked("FAIL"), marked("note"), marked("ok"))


@dataclass(frozen=True, kw_only=True)
class Check:
    """The result of one check."""

    name: str
    good: bool
    found: str
    remedy: str = ""

    @property
    def word(self) -> str:
        """How the result is shown: a note has passed but has a recommendation."""
        failed, note, passed = WORDS
        return failed if not self.good else note if self.remedy else passed
