"""Guessing passwords is slow, locks nobody else out, and a session ends everywhere when it ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count, cycle
from statistics import median

import httpx
import sqlalchemy as sa
from dashboards import PASSWORD, Dashboard, Serve, dashboard_on, token

import node.web.users
from node.ledger.tables import metadata
from node.web.users import make_user, write_user

WRONG = "a wrong password"
_LONG_SECONDS = 5


def browser_at(dashboard: Dashboard, address: str) -> httpx.Client:
    """A browser on another machine: the whole of 127.0.0.0/8 is loopback."""
    browser = dashboard.browser()
    browser._transport = httpx.HTTPTransport(local_address=address)
    browser._mounts = {}
    return browser


def delayed(dashboard: Dashboard, name: str, addresses: Iterator[str]) -> tuple[httpx.Client, httpx.Response]:
    """The answer to the right password while the delay after a wrong one runs, also on a busy machine; and its browser.

    ``addresses``: of who guesses and of who knows it, in turn. A delay that may pass meanwhile is not tried: the right
    password would end it, and the guesses would begin again.
    """
    while True:
        begun = time.monotonic()
        guess = dashboard.log_in(browser_at(dashboard, next(addresses)), name, WRONG)
        knows = browser_at(dashboard, next(addresses))
        if guess.status_code == 429 and int(guess.headers["retry-after"]) > _LONG_SECONDS:
            right = dashboard.log_in(knows, name, PASSWORD)
            if time.monotonic() - begun < int(guess.headers["retry-after"]):
                return knows, right


def test_parallel_guesses_are_no_more_than_sequential_ones(dashboard: Dashboard, monkeypatch) -> None:
    hashed = []
    derive = node.web.users._derive
    monkeypatch.setattr(node.web.users, "_derive", lambda *a: (hashed.append(time.monotonic()), derive(*a))[1])
    browsers = [dashboard.browser() for _ in range(40)]
    tokens = [token(browser, "/login") for browser in browsers]

    def guess(number: int) -> int:
        data = {"csrf": tokens[number], "name": "otto", "password": f"{WRONG} {number}"}
        return browsers[number].post("/login", data=data).status_code

    with ThreadPoolExecutor(40) as pool:
        answers = list(pool.map(guess, range(40)))
    assert len(hashed) <= 6, "only these guesses were compared with the password"
    assert set(answers) <= {403, 429, 503}


def test_a_flood_of_guesses_leaves_the_pages_and_other_users_their_turn(dashboard: Dashboard) -> None:
    inside = dashboard.browser("vera")
    stop = threading.Event()

    def flood(number: int) -> None:
        attacker = browser_at(dashboard, "127.0.0.66")
        csrf = token(attacker, "/login")
        while not stop.is_set():
            attacker.post("/login", data={"csrf": csrf, "name": f"name{number}.{time.monotonic()}", "password": WRONG})

    with ThreadPoolExecutor(12) as pool:
        attackers = [pool.submit(flood, number) for number in range(12)]
        try:
            assert inside.get("/pipelines").status_code == 200
            late = browser_at(dashboard, "127.0.0.5")
            assert dashboard.log_in(late, "otto", PASSWORD).status_code == 303
            assert late.get("/").status_code == 200
        finally:
            stop.set()
        for attacker in attackers:
            attacker.result()


def test_the_real_user_gets_in_from_elsewhere_and_from_his_own_browser(dashboard: Dashboard) -> None:
    own = dashboard.browser("otto")
    own.post("/logout", data={"csrf": token(own)})
    attacker, elsewhere = dashboard.browser(), browser_at(dashboard, "127.0.0.7")
    assert dashboard.log_in(attacker, "otto", WRONG).status_code == 403
    _, refused = delayed(dashboard, "otto", cycle(["127.0.0.1"]))
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) >= 1
    assert dashboard.log_in(dashboard.browser(), "vera", PASSWORD).status_code == 303, "others behind the same address"
    assert dashboard.log_in(elsewhere, "otto", PASSWORD).status_code == 303
    assert dashboard.log_in(own, "otto", PASSWORD).status_code == 303, "a browser in which he was logged in before"


def test_guesses_from_many_addresses_are_delayed_and_keep_nobody_out(dashboard: Dashboard) -> None:
    assert dashboard.log_in(browser_at(dashboard, "127.0.0.9"), "otto", PASSWORD).status_code == 303
    answers = [
        dashboard.log_in(browser_at(dashboard, f"127.0.{number}.66"), "otto", WRONG).status_code
        for number in range(1, 31)
    ]
    assert answers[0] == 403
    assert 429 in answers[20:]
    knows, refused = delayed(dashboard, "otto", (f"127.0.{two}.8" for two in count(100)))
    assert refused.status_code == 429
    assert dashboard.log_in(browser_at(dashboard, "127.0.0.9"), "otto", PASSWORD).status_code == 303, "known address"
    assert dashboard.log_in(knows, "vera", PASSWORD).status_code == 303, "another name"


def test_a_restart_resets_no_delay(serve: Serve, dashboard: Dashboard, tmp_path) -> None:
    attacker = dashboard.browser()
    assert 429 in [dashboard.log_in(attacker, "otto", WRONG).status_code for _ in range(8)]
    with dashboard_on(dashboard.spool.folder, dashboard.uid, dashboard.job_id) as again:
        # One delay may have passed meanwhile; without what was remembered five guesses would be free.
        assert 429 in [again.log_in(again.browser(), "otto", WRONG).status_code for _ in range(3)]


def test_an_unknown_user_takes_as_long_as_a_wrong_password(dashboard: Dashboard) -> None:
    spent: dict[str, list[float]] = {"otto": [], "nobody": []}
    for number in range(4):
        for name, times in spent.items():
            browser = browser_at(dashboard, f"127.0.1.{number + 1}")
            csrf = token(browser, "/login")
            begun = time.process_time()
            assert browser.post("/login", data={"csrf": csrf, "name": name, "password": WRONG}).status_code == 403
            times.append(time.process_time() - begun)
    slow, fast = sorted(median(times) for times in spent.values())[::-1]
    assert slow < 2 * fast


def test_a_stolen_cookie_is_worthless_after_logout_on_every_process(dashboard: Dashboard) -> None:
    browser = dashboard.browser("otto")
    stolen = dict(browser.cookies)
    with dashboard_on(dashboard.spool.folder, dashboard.uid, dashboard.job_id) as second:
        thief = second.browser()
        thief.cookies.update(stolen)
        assert thief.get("/").status_code == 200, "a session counts in every process of the role"
        browser.post("/logout", data={"csrf": token(browser)})
        assert thief.get("/").status_code == 303
    thief = dashboard.browser()
    thief.cookies.update(stolen)
    assert thief.get("/").status_code == 303


def test_a_session_survives_a_restart_and_ends_everywhere_with_password_and_user(dashboard: Dashboard) -> None:
    otto, vera = dict(dashboard.browser("otto").cookies), dict(dashboard.browser("vera").cookies)
    with dashboard_on(dashboard.spool.folder, dashboard.uid, dashboard.job_id) as restarted:
        for cookies, end in (
            (otto, lambda: write_user(dashboard.users, make_user("otto", "operate", "another password"))),
            (vera, lambda: dashboard.users.write_text("")),
        ):
            browser = restarted.browser()
            browser.cookies.update(cookies)
            assert browser.get("/").status_code == 200
            end()
            assert browser.get("/").status_code == 303


def test_the_session_is_new_at_login_and_the_ledger_holds_only_its_hash(dashboard: Dashboard) -> None:
    browser = dashboard.browser()
    browser.get("/login")
    before = browser.cookies["ainode"]
    planted = {"csrf": token(browser, "/login"), "name": "otto", "password": PASSWORD}
    assert browser.post("/login", data=planted).status_code == 303
    after = browser.cookies["ainode"]
    assert after != before
    fixed = dashboard.browser()
    fixed.cookies.set("ainode", before)
    assert fixed.get("/").status_code == 303, "who planted the cookie is not logged in with it"
    with dashboard.engine.connect() as connection:
        for table in metadata.sorted_tables:
            assert after not in str(connection.execute(sa.select(table)).all()), table.name


def test_a_session_ends_when_it_is_old_and_when_it_is_not_used(serve: Serve) -> None:
    from node.ledger.tables import session

    with serve(session_hours=8.0, session_idle_minutes=30.0) as dashboard:
        for column, seconds in (("began_at", 8 * 3600 + 1), ("seen_at", 1801)):
            browser = dashboard.browser("otto")
            assert browser.get("/").status_code == 200
            with dashboard.engine.begin() as connection:
                connection.execute(sa.update(session).values({column: session.c[column] - seconds}))
            assert browser.get("/").status_code == 303, column


def test_an_open_page_that_renews_itself_does_not_keep_a_session_alive(serve: Serve) -> None:
    from node.ledger.tables import session

    with serve(session_idle_minutes=30.0) as dashboard:
        browser = dashboard.browser("otto")

        def seen() -> float:
            with dashboard.engine.connect() as connection:
                return float(connection.scalar(sa.select(sa.func.max(session.c.seen_at))) or 0.0)

        with dashboard.engine.begin() as connection:
            connection.execute(sa.update(session).values(seen_at=session.c.seen_at - 600))
        before = seen()
        assert browser.get("/?part=1").status_code == 200
        assert seen() == before
        assert browser.get("/").status_code == 200
        assert seen() > before
