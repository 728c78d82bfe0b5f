"""The offset of a machine's clock from PostgreSQL's is right within the error that is stated."""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import postgres
import pytest
import sqlalchemy as sa

from node.ledger.clock import clock_offset
from node.ledger.engine import open_ledger

DELAY_SECONDS = 0.3
HOUR = 3600.0


class SlowAnswers:
    """Passes connections on to a server; what the server says takes longer, what it is told does not."""

    def __init__(self, path: str) -> None:
        """``path``: of the server's socket."""
        self._path = path
        self.delay = 0.0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._listen, daemon=True).start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _listen(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._carry, args=(client,), daemon=True).start()

    def _carry(self, client: socket.socket) -> None:
        with client, socket.socket(socket.AF_UNIX) as server:
            server.connect(self._path)
            other = {client: server, server: client}
            while True:
                for side in select.select([client, server], [], [])[0]:
                    data = side.recv(65536)
                    if not data:
                        return
                    if side is server:
                        time.sleep(self.delay)
                    other[side].sendall(data)


@pytest.fixture
def slow(tmp_path: Path, postgres_server: str) -> Iterator[tuple[sa.Engine, SlowAnswers]]:
    url = sa.make_url(postgres.new_database(postgres_server, tmp_path.name[-40:].lower()))
    answers = SlowAnswers(f"{url.query['host']}/.s.PGSQL.5432")
    through = url.set(host="127.0.0.1", port=answers.port, query={}, drivername="postgresql+psycopg")
    engine = open_ledger(through.render_as_string(hide_password=False))
    yield engine, answers
    engine.dispose()
    answers.close()


@pytest.mark.parametrize("ahead", [0.0, HOUR, -HOUR])
def test_half_of_the_round_trip_bounds_the_offset(
    slow: tuple[sa.Engine, SlowAnswers], ahead: float, monkeypatch: pytest.MonkeyPatch
):
    engine, answers = slow
    answers.delay = DELAY_SECONDS
    monkeypatch.setattr("node.ledger.clock.now", lambda: time.time() + ahead)
    with engine.connect() as connection:
        connection.execute(sa.text("SELECT 1"))  # the transaction has begun: one question, one answer
        offset = clock_offset(connection)
        again = clock_offset(connection)
    assert offset is not None
    assert again is not None
    for measurement in (offset, again):  # the second one costs no query, and is as good
        assert abs(measurement.seconds - ahead) <= measurement.error
        assert DELAY_SECONDS / 2 <= measurement.error < 2 * DELAY_SECONDS
        assert abs(measurement.seconds - ahead) > DELAY_SECONDS / 4, (
            "only the answer was slow: a smaller error would be wrong"
        )


@pytest.mark.parametrize("pauses", [(DELAY_SECONDS, 0.0), (0.0, DELAY_SECONDS)])
def test_a_process_that_is_held_up_while_it_measures_says_so_in_the_error(
    slow: tuple[sa.Engine, SlowAnswers], pauses: tuple[float, float], monkeypatch: pytest.MonkeyPatch
):
    """As by a busy machine, or one that is suspended."""

    def held_up() -> float:
        time.sleep(pauses[0])
        at = time.time()
        time.sleep(pauses[1])
        return at

    monkeypatch.setattr("node.ledger.clock.now", held_up)
    with slow[0].connect() as connection:
        offset = clock_offset(connection)
    assert offset is not None
    assert abs(offset.seconds) <= offset.error
    assert DELAY_SECONDS / 2 <= offset.error < 2 * DELAY_SECONDS
