"""Verification: re-reads every file of spool and results and compares its digest with the ledger.

Nothing is changed. The node may run meanwhile: what looks wrong is looked up in the ledger once more before it counts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import sqlalchemy as sa

from node.errors import AbsentFileError
from node.ledger.engine import begin_immediate
from node.ledger.file_digests import digests_of_jobs, digests_of_studies, jobs_with_files, studies_with_files
from node.spool import Spool, digest_of
from node.translation import gettext, marked
from node.translation.cells import padded

SETTLE_SECONDS = 60.0
"""The row of a file may come this much later: a younger file without row is not judged."""
_AT_ONCE = 500
"""Files that are not here and are asked for together: connections to other machines are made for each part."""

Fault = Literal["missing", "altered", "unreachable", "unrecorded"]
Recorded = Callable[[sa.Connection], dict[str, str]]
"""Query of paths with their digests."""
Progress = Callable[[int, int], None]
"""Called with the number of studies and jobs that are done, and of all."""


@dataclass(frozen=True, kw_only=True)
class Verification:
    """The answer of ``ainode verify``; paths are relative to the storage folder."""

    files: int
    size: int
    """Bytes read."""
    recorded: int
    """Files that the ledger knows."""
    missing: tuple[str, ...]
    """Recorded, but there is no such file."""
    altered: tuple[str, ...]
    """The file cannot be read, or has another digest than its row."""
    elsewhere: int
    """Recorded files that only other machines have, which verify them."""
    unreachable: tuple[str, ...]
    """Recorded files of machines that cannot be reached."""
    unrecorded: tuple[str, ...]
    """Received files without row: the receiver records them at its next start."""
    leftover: tuple[str, ...]
    """Result files without row, of an encoding that was repeated or cut off: no fault, they go with their study."""

    @property
    def faults(self) -> int:
        """How many files do not agree with the ledger."""
        return len(self.missing) + len(self.altered) + len(self.unreachable) + len(self.unrecorded)


def compare(recorded: Mapping[str, str], computed: Mapping[str, str]) -> dict[str, Fault]:
    """Return path -> fault, given path -> digest of the ledger and of the files."""
    faults: dict[str, Fault] = dict.fromkeys(recorded.keys() - computed.keys(), "missing")
    for path, digest in computed.items():
        if path not in recorded:
            faults[path] = "unrecorded"
        elif recorded[path] != digest:
            faults[path] = "altered"
    return faults


def verify(engine: sa.Engine, spool: Spool, at: float, progress: Progress = lambda _done, _all: None) -> Verification:
    """Compare all files, one study or job at a time. ``at``: now, in seconds since 1970 UTC."""
    places = _places(engine, spool)
    faults, absent = dict[str, Fault](), dict[str, Recorded]()
    files, size, recorded, elsewhere = 0, 0, 0, 0
    for done, (folders, recorded_in) in enumerate(places):
        progress(done, len(places))
        with engine.connect() as connection:
            before = recorded_in(connection)
        digests, read = _digests(spool, folders, before)
        here = compare(before, digests)
        if here:
            with begin_immediate(engine) as connection:  # waits for retention, whose files go before their rows
                again = compare(recorded_in(connection), digests)
            alike = dict(here.items() & again.items())
            faults |= {path: of for path, of in alike.items() if of != "missing"}
            absent |= {path: recorded_in for path, of in alike.items() if of == "missing"}
        if len(absent) >= _AT_ONCE or (absent and done + 1 == len(places)):
            on_others, faults_there = _on_others(engine, spool, absent)
            elsewhere, faults, absent = elsewhere + on_others, faults | faults_there, {}
        files, size, recorded = files + len(digests), size + read, recorded + len(before)
    progress(len(places), len(places))
    loose = {p for p, fault in faults.items() if fault == "unrecorded" and _age(spool, p, at) >= SETTLE_SECONDS}
    leftover = {path for path in loose if path.startswith("results/")}
    return Verification(
        files=files,
        size=size,
        recorded=recorded,
        elsewhere=elsewhere,
        unreachable=tuple(sorted(path for path, fault in faults.items() if fault == "unreachable")),
        missing=tuple(sorted(path for path, fault in faults.items() if fault == "missing")),
        altered=tuple(sorted(path for path, fault in faults.items() if fault == "altered")),
        unrecorded=tuple(sorted(loose - leftover)),
        leftover=tuple(sorted(leftover)),
    )


def _on_others(engine: sa.Engine, spool: Spool, absent: Mapping[str, Recorded]) -> tuple[int, dict[str, Fault]]:
    """Return how many of the files that are not here other machines have, and what is known of the rest."""
    answers = _asked(spool, sorted(absent))
    lacking = {path: fault for path, fault in answers.items() if fault is not None}
    with engine.connect() as connection:  # retention may have purged some since
        recorded = {recorded_in: recorded_in(connection) for recorded_in in {absent[path] for path in lacking}}
    faults = {path: fault for path, fault in lacking.items() if path in recorded[absent[path]]}
    return len(answers) - len(lacking), faults


def _asked(spool: Spool, paths: Sequence[str]) -> dict[str, Fault | None]:
    """Return ``None`` for each file that another machine has, and what is known of the others."""
    try:
        held = spool.tiers.sizes(paths)
    except AbsentFileError:
        if len(paths) == 1:
            return {paths[0]: "unreachable"}
        half = len(paths) // 2  # which ones
        return _asked(spool, paths[:half]) | _asked(spool, paths[half:])
    return {path: None if path in held else "missing" for path in paths}


def _places(engine: sa.Engine, spool: Spool) -> list[tuple[tuple[str, ...], Recorded]]:
    """Folders that belong together, and the query of what is recorded in them."""
    with engine.connect() as connection:
        studies, jobs = set(studies_with_files(connection)), set(jobs_with_files(connection))
    places: list[tuple[tuple[str, ...], Recorded]] = [
        ((f"incoming/{study}", f"conflicts/{study}"), partial(digests_of_studies, studies=[study]))
        for study in sorted(studies | spool.names("incoming") | spool.names("conflicts"))
    ]
    places += [
        ((f"results/{job}",), partial(digests_of_jobs, jobs=[job])) for job in sorted(jobs | spool.names("results"))
    ]
    return places


def _digests(spool: Spool, folders: tuple[str, ...], recorded: Mapping[str, str]) -> tuple[dict[str, str], int]:
    """Path -> digest of every file, or why it cannot be read, which equals no digest; and the bytes read.

    In the algorithm of the one that is recorded.
    """
    digests, size = {}, 0
    for path in (path for folder in folders for path in spool.files(folder)):
        try:
            with spool.absolute(path).open("rb") as file:
                digests[path] = digest_of(file, recorded[path]) if path in recorded else digest_of(file)
                size += file.tell()
        except FileNotFoundError:
            continue  # retention was faster
        except OSError as error:
            digests[path] = str(error)
    return digests, size


def _age(spool: Spool, path: str, at: float) -> float:
    """Seconds since the file was written; 0 when it is gone again."""
    try:
        return at - spool.absolute(path).stat().st_mtime
    except FileNotFoundError:
        return 0.0


def describe(of: Verification) -> str:
    """The verification in plain words, with the remedy of each kind of fault."""
    others = gettext(", {number} of them on other machines only", number=of.elsewhere) if of.elsewhere else ""
    lines = [
        gettext(
            "{files} files, {gib:.2f} GiB read; {recorded} in the ledger{others}",
            files=of.files,
            gib=of.size / 2**30,
            recorded=of.recorded,
            others=others,
        )
    ]
    if of.recorded:
        rebuilt = marked(
            "the receiver records them at its next start; what it cannot read stays, and is named in its log"
        )
    else:
        rebuilt = marked("the ledger is empty: it is rebuilt from these files when the node starts (ainode run)")
    for kind, paths, remedy in (
        (marked("missing"), of.missing, marked("send the study again; a result: ainode retry JOB_ID")),
        (
            marked("unreachable"),
            of.unreachable,
            marked("only a machine or an object store that does not answer may have it: start it, and verify again"),
        ),
        (
            marked("altered"),
            of.altered,
            marked("check the disk, move the file away, send the study again or retry the job"),
        ),
        (marked("unrecorded"), of.unrecorded, rebuilt),
        (
            marked("left over"),
            of.leftover,
            marked("no fault: a result that was made again; it goes with its study"),
        ),
    ):
        lines += [f"{padded(gettext(kind), 10)} {path}" for path in paths]
        if paths:
            lines.append(f"           -> {gettext(remedy)}")
    if not of.faults:
        lines.append(gettext("Every file is as it was recorded."))
    return "\n".join(lines)
