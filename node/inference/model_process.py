"""ModelProcess: starts a child process that runs pipelines, gives it tasks, and kills it.

It is killed when its time limit is over, and when its job is not wanted any more.
"""

from __future__ import annotations

import atexit
import logging
import multiprocessing
import os
import signal
import subprocess
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from itertools import count
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING

from node.confined.output import ChildOutput
from node.errors import NodeError, PipelineError, PlatformError, error_code, error_of
from node.inference.child_output import receive_reply, send_task
from node.inference.disk_limit import FolderWatch, excess
from node.inference.run_limit import RunLimit
from node.inference.sandbox_folder import SandboxFolder
from node.inference.task import Answer, Bounds, PriorFiles, Reply, Task
from node.isolation.device_files import prepare_nvidia_devices
from node.log import subject
from node.outside.caller import Caller, caller_of, not_allowed
from node.process import subreaper
from node.process.idle_time import IdleTime
from node.process.priority import compute_when_idle
from node.process.program import start_program
from node.spool.remove_tree import remove_tree

if TYPE_CHECKING:
    from node.outside.exchange import Exchange

logger = logging.getLogger(__name__)


_START = "from node.inference.child import main; main()"


class TaskAborted(Exception):  # noqa: N818 - nothing went wrong
    """The job was cancelled, or the service stops, while the pipeline ran."""


