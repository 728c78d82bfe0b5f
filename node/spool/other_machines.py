"""What the spool needs to know of files that are elsewhere: on machines with folders of their own, or in packs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

OBJECT_STORE = "object store"
"""What stands in place of a machine where copies are counted: a verified pack."""


class OtherMachines(Protocol):
    """Files that are elsewhere: ``node.fleet`` fetches those of machines, ``node.object_store`` those of packs."""

    @property
    def machine(self) -> str:
        """Id of this machine, under which the ledger records what it holds; "": all machines see its files."""

    @property
    def copies(self) -> int:
        """On how many machines each file is to be."""

    def fetch(self, paths: Sequence[str]) -> dict[str, Path]:
        """Return copies of files; raise ``AbsentFileError`` or ``PlatformError`` when one cannot be fetched."""

    def sizes(self, paths: Sequence[str], *, asked: bool = False) -> dict[str, int]:
        """Return the size of each file that is elsewhere; raise ``AbsentFileError`` when a machine cannot be asked.

        ``asked``: whether the object store is asked, too; otherwise a verified pack counts as being there.
        """

    def digests(self, paths: Sequence[str]) -> dict[str, dict[str, str | None]]:
        """Return the digest of each file by machine, of the other machines that hold its folder."""

    def fetch_handover(self, path: str) -> None:
        """Place the handover of another machine at ``path``; raise ``AbsentFileError`` when it cannot be fetched."""
