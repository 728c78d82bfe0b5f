"""A confined process as its parent sees it: started when it is needed, asked, killed and replaced."""

from __future__ import annotations

import logging
import multiprocessing
import os
import pickle
import signal
import socket
import subprocess
import threading
import time
import weakref
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from functools import lru_cache
from pathlib import Path
from typing import ParamSpec, TypeVar

from node.confined.bounds import Bounds
from node.confined.child import Call, Confinement
from node.confined.output import ChildOutput
from node.confined.reply import process_ends, receive_line, result_of
from node.errors import InputError, NodeError, PlatformError, ProcessAbsentError
from node.isolation import READ, WRITE
from node.log import subject
from node.process import subreaper
from node.process.idle_time import IdleTime
from node.process.priority import compute_when_idle
from node.process.program import start_program

logger = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")

_LOOK_SECONDS = 0.5
"""Between two looks at the clock while a call runs."""
_START = "from node.confined.child import main; main()"


class ConfinedProcess:
    """One process that runs functions on files; any thread may call, and one call runs at a time.

    It reads what is below ``readable`` and writes below ``writable``, and nothing else but the programs of this
    machine. The first call starts it; a call that it does not survive costs that call, and the next one starts another.
    """

    def __init__(
        self,
        name: str,
        *,
        readable: Iterable[Path],
        writable: Iterable[Path] = (),
        bounds: Bounds | None = None,
        decodes: bool = True,
        when_idle: IdleTime | None = None,
    ) -> None:
        """``name``: for the log, for example ``"header reader"``; ``decodes``: its functions may decode pixels.

        ``when_idle``: it computes with a lower priority, and pauses while this time is taken.
        """
        self._name = name
        self._bounds = bounds or Bounds()
        self._decodes = decodes
        self._when_idle = when_idle
        self._rules = (*((path, READ) for path in readable), *((path, WRITE) for path in writable))
        self._turn = threading.Lock()
        self._child: _Child | None = None
        self._output = ChildOutput(name)
        # The kernel kills a child when the thread that started it ends (prctl(2)): this one lives as long as we do.
        self._starter = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"start {name}")

    def call(self, about: str, function: Callable[P, R], *arguments: P.args, **keywords: P.kwargs) -> R:
        """Return ``function(*arguments, **keywords)``, computed in the process.

        ``function``: of a module, with an annotation of what it returns, which JSON can express (pydantic): numbers,
        texts, bytes, dataclasses of them. ``about``: what is read, with its UID, for messages.

        Raises the ``NodeError`` that the function raises; ``InputError`` when the call takes more computing or memory
        than the bounds allow, or crashes the process; ``PlatformError`` when the process cannot be started, was killed
        by others or does not answer (``ProcessAbsentError``): the same call may succeed later.
        """
        data = pickle.dumps(Call(about, function, arguments, keywords))
        with self._turn, ExitStack() as using:
            child = self._ready()
            if self._when_idle is not None:
                using.enter_context(self._when_idle.used_by(child.process.pid))
            self._output.begin(subject())
            deadline = self._clock() + self._bounds.wall_seconds
            try:
                child.channel.sendall(data)
                longest = self._bounds.reply_mib << 20
                line = receive_line(
                    child.channel.fileno(), longest, _LOOK_SECONDS, lambda: self._look(child, about, deadline)
                )
            except (EOFError, ConnectionError):
                self._child = None
                raise self._death(about, child) from None
            except ValueError as error:
                self._kill()
                raise PlatformError(f"{about}: the {self._name} {error}") from None
            except TimeoutError:
                self._kill()
                raise self._unanswered(about) from None
            except BaseException:
                self._kill()
                raise
            if process_ends(line):
                self._kill()
        return result_of(function, line)

    def close(self) -> None:
        """End the process; a later call starts another."""
        with self._turn:
            self._kill()

    def interrupt(self) -> None:
        """Kill the process without waiting for the call that runs, which then raises ``PlatformError``."""
        if (child := self._child) is not None:
            child.kill()

    def _ready(self) -> _Child:
        if self._child is None or self._child.process.poll() is not None:
            self._kill()
            self._child = self._starter.submit(self._start).result()
        return self._child

    def _start(self) -> _Child:
        ours, theirs = socket.socketpair()
        printed, output = multiprocessing.Pipe(duplex=False)
        number = theirs.fileno()
        try:
            process = start_program(
                _START, number, os.getpid(), descriptors=(number,), output=output.fileno(), threads=1
            )
        except OSError as error:
            raise PlatformError(f"the {self._name} cannot be started: {error}") from error
        finally:
            theirs.close()
            output.close()
        if self._when_idle is not None:
            compute_when_idle(process.pid)
        child = _Child(self, process, ours)
        threading.Thread(target=self._output.log, args=(printed,), name=f"log {self._name}", daemon=True).start()
        ours.settimeout(self._bounds.wall_seconds)
        with suppress(ConnectionError):  # the call notices
            ours.sendall(pickle.dumps(Confinement(bounds=self._bounds, rules=self._rules, decodes=self._decodes)))
        return child

    def _look(self, child: _Child, about: str, deadline: float) -> None:
        if child.process.poll() is not None and not child.has_data():
            raise EOFError
        if self._when_idle is not None:
            self._when_idle.look()
        if self._clock() > deadline:
            raise self._unanswered(about)

    def _clock(self) -> float:
        """Seconds without those in which it paused."""
        return time.monotonic() - (self._when_idle.taken_seconds() if self._when_idle is not None else 0.0)

    def _unanswered(self, about: str) -> NodeError:
        seconds = self._bounds.wall_seconds
        return ProcessAbsentError(f"{about}: the {self._name} did not answer within {seconds:g} s and was killed")

    def _death(self, about: str, child: _Child) -> NodeError:
        code = child.exit_code()
        if code == -signal.SIGXCPU:
            return InputError(f"{about}: reading it took more than {self._bounds.cpu_seconds} s of computing")
        if code < 0 and code != -signal.SIGKILL:
            return InputError(f"{about}: reading it ended the {self._name} with {signal.Signals(-code).name}")
        ending = "SIGKILL, most often for lack of memory" if code < 0 else f"status {code}"
        return PlatformError(f"{about}: the {self._name} ended with {ending}")

    def _kill(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.end()


@lru_cache(maxsize=4)
def shared_process(
    name: str, readable: tuple[Path, ...], bounds: Bounds, *, writable: tuple[Path, ...] = (), decodes: bool = True
) -> ConfinedProcess:
    """Return the process of this name, which everybody in this process shares who reads the same folders."""
    return ConfinedProcess(name, readable=readable, writable=writable, bounds=bounds, decodes=decodes)


class _Child:
    """One process and its socket, which end with their owner."""

    def __init__(self, owner: ConfinedProcess, process: subprocess.Popen[bytes], channel: socket.socket) -> None:
        self.process = process
        self.channel = channel
        self.end = weakref.finalize(owner, _end, process, channel)
        """Kills the process, with all that it started, and waits for its end."""

    def kill(self) -> None:
        """Kill the process; whoever waits for its reply notices."""
        _kill_all(self.process)

    def has_data(self) -> bool:
        """Whether a reply can be read."""
        try:
            return bool(self.channel.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
        except OSError:
            return False

    def exit_code(self) -> int:
        """Return how the process ended, which has closed its socket; negative: by that signal."""
        try:
            return self.process.wait(_LOOK_SECONDS * 10)
        except subprocess.TimeoutExpired:
            return -signal.SIGKILL
        finally:
            self.end()


def _end(process: subprocess.Popen[bytes], channel: socket.socket) -> None:
    channel.close()
    _kill_all(process)
    process.wait()


def _kill_all(process: subprocess.Popen[bytes]) -> None:
    """Kill a process, with all that it started, unless it has ended."""
    if process.poll() is None:
        with suppress(ProcessLookupError):
            os.kill(process.pid, subreaper.END)
