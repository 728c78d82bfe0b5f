"""Time limit of an attempt: a handler that does not return in time is left behind, and its slot is free.

A model that takes too long is killed by ``node.inference.model_process``.
"""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import TypeVar

from node.errors import TimeLimitError

Result = TypeVar("Result")


def call_within(
    seconds: float, what: str, function: Callable[[], Result], paused_seconds: Callable[[], float] = lambda: 0.0
) -> Result:
    """Call a function in a thread of its own; return what it returns, or raise what it raises.

    ``paused_seconds``: how long it had to pause until now, which does not count.

    Raises ``TimeLimitError`` after ``seconds``. A thread cannot be killed: the call may continue until this process
    ends, and what it returns is dropped. Handlers therefore limit everything they wait for; this limit is the last one.
    """
    future: Future[Result] = Future()
    context = contextvars.copy_context()

    def run() -> None:
        try:
            future.set_result(context.run(function))
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits
            future.set_exception(error)

    threading.Thread(target=run, name=what, daemon=True).start()
    begun, left = time.monotonic() - paused_seconds(), seconds
    while not wait([future], left).done:
        left = begun + seconds - (time.monotonic() - paused_seconds())
        if left > 0:
            continue
        raise TimeLimitError(f"{what} took longer than {seconds:g} s and was abandoned")
    return future.result()
