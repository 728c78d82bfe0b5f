"""Fixtures that several test modules need."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import peers
import postgres
import pytest
from receivers import Node, ReceiverProcess, receiving


@pytest.fixture
def free_port() -> int:
    """A TCP port on loopback that nobody listens on."""
    return peers.free_port()


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    """A receiver in this process that takes everything."""
    with receiving(tmp_path / "node") as running:
        yield running


@pytest.fixture
def receiver_process(tmp_path: Path) -> Iterator[Callable[..., ReceiverProcess]]:
    """Makes receivers in processes of their own; they are killed at the end."""
    made: list[ReceiverProcess] = []

    def make(**options: Any) -> ReceiverProcess:
        made.append(ReceiverProcess(tmp_path / f"receiver-{len(made)}", **options))
        return made[-1]

    yield make
    for process in made:
        process.kill()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """URL of a PostgreSQL server of our own; ``postgres.new_database`` makes a database for one test."""
    with postgres.cluster() as url:
        yield url