class ModelProcess:
    """One child process. ``run`` is called by one thread at a time."""

    def __init__(
        self,
        device: str,
        threads: int,
        timeout_seconds: float,
        sandbox_folders: Path,
        *,
        rules: tuple[tuple[Path, int], ...] = (),
        cache: Path | None = None,
        level: int = logging.INFO,
        exchange: bool = False,
        when_idle: IdleTime | None = None,
    ) -> None:
        """``sandbox_folders``: where its folder is made, best on the file system of the images.

        ``rules``: files it may read.

        ``level``: of what it prints, in the log.

        ``exchange``: its pipelines may call what their tables name outside (``node.outside``).

        ``when_idle``: it computes with a lower priority, and pauses while this time is taken.
        """
        self.device = device
        self._threads = threads
        self._sandbox_folders = sandbox_folders
        self._rules = rules
        self._cache = cache
        self._limit = RunLimit(device, timeout_seconds, when_idle)
        self._lock = threading.Lock()
        self._sending = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._tasks: Connection | None = None
        self._sandbox_folder: SandboxFolder | None = None
        self._closed = False
        self._numbers = count(1)
        self._callers: dict[str, Caller | None] = {}
        self._exchange = exchange
        self._is_nice = when_idle is not None
        self._level = level
        self._output = ChildOutput(device, level)
        # The kernel kills a child when the thread that started it ends (prctl(2)): this one lives as long as we do.
        self._starter = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"start {device}")

    def run(self, task: Task, wanted: Callable[[], bool]) -> Reply:
        """Run a task; its outcome is one of ``node.outcome.Outcome``.

        Raises ``TaskAborted`` when ``wanted`` returns false, ``PipelineError`` when the child died, ran too long or
        wrote too much, ``PlatformError`` when devices are missing, and the ``NodeError`` that the child reports. Where
        the child is then gone, the next task gets a new one.
        """
        caller = self._caller(task)
        process, tasks, sandbox_folder = self._ready()
        laid = replace(sandbox_folder.link_task(task), number=next(self._numbers))
        self._output.begin(subject())
        deadline = self._limit.deadline()
        watch = FolderWatch([*sandbox_folder.written, *([self._cache] if self._cache else [])])

        def look() -> None:
            self._look(process, task, deadline, wanted)
            watch.look(f"pipeline {task.pipeline!r}")

        try:
            with self._limit.pausing(process.pid):
                reply = self._replied(tasks, laid, laid, look)
                while reply.calls_outside:
                    answer = self._answer(task, caller, sandbox_folder.exchange, look)
                    reply = self._replied(tasks, laid, answer, look)
        except (EOFError, OSError):
            process.wait()
            if self._closed:
                raise TaskAborted("the service stops") from None
            raise PipelineError(f"pipeline {task.pipeline!r}: {_death(process.returncode)}") from None
        except BaseException:
            self._kill()
            self._empty_full_cache()
            raise
        else:
            if not reply.error:
                sandbox_folder.take(task)
        finally:
            sandbox_folder.clear(task)
        if reply.error:
            if reply.ends_process:
                self._kill()
            raise error_of(reply.error, reply.reason)
        return reply

    def _replied(self, tasks: Connection, task: Task, sent: Task | Answer, look: Callable[[], None]) -> Reply:
        self._send(tasks, sent, look)
        reply = receive_reply(tasks, self._limit.look_seconds, look)
        if reply.task != task.number:
            raise PipelineError(f"pipeline {task.pipeline!r}: its process replied to another task and was killed")
        return reply

    def _empty_full_cache(self) -> None:
        if self._cache and excess(self._cache):
            remove_tree(self._cache)
            self._cache.mkdir()

    def _caller(self, task: Task) -> Caller | None:
        """What the pipeline of ``task`` may call outside. Raises a ``NodeError`` when that cannot work."""
        key = f"{task.pipeline} {task.table!r}"
        if key not in self._callers:
            self._callers[key] = caller_of(
                task.pipeline, task.table, self.device, threads=self._threads, seconds=self._limit.seconds
            )
        caller = self._callers[key]
        if caller is not None:
            caller.check()
        return caller

    def _answer(self, task: Task, caller: Caller | None, exchange: Exchange, look: Callable[[], None]) -> Answer:
        """Do what the table of ``task`` names outside. Raises what ``look`` raises."""
        if caller is None:
            raise not_allowed(task.pipeline)
        try:
            caller.call(exchange, self._output, look)
        except TaskAborted:
            raise
        except NodeError as error:
            look()  # a run that is over for another reason ends with that one
            return Answer(error=error_code(error), reason=str(error))
        return Answer()

    def prepare(self, task: Task) -> None:
        """Have the series of ``task``, the next to run, decoded while another runs; may be called by any thread."""
        with self._lock:
            laid = None if self._sandbox_folder is None else self._sandbox_folder.link_task(task)
        if laid is not None:
            self._prefetch(laid)

    def discard(self, task: Task) -> None:
        """Discard what was prefetched and not taken."""
        self._prefetch(replace(task, paths=(), companions={}, prior=PriorFiles()))
        with self._lock:
            if self._sandbox_folder is not None:
                self._sandbox_folder.clear(task)

    def _prefetch(self, task: Task) -> None:
        with self._lock:
            process, tasks = self._process, self._tasks
        if process is None or tasks is None:
            return
        deadline = self._limit.deadline()
        try:
            self._send(tasks, replace(task, prefetch=True), lambda: self._look(process, task, deadline, lambda: True))
        except (EOFError, OSError):
            return  # a child that is gone: the run will start a new one
        except PipelineError as error:
            logger.warning("%s: its process does not read the next task: %s", self.device, error)
            self._kill()

    def _send(self, tasks: Connection, task: Task | Answer, look: Callable[[], None]) -> None:
        """Send one task at a time. Whoever waits calls ``look``, so a child that does not read is killed in time."""
        while not self._sending.acquire(timeout=self._limit.look_seconds):
            look()
        try:
            send_task(tasks, task, self._limit.look_seconds, look)
        finally:
            self._sending.release()

    def close(self) -> None:
        """Kill the child; a running task raises ``TaskAborted``, later ones too."""
        self._closed = True
        atexit.unregister(self.close)
        self._kill()
        self._starter.shutdown(wait=False)

    def _look(self, process: subprocess.Popen[bytes], task: Task, deadline: float, wanted: Callable[[], bool]) -> None:
        if process.poll() is not None:  # and something it started holds the pipe open
            raise EOFError
        self._limit.look(task, deadline)
        if not wanted():
            raise TaskAborted(f"job {task.job_id} is not wanted any more")

    def _ready(self) -> tuple[subprocess.Popen[bytes], Connection, SandboxFolder]:
        with self._lock:
            if self._closed:
                raise TaskAborted("the service stops")
            if self._sandbox_folder is not None and not (self._process is not None and self._process.poll() is None):
                self._sandbox_folder.close()
                self._sandbox_folder = None
            if self._process is None or self._tasks is None or self._sandbox_folder is None:
                self._sandbox_folder = SandboxFolder(self._sandbox_folders)
                self._process, self._tasks = self._starter.submit(self._start, self._sandbox_folder).result()
            return self._process, self._tasks, self._sandbox_folder

    def _start(self, sandbox_folder: SandboxFolder) -> tuple[subprocess.Popen[bytes], Connection]:
        if self.device.startswith("cuda"):
            prepare_nvidia_devices()
        ours, theirs = multiprocessing.Pipe()
        printed, output = multiprocessing.Pipe(duplex=False)
        rules = (*sandbox_folder.rules(exchange=self._exchange), *self._rules)
        bounds = Bounds(
            device=self.device,
            threads=self._threads,
            rules=rules,
            out=sandbox_folder.out,
            exchange=sandbox_folder.exchange if self._exchange else None,
            cache=self._cache,
        )
        number = theirs.fileno()
        try:
            process = start_program(
                _START, number, os.getpid(), descriptors=(number,), output=output.fileno(), threads=self._threads
            )
        except OSError as error:
            raise PlatformError(f"the process for {self.device} cannot be started: {error}") from error
        finally:
            theirs.close()
            output.close()
        if self._is_nice:
            compute_when_idle(process.pid)
        atexit.register(self.close)
        with suppress(ConnectionError):  # the run notices
            ours.send(bounds)
        threading.Thread(target=self._output.log, args=(printed,), name=f"log {self.device}", daemon=True).start()
        logger.log(self._level, "worker child %d serves %s", process.pid, self.device)
        return process, ours

    def _kill(self) -> None:
        with self._lock:
            process, self._process = self._process, None
            tasks, self._tasks = self._tasks, None
            sandbox_folder, self._sandbox_folder = self._sandbox_folder, None
        if process is None:
            return
        process.send_signal(subreaper.END)  # which ends it, and everything that it started
        process.wait()
        if tasks is not None:
            with self._sending:  # whoever sends sees that the process is gone, and ends
                tasks.close()
        if sandbox_folder is not None:
            sandbox_folder.close()


def _death(status: int) -> str:
    if status < 0:
        name = signal.Signals(-status).name
        hint = ", most often by the kernel for lack of memory" if status == -signal.SIGKILL else ""
        return f"its process was killed by {name}{hint}"
    return f"its process ended with status {status}"
