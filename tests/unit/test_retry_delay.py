"""The delay of every kind of retry: doubled after each failure, with a limit."""

from __future__ import annotations

from node.retry_delay import retry_delay


def test_the_delay_doubles_up_to_its_limit():
    assert [retry_delay(failures, 5.0, 30.0) for failures in range(1, 6)] == [5.0, 10.0, 20.0, 30.0, 30.0]


def test_failures_without_end_keep_the_limit():
    assert retry_delay(10**6, 0.1, 3600.0) == 3600.0
