"""Who gets into the dashboard, what forged requests get, and what every answer forbids."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
from dashboards import PASSWORD, Dashboard, Serve, paths_of, token

from node.config import parse
from node.errors import ConfigError
from node.ledger.jobs import get_job
from node.web.proxy import SECRET_HEADER
from node.web.users import make_user, read_users, write_user


def test_without_a_login_every_page_leads_to_the_login_and_nothing_is_told(standing: Dashboard):
    browser = standing.browser()
    for path in paths_of(standing, "GET"):
        answer = browser.get(path)
        login = "/login" if path == "/" else f"/login?next={quote(path, safe='')}"
        assert (answer.status_code, answer.headers["location"], answer.content) == (303, login, b""), path
    for path in paths_of(standing, "POST"):
        assert browser.post(path, data={"csrf": token(browser, "/login")}).headers["location"] == "/login", path


def test_a_wrong_password_an_unknown_user_and_a_user_of_the_proxy_stay_outside(dashboard: Dashboard):
    path = dashboard.users
    path.write_text(path.read_text() + "proxied:view:\n")
    browser = dashboard.browser()
    for name, password in (("otto", "wrong password"), ("nobody", PASSWORD), ("proxied", "")):
        answer = dashboard.log_in(browser, name, password)
        assert (answer.status_code, "Name or password is wrong." in answer.text) == (403, True)
        assert browser.get("/").headers["location"] == "/login"


def test_a_form_without_the_token_of_the_session_changes_nothing(standing: Dashboard):
    browser, other = standing.browser("otto"), standing.browser("otto")
    for data in ({}, {"csrf": "guessed"}, {"csrf": token(other)}):
        for path in (*paths_of(standing, "POST"), "/logout", "/login"):
            assert browser.post(path, data=data).status_code == 403, path
    assert browser.get("/").status_code == 200
    with standing.engine.connect() as connection:
        assert get_job(connection, standing.job_id).state == "COMPLETED"


def test_a_large_form_is_refused_before_it_is_read(standing: Dashboard):
    browser = standing.browser("otto")
    assert browser.post("/logout", data={"csrf": "x" * 100_000}).status_code == 413


def test_the_role_view_sees_no_button_and_may_change_nothing(standing: Dashboard):
    browser = standing.browser("vera")
    assert "Retry" not in browser.get(f"/study/{standing.uid}").text
    for path in paths_of(standing, "POST"):
        assert browser.post(path, data={"csrf": token(browser)}).status_code == 403, path


@pytest.mark.thorough
def test_a_session_ends_with_logout_with_a_new_password_and_with_the_user(dashboard: Dashboard):
    path = dashboard.users
    first, second, third = (dashboard.browser("otto") for _ in range(3))
    first.post("/logout", data={"csrf": token(first)})
    assert first.get("/").status_code == 303
    write_user(path, make_user("otto", "operate", "another password"))
    assert second.get("/").status_code == 303
    assert dashboard.log_in(third, "otto", "another password").status_code == 303
    path.write_text("")
    assert third.get("/").status_code == 303


def test_a_part_of_a_page_whose_session_has_ended_sends_the_browser_to_the_login(standing: Dashboard):
    answer = standing.browser().get("/?part=1", headers={"hx-request": "true"})
    assert (answer.status_code, answer.headers["hx-redirect"]) == (204, "/login")


def test_the_cookie_is_kept_from_scripts_and_other_sites(standing: Dashboard):
    cookie = standing.browser().get("/login").headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert "secure" not in cookie


def test_a_forged_session_is_no_session(standing: Dashboard):
    browser = standing.browser("otto")
    value = browser.cookies["ainode"]
    browser.cookies.clear()
    browser.cookies.set("ainode", ("B" if value[0] == "A" else "A") + value[1:])
    assert browser.get("/").status_code == 303


def test_every_answer_forbids_inline_scripts_framing_and_keeping(standing: Dashboard):
    browser = standing.browser("otto")
    for path in ("/", "/login", "/study/1.2.3", "/nothing", "/healthz", f"/slice/{standing.job_id}/0.jpg"):
        headers = browser.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert headers["x-frame-options"] == "DENY"
        assert headers["cache-control"] == "no-store"


SECRET = "0123456789abcdef" * 2


def test_a_proxy_is_believed_with_the_shared_secret_alone(serve: Serve, tmp_path: Path):
    file = tmp_path / "secret"
    file.write_text(f"{SECRET}\n")
    with serve(proxy_header="X-Remote-User", proxy_secret_file=file) as dashboard:

        def get(*headers: tuple[str, str]) -> httpx.Response:
            return dashboard.browser().get("/", headers=list(headers))

        name, secret = ("X-Remote-User", "otto"), (SECRET_HEADER, SECRET)
        assert "otto <small>operate" in get(name, secret).text
        assert "new <small>view" in get(("X-Remote-User", "new"), secret).text
        assert get(secret).status_code == 303
        for forged in (
            (name,),
            (name, (SECRET_HEADER, "")),
            (name, (SECRET_HEADER, SECRET[:-1])),
            (name, (SECRET_HEADER, SECRET + "x")),
            (name, (SECRET_HEADER, "wrong"), secret),
            (name, ("X-Remote-User", "vera"), secret),
            (("X-Remote-User", "otto,vera"), secret),
            (("X-Remote-User", ""), secret),
        ):
            answer = get(*forged)
            assert answer.status_code == 403, forged
            assert "<small>" not in answer.text
        otto = read_users(dashboard.users)["otto"]
        write_user(dashboard.users, replace(otto, expires=date(2020, 1, 1)))
        assert "has expired" in get(name, secret).text, "although the proxy vouches"
        write_user(dashboard.users, otto)
        file.write_text("fedcba9876543210" * 2)
        assert get(name, secret).status_code == 403, "a renewed secret counts at once"
        file.write_text("short")
        assert "use at least 32" in get(name, secret).text


@pytest.mark.parametrize(
    ("lines", "remedy"),
    [
        ('proxy_header = "X-Remote-User"', "proxy_header needs proxy_secret_file"),
        ('proxy_header = "X-Remote-User"\nproxy_address = "127.0.0.1"', "proxy_address is no longer used"),
    ],
)
def test_a_proxy_that_an_address_identified_is_refused_with_the_remedy(lines: str, remedy: str):
    with pytest.raises(ConfigError, match=remedy) as raised:
        parse(f"[web]\n{lines}\n")
    assert "proxy_secret_file" in str(raised.value)


@pytest.mark.parametrize(
    ("address", "fault"),
    [
        ("javascript:alert({study})", "must be one address that begins with https://"),
        ("https://ohif.example.org/", "must contain {study}"),
        ("https://ohif.example.org/{study}/{patient}", "and no other braces"),
    ],
)
def test_an_address_that_opens_no_study_in_a_viewer_is_refused(address: str, fault: str):
    with pytest.raises(ConfigError, match=fault):
        parse(f'[web]\nviewer_url = "{address}"\n')


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8080", 303),
        ("[::1]:8080", 303),
        ("10.1.2.3", 303),
        ("LOCALHOST", 303),
        ("ai.example.org:443", 303),
        ("ai.example.org.", 303),
        ("evil.example", 421),
        ("ai.example.org.evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("", 421),
    ],
)
def test_the_dashboard_answers_under_its_own_names_only(serve_named: Dashboard, host: str, status: int):
    browser = serve_named.browser()
    assert browser.get("/", headers={"host": host}).status_code == status
    assert browser.get("/healthz", headers={"host": host}).status_code == 200


@pytest.fixture(scope="module")
def serve_named(serve: Serve) -> Iterator[Dashboard]:
    with serve(hosts=("ai.example.org",)) as dashboard:
        yield dashboard


def test_no_redirect_follows_the_host_of_a_request(standing: Dashboard):
    browser = standing.browser()
    for path in ("/", "/login/", "/static", "/healthz/", "//evil.example", "/study/1.2.3/"):
        for name in ("host", "x-forwarded-host"):
            answer = browser.get(path, headers={name: "10.66.6.6"})
            assert answer.headers.get("location", "/login") == "/login", path
