"""In the process of a pipeline: how it has the worker run its container or call its server."""

from __future__ import annotations

import queue
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

from node.errors import error_of
from node.inference.child_output import send_reply
from node.inference.task import Answer, Reply, Task
from node.outside.exchange import Exchange


@dataclass
class OutsideCalls:
    """Implements ``node.pipeline.outside.Outside``."""

    exchange: Exchange
    tasks: Connection
    task: int = 0
    """Number of the one that runs."""
    answers: queue.SimpleQueue[Answer] = field(default_factory=queue.SimpleQueue)
    files: Mapping[str, tuple[Path, ...]] = field(default_factory=dict)
    returned: Sequence[Path] = ()
    uids: Mapping[str, str] = field(default_factory=dict)
    sent: Mapping[str, str] = field(default_factory=dict)
    others: Mapping[str, str] = field(default_factory=dict)
    segmentations: Mapping[str, Path] = field(default_factory=dict)

    @property
    def inputs(self) -> Path:
        return self.exchange.inputs

    @property
    def outputs(self) -> Path:
        return self.exchange.outputs

    def begin(self, task: Task) -> None:
        """From now on the files are those of this task."""
        self.task = task.number
        self.files = {"": task.paths, **task.companions}
        self.returned, self.uids = task.returned.paths, task.returned.uids
        self.sent, self.others = task.returned.sent, task.returned.others
        results = task.results.items()
        self.segmentations = {name: of.segmentation for name, of in results if of.segmentation is not None}

    def call(self) -> None:
        """See ``Outside.call``."""
        send_reply(self.tasks, Reply(calls_outside=True, task=self.task))
        answer = self.answers.get()
        if answer.error:
            raise error_of(answer.error, answer.reason)
