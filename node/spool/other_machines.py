"""What the spool needs to know of machines that have storage folders of their own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol


class OtherMachines(Protocol):
    """The files of machines that have storage folders of their own; ``node.fleet`` fetches them."""

    @property
    def machine(self) -> str:
        """Id of this machine, under which the ledger records what it holds."""

    @property
    def copies(self) -> int:
        """On how many machines each file is to be."""

    def fetch(self, paths: Sequence[str]) -> dict[str, Path]:
        """Return copies of files; raise ``AbsentFileError`` or ``PlatformError`` when one cannot be fetched."""

    def sizes(self, paths: Sequence[str]) -> dict[str, int]:
        """Return the size of each file that another machine has; raise ``AbsentFileError`` when one cannot be asked."""

    def digests(self, paths: Sequence[str]) -> dict[str, dict[str, str | None]]:
        """Return the digest of each file by machine, of the other machines that hold its folder."""

    def fetch_handover(self, path: str) -> None:
        """Place the handover of another machine at ``path``; raise ``AbsentFileError`` when it cannot be fetched."""
