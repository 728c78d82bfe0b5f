"""Confined processes that the tests of one worker share: each start costs more computing than most of their tests."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import ParamSpec, TypeVar

import pytest

from node.confined import Bounds, ConfinedProcess
from node.isolation import WRITE

P = ParamSpec("P")
R = TypeVar("R")

SHARED = {
    "audit reader", "body region reader", "comparison of masks", "comparison with truth", "conflict reader",
    "DICOMweb reader", "FHIR encoder", "header reader", "HL7 encoder", "image reader",
    "reader of patients for records", "reader of verdicts", "workitem reader",
}  # fmt: skip
"""By name. What confines a process is tested with processes of other names, which are nobody else's."""


@contextmanager
def standing_processes(folders: tuple[Path, ...]) -> Iterator[None]:
    """Let processes of one name and the same bounds be one, which reads and may write below ``folders``."""
    call, interrupt, here = ConfinedProcess.call, ConfinedProcess.interrupt, os.getpid()
    calling: set[ConfinedProcess] = set()
    with ExitStack() as ends, pytest.MonkeyPatch.context() as patch:

        @cache
        def started(name: str, bounds: Bounds, *, decodes: bool, writes: bool) -> ConfinedProcess:
            reads, writable = ((), folders) if writes else (folders, ())
            made = ConfinedProcess(name, readable=reads, writable=writable, bounds=bounds, decodes=decodes)
            ends.callback(made.close)
            return made

        def standing(of: ConfinedProcess) -> ConfinedProcess:
            # A copy of this process starts its own.
            if of._name not in SHARED or of._when_idle is not None or os.getpid() != here:
                return of
            writes = any(rights == WRITE for _, rights in of._rules)
            return started(of._name, of._bounds, decodes=of._decodes, writes=writes)

        def shared_call(
            self: ConfinedProcess, about: str, function: Callable[P, R], *arguments: P.args, **keywords: P.kwargs
        ) -> R:
            calling.add(self)
            try:
                return call(standing(self), about, function, *arguments, **keywords)
            finally:
                calling.discard(self)

        def interrupt_own_call(self: ConfinedProcess) -> None:
            if self in calling:
                interrupt(standing(self))

        patch.setattr(ConfinedProcess, "call", shared_call)
        patch.setattr(ConfinedProcess, "interrupt", interrupt_own_call)
        yield
