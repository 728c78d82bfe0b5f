"""Turns are given in rotation between clients, and nobody who has gone keeps one."""

from __future__ import annotations

import anyio
import anyio.lowlevel
import pytest

from node.dicomweb.client_turns import ClientTurns


async def nothing() -> None:
    return


async def use(turns: ClientTurns, client: str, order: list[str]) -> None:
    async with turns.turn(client, nothing):
        order.append(client)
        await anyio.lowlevel.checkpoint()


def test_a_client_with_few_requests_does_not_wait_for_one_with_many() -> None:
    order: list[str] = []

    async def all_at_once() -> None:
        turns = ClientTurns()
        async with anyio.create_task_group() as group:
            for client in "aaaaabcb":
                group.start_soon(use, turns, client, order)

    anyio.run(all_at_once)
    assert "".join(order) == "aabcabaa"


def test_a_request_that_is_cancelled_leaves_the_turn_to_the_next() -> None:
    order: list[str] = []

    async def some_go() -> None:
        turns = ClientTurns()
        async with anyio.create_task_group() as group:
            async with turns.turn("first", nothing), anyio.create_task_group() as going:
                going.start_soon(use, turns, "a", order)
                group.start_soon(use, turns, "b", order)
                group.start_soon(use, turns, "a", order)
                await anyio.wait_all_tasks_blocked()
                assert (turns.waiting("a"), turns.waiting("b"), turns.waiting("c")) == (2, 1, 0)
                going.cancel_scope.cancel()
            group.start_soon(use, turns, "c", order)

    anyio.run(some_go)
    assert sorted(order) == ["a", "b", "c"]


def test_a_request_that_leaves_just_when_its_turn_comes_gives_it_on() -> None:
    order: list[str] = []

    async def leave_late() -> None:
        turns, looked, given = ClientTurns(), anyio.Event(), anyio.Event()

        async def look() -> None:
            looked.set()
            await given.wait()
            raise LookupError

        async def wait() -> None:
            with pytest.raises(LookupError):
                async with turns.turn("a", look):
                    raise AssertionError("it has a turn")

        async with anyio.create_task_group() as group:
            async with turns.turn("first", nothing):
                group.start_soon(wait)
                await looked.wait()
                group.start_soon(use, turns, "b", order)
                await anyio.wait_all_tasks_blocked()
            given.set()  # of the task that looks

    anyio.run(leave_late)
    assert order == ["b"]


def test_a_request_that_nobody_waits_for_leaves_while_it_waits() -> None:
    class GoneError(Exception):
        pass

    async def gone() -> None:
        raise GoneError

    async def wait() -> None:
        turns = ClientTurns()
        async with turns.turn("first", nothing):
            with pytest.raises(GoneError):
                async with turns.turn("second", gone):
                    raise AssertionError("it has a turn beside another")
            assert turns.waiting("second") == 0
        with pytest.raises(GoneError):
            async with turns.turn("second", gone):
                raise AssertionError("it has a turn")
        async with turns.turn("third", nothing):
            pass

    anyio.run(wait)
