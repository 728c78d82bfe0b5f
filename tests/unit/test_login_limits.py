"""Guesses at one name from ever other addresses are delayed together; whoever got in before is not."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import sqlalchemy as sa
from ledgers import open_copy

from node.ledger.engine import begin_immediate
from node.ledger.login_attempts import REMEMBERED_SECONDS, attempt_succeeded, begin_attempt
from node.ledger.tables import login_attempt

Attempt = Callable[..., float]


@pytest.fixture
def engine(tmp_path) -> Iterator[sa.Engine]:
    engine = open_copy(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    yield engine
    engine.dispose()


@pytest.fixture
def attempt(engine: sa.Engine) -> Attempt:
    """Seconds that an attempt has to wait; a wrong one unless ``right``. ``address``: of a browser."""

    def attempt(name: str, origin: str, at: float, *, right: bool = False, address: str = "") -> float:
        with begin_immediate(engine) as connection:
            wait = begin_attempt(connection, name, origin, at, is_known=bool(address))
            if right and not wait:
                attempt_succeeded(connection, name, origin, address or origin, at)
        return wait

    return attempt


def guesses(attempt: Attempt, name: str, number: int, begin: float, seconds: float) -> int:
    """How many guesses count, each from an address of its own."""
    return sum(
        attempt(name, f"10.{guess >> 8}.{guess & 255}.1", begin + guess * seconds / number) == 0.0
        for guess in range(number)
    )


@pytest.mark.thorough
def test_many_addresses_have_no_more_guesses_at_a_name_than_a_minute_has(attempt: Attempt):
    assert guesses(attempt, "otto", 400, 0.0, 1200.0) <= 20 + 6 + 20
    assert attempt("vera", "10.0.0.1", 600.0) == 0.0, "another name"


def test_who_got_in_from_an_address_before_gets_in_during_the_guesses(attempt: Attempt):
    assert attempt("otto", "192.168.1.7", 0.0, right=True) == 0.0
    days = 20 * 86400.0
    assert guesses(attempt, "otto", 120, days, 600.0) < 40
    assert attempt("otto", "192.168.1.8", days + 601.0) > 0.0
    assert attempt("otto", "192.168.1.7", days + 602.0) == 0.0, "a slip of his own"
    assert attempt("otto", "192.168.1.7", days + 603.0, right=True) == 0.0
    assert attempt("otto", "browser x", days + 604.0, right=True, address="192.168.1.10") == 0.0
    assert attempt("otto", "192.168.1.10", days + 605.0) == 0.0, "where that browser is"
    assert attempt("otto", "192.168.1.9", days + 605.0) > 0.0, "his login gives no guesser another turn"


def test_an_address_that_is_known_has_the_delays_of_its_own(attempt: Attempt):
    attempt("otto", "192.168.1.7", 0.0, right=True)
    waits = [attempt("otto", "192.168.1.7", 10.0 + number / 10) for number in range(8)]
    assert waits[:5] == [0.0] * 5
    assert all(waits[5:])


def test_an_address_is_known_for_a_month_after_the_last_login(attempt: Attempt, engine: sa.Engine):
    attempt("otto", "192.168.1.7", 0.0, right=True)
    later = REMEMBERED_SECONDS + 1.0
    guesses(attempt, "otto", 120, later, 600.0)
    assert attempt("otto", "192.168.1.7", later + 601.0) > 0.0
    with engine.connect() as connection:
        rows = connection.scalar(sa.select(sa.func.count()).select_from(login_attempt))
    assert rows < 40, "refused guesses leave no row"


def test_delays_of_all_addresses_end_in_an_hour_without_guesses(attempt: Attempt):
    guesses(attempt, "otto", 60, 0.0, 200.0)
    assert attempt("otto", "192.168.1.9", 201.0) > 0.0
    assert attempt("otto", "192.168.1.9", 200.0 + 3700.0, right=True) == 0.0
