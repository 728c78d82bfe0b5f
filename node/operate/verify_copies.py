"""Verification of copies: asks every machine for the digests of its files and compares them with the ledger."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import sqlalchemy as sa

from node.ledger.file_digests import digests_of_jobs, digests_of_studies, jobs_with_files, studies_with_files
from node.ledger.holdings import recorded_files
from node.ledger.missing_copies import among_missing_copies
from node.spool import Spool
from node.spool.tiers import OBJECT_STORE

Recorded = Callable[[sa.Connection], dict[str, str]]
_AT_ONCE = 500
"""Files that are looked at together, or those of one study: connections to the machines are made for each part."""


@dataclass(frozen=True, kw_only=True)
class CopyVerification:
    """The answer of ``ainode verify --fleet``; paths are relative to the storage folders."""

    copies: Mapping[int, int]
    """Recorded files by the number of machines that have them as recorded; the object store counts as one."""
    pending: tuple[str, ...]
    """With fewer copies than configured, which the ledger knows: the next one is being made."""
    missing: tuple[str, ...]
    """With fewer copies than configured, which the ledger does not know."""
    corrupt: tuple[str, ...]
    """Machine and path of each copy with other content."""
    unreachable: tuple[str, ...]
    """Machines that have files and do not answer."""

    @property
    def faults(self) -> int:
        """How many copies are missing, corrupt or out of reach."""
        return len(self.missing) + len(self.corrupt) + len(self.unreachable)


def verify_copies(engine: sa.Engine, spool: Spool) -> CopyVerification:
    """Count the copies of every recorded file. Nothing is changed; every machine reads all its files."""
    with engine.connect() as connection:
        places: list[Recorded] = [
            *(partial(digests_of_studies, studies=part) for part in _parts(studies_with_files(connection))),
            *(partial(digests_of_jobs, jobs=part) for part in _parts(jobs_with_files(connection))),
        ]
    copies, short, corrupt, unreachable = Counter[int](), list[str](), list[str](), set[str]()
    for recorded_in in places:
        with engine.connect() as connection:
            contents = recorded_files(connection, recorded_in(connection))
        tier_digests = spool.tiers.digests(contents)
        with engine.connect() as connection:
            now = recorded_in(connection)
        recorded = {path: of.digest for path, of in contents.items() if now.get(path) == of.digest}
        for path, digest in recorded.items():
            digests = tier_digests[path]
            good = sum(of == digest for of in digests.values())
            copies[good] += 1
            is_packed = digests.get(OBJECT_STORE) == digest  # which replaces all copies on machines
            if not good or (good < spool.copies and not is_packed):
                short.append(path)
            corrupt += [f"{machine} {path}" for machine, of in digests.items() if of not in (digest, "", None)]
            unreachable |= {machine for machine, of in digests.items() if of is None}
    with engine.connect() as connection:
        pending = among_missing_copies(connection, short)
    return CopyVerification(
        copies=dict(sorted(copies.items())),
        pending=tuple(path for path in short if path in pending),
        missing=tuple(path for path in short if path not in pending),
        corrupt=tuple(corrupt),
        unreachable=tuple(sorted(unreachable)),
    )


def _parts(files: Mapping[str, int]) -> Iterator[list[str]]:
    """Divide studies or jobs, with their numbers of files: each stays whole, as a pack in the object store is read."""
    part, size = list[str](), 0
    for name, count in sorted(files.items()):
        if part and size + count > _AT_ONCE:
            yield part
            part, size = [], 0
        part.append(name)
        size += count
    if part:
        yield part


def describe_copies(of: CopyVerification, wanted: int) -> str:
    """The verification in plain words, with the remedy of each kind of fault."""
    counts = ", ".join(f"{files} on {machines} machines" for machines, files in of.copies.items()) or "none"
    lines = [f"recorded files: {counts}; {wanted} wanted"]
    kinds: Sequence[tuple[str, tuple[str, ...], str]] = (
        ("pending", of.pending, "the ledger knows that a copy is missing; it is made when another machine has room"),
        ("missing", of.missing, "start the machines that are not running, and verify again; else send the study again"),
        ("corrupt", of.corrupt, "check the disk there, move the file away, and verify again"),
        ("no answer", of.unreachable, "start the machine; if it is gone for good: ainode fleet --abandon MACHINE"),
    )
    for kind, entries, remedy in kinds:
        lines += [f"{kind:10} {entry}" for entry in entries]
        if entries:
            lines.append(f"           -> {remedy}")
    if not of.faults and not of.pending:
        lines.append("Every copy is as it was recorded.")
    return "\n".join(lines)
