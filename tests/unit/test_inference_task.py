"""Replies of the process that runs pipelines: a model can write anything into the pipe."""

from __future__ import annotations

import pytest

from node.errors import PipelineError
from node.inference.task import Reply


def test_a_reply_is_read_as_it_was_written() -> None:
    reply = Reply(
        outcome="findings",
        reason="why",
        timings={"run": 2.5, "load": 1},
        cpu_seconds=3.5,
        facts={"findings": 1, "scores": [0.5]},
    )
    assert Reply.from_bytes(reply.to_bytes()) == reply


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no JSON",
        b"\xff",
        b"null",
        b"[]",
        b"[" * 100_000,
        b'{"unknown": 1}',
        b'{"reason": null}',
        b'{"outcome": 3}',
        b'{"outcome": "wonderful"}',
        b'{"timings": {"run": "1.5"}}',
        b'{"timings": [1.5]}',
        b'{"peak_memory_mib": {"run": true}}',
        b'{"cpu_seconds": 1e400}',
        b'{"facts": []}',
    ],
)
def test_anything_else_in_the_pipe_is_an_error_of_the_pipeline(data: bytes) -> None:
    with pytest.raises(PipelineError, match="sent no reply that can be read"):
        Reply.from_bytes(data)
