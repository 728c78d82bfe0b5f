"""Sandbox folder of a process that runs models: the only files of the node that it can read or change.

``in`` holds second names (hard links) of the files of its jobs and is read-only to it, ``out`` is its own: temporary
files and what it hands over. Other studies, the ledger and the configuration are out of its reach.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path

from node.config import PipelineTable
from node.inference.task import FINDINGS, Task
from node.isolation import READ, WRITE
from node.outside.exchange import Exchange
from node.spool.files import new_locked, sync_folder
from node.spool.remove_tree import remove_tree


class SandboxFolder:
    """Folder of one confined process, below a folder of the process that started it.

    When that one has died, a living worker removes it (``node.spool.remove_tree.sweep_members``).
    """

    def __init__(self, below: Path) -> None:
        below.mkdir(parents=True, exist_ok=True)
        self._folder, self._lock = new_locked(below)
        for name in ("in", "out"):
            (self._folder / name).mkdir()
        self.exchange = Exchange(folder=self._folder / "exchange")

    @property
    def inside(self) -> Path:
        """What the process may read."""
        return self._folder / "in"

    @property
    def out(self) -> Path:
        """Where the process may write."""
        return self._folder / "out"

    @property
    def written(self) -> tuple[Path, ...]:
        """Every folder that somebody else writes to."""
        return self.out, self.exchange.inputs, self.exchange.outputs

    def rules(self, *, exchange: bool = False) -> tuple[tuple[Path, int], ...]:
        """Return the access rules for ``node.isolation.confine``; with ``exchange`` its two folders are made."""
        if not exchange:
            return (self._folder / "in", READ), (self.out, WRITE)
        self.exchange.make()
        both = ((folder, WRITE) for folder in (self.exchange.inputs, self.exchange.outputs))
        return (self._folder / "in", READ), (self.out, WRITE), *both

    def link_task(self, task: Task) -> Task:
        """Link the files of a task into the folder and return the task with their new paths."""
        place = self._folder / "in" / (task.job_id or "-")
        return replace(
            task,
            paths=linked(task.paths, place / "series"),
            companions={
                name: linked(paths, place / f"companion {number}")
                for number, (name, paths) in enumerate(task.companions.items())
            },
            prior=replace(
                task.prior,
                report=_one(task.prior.report, place / "report"),
                segmentation=_one(task.prior.segmentation, place / "segmentation"),
                images=linked(task.prior.images, place / "prior"),
            ),
            results={
                name: replace(
                    of,
                    described_by=linked((of.described_by,), place / f"result {number}")[0],
                    segmentation=_one(of.segmentation, place / f"result {number}"),
                )
                for number, (name, of) in enumerate(task.results.items())
            },
            returned=replace(task.returned, paths=linked(task.returned.paths, place / "returned")),
            folder=self.out / (task.job_id or "-"),
        )

    def take(self, task: Task) -> None:
        """Move the handover of ``task`` durably to the folder that the task names, replacing an older one.

        Nothing happens when there is none. Both folders are on one file system.
        """
        findings_file = self.out / (task.job_id or "-") / FINDINGS
        if findings_file.is_file():  # the pipeline may have made anything else of that name
            task.folder.mkdir(parents=True, exist_ok=True)
            findings_file.replace(task.folder / FINDINGS)
            for changed in (task.folder, task.folder.parent):
                sync_folder(changed)

    def clear(self, task: Task) -> None:
        """Remove the files of a task."""
        remove_tree(self._folder / "in" / (task.job_id or "-"))
        remove_tree(self.out / (task.job_id or "-"))
        self.exchange.clear()

    def close(self) -> None:
        """Remove the folder after its process has ended."""
        remove_tree(self._folder)
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def models(tables: Collection[PipelineTable]) -> Iterator[tuple[Path, int]]:
    """Rules that let the process read weights, digests next to them, and files that ``options`` name."""
    for table in tables:
        if table.weights is not None:
            yield table.weights, READ
            yield table.weights.with_suffix(".sha256"), READ
        for value in table.options.values():
            if isinstance(value, str) and value.startswith("/"):
                yield Path(value), READ


def linked(paths: tuple[Path, ...], folder: Path) -> tuple[Path, ...]:
    """Link files, which have different names, into a folder of a sandbox folder; return their new paths."""
    folder.mkdir(parents=True, exist_ok=True)
    return tuple(_link(path, folder / path.name) for path in paths)


def _one(path: Path | None, folder: Path) -> Path | None:
    return None if path is None else linked((path,), folder)[0]


def _link(path: Path, name: Path) -> Path:
    if name.exists():  # laid when it was prepared
        return name
    try:
        os.link(path, name)
    except FileNotFoundError:  # purged by now; the reader reports it
        return name
    except OSError:  # another file system, or a file of another user
        shutil.copyfile(path, name)
    return name
