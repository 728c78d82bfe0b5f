"""The tiers that hold stored files: what one does not have, or has with other content, comes from the next."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from node.errors import AbsentFileError, PlatformError

logger = logging.getLogger(__name__)

_Answer = TypeVar("_Answer")

OBJECT_STORE = "object store"
"""What stands in place of a machine where copies are counted: a verified pack."""


class Content(Protocol):
    """What the ledger recorded of the content of a file."""

    @property
    def digest(self) -> str:
        """As ``node.spool.digest`` writes it."""

    @property
    def size(self) -> int:
        """Bytes."""


class Files(Protocol):
    """One tier: the storage folder, the other machines, or the packs of the object store.

    Every verb means the same in each of them. Any thread may call. Paths are those of the ledger; one that is no name
    of a stored file is nowhere.
    """

    def fetch(self, wanted: Mapping[str, Content]) -> dict[str, Path | PlatformError]:
        """Return where each file can be read with exactly this content, or why it cannot.

        A file that is not in this tier is left out. ``AbsentFileError``: it may be there, but there is no answer; any
        other error: what is there has other content, or this machine cannot take a copy.
        """

    def sizes(self, paths: Sequence[str]) -> dict[str, int | PlatformError]:
        """Return the size of each file as it is now, or why that is unknown; one that is not there is left out."""

    def digests(self, recorded: Mapping[str, Content]) -> dict[str, dict[str, str | None]]:
        """Return for each file the digest that it has now in every place of this tier, in the recorded algorithm.

        "": it is not there, where it should be; ``None``: the place does not answer.
        """


class OtherMachines(Files, Protocol):
    """The tier of a fleet whose machines have storage folders of their own."""

    @property
    def machine(self) -> str:
        """Id of this machine, under which the ledger records what it holds."""

    @property
    def copies(self) -> int:
        """On how many machines each file is to be."""

    def fetch_handover(self, path: str) -> None:
        """Place the handover of another machine at ``path``; raise ``AbsentFileError`` when it cannot be fetched."""


@dataclass(frozen=True, kw_only=True)
class OtherTiers:
    """The tiers of a spool besides its folder."""

    recorded: Callable[[Collection[str]], Mapping[str, Content]]
    """Returns what the ledger recorded of files that one of these tiers may have."""
    machines: OtherMachines | None = None
    packs: Files | None = None


class Tiers:
    """Tiers in the order in which they are asked."""

    def __init__(self, tiers: Sequence[Files]) -> None:
        self._tiers = tiers

    def fetch(self, wanted: Mapping[str, Content]) -> dict[str, Path]:
        """Return where each file can be read; one that no tier has is left out.

        Raises ``AbsentFileError`` when a tier that may have one does not answer and no other gives it,
        ``PlatformError`` when every copy has other content.
        """
        return self._first(wanted, lambda tier, lacking: tier.fetch({path: wanted[path] for path in lacking}))

    def sizes(self, paths: Iterable[str]) -> dict[str, int]:
        """Return the size of each file that a tier has now. Raises ``AbsentFileError``, ``PlatformError``."""
        return self._first(paths, lambda tier, lacking: tier.sizes(lacking))

    def digests(self, recorded: Mapping[str, Content]) -> dict[str, dict[str, str | None]]:
        """Return for each file the digest that it has now in every place of every tier; see ``Files``."""
        digests: dict[str, dict[str, str | None]] = {path: {} for path in recorded}
        for tier in self._tiers:
            for path, places in tier.digests(recorded).items():
                digests[path] |= places
        return digests

    def _first(
        self, paths: Iterable[str], ask: Callable[[Files, list[str]], Mapping[str, _Answer | PlatformError]]
    ) -> dict[str, _Answer]:
        """Return for each file the answer of the first tier that has it."""
        lacking, answers, faults = list(paths), dict[str, _Answer](), dict[str, list[PlatformError]]()
        for tier in self._tiers:
            for path, answer in ask(tier, lacking).items() if lacking else ():
                if isinstance(answer, PlatformError):
                    faults.setdefault(path, []).append(answer)
                else:
                    answers[path] = answer
            lacking = [path for path in lacking if path not in answers]
        if errors := [error for path in lacking for error in faults.get(path, ())]:
            raise first_fault(errors)
        if faults:
            (first, *_), *_ = faults.values()
            logger.warning("files that come from a further tier: %d; %s", len(faults), first)
        return answers


def first_fault(faults: Sequence[PlatformError]) -> PlatformError:
    """Return the fault that matters most: a tier or machine that does not answer may have the right file."""
    return next((fault for fault in faults if isinstance(fault, AbsentFileError)), faults[0])
