"""Logins at an OpenID provider: who gets in, with which role, and what gets nobody in."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from dashboards import PASSWORD, Dashboard, analysed, dashboard_on, token
from dripping_server import answering
from every_page import open_chromium
from oidc_provider import Provider, oidc_provider
from playwright.sync_api import Browser, expect
from real_peers import free_port

from node.ledger.tables import notice
from node.web import single_sign_on
from node.web.server import serving

USERS = {
    "1": {"preferred_username": "dora", "groups": ["radiology", "staff"]},
    "2": {"preferred_username": "max", "groups": ["pacs-admins", "radiology"]},
    "3": {"preferred_username": "eve", "groups": ["kitchen"]},
    "4": {"preferred_username": "otto", "groups": ["pacs-admins"]},
    "5": {"preferred_username": "no\nname", "groups": ["radiology"]},
    "6": {"preferred_username": "lone", "groups": "radiology"},
}


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    with oidc_provider(USERS, "--require-nonce", "true") as running:
        yield running


@pytest.fixture
def site(provider: Provider, tmp_path: Path) -> Iterator[Dashboard]:
    with served(provider, tmp_path) as dashboard:
        yield dashboard


def served(provider: Provider, folder: Path, **oidc: object) -> AbstractContextManager[Dashboard]:
    secret = folder / "client-secret"
    secret.write_text("of the client\n")
    ours = {
        "issuer": provider.issuer,
        "client_id": "ainode",
        "client_secret_file": secret,
        "operate": ("pacs-admins",),
        "read": ("radiology",),
    }
    port = free_port()
    web = {"port": port, "link_base": f"http://127.0.0.1:{port}/", "oidc": {**ours, **oidc}}
    return dashboard_on(folder, *analysed(folder), **web)


def answered(site: Dashboard, provider: Provider, user: str) -> tuple[httpx.Client, str]:
    """A browser that the provider leads back, and where to."""
    browser = site.browser()
    begun = browser.get("/login/oidc")
    assert begun.status_code == 303
    return browser, provider.log_in(browser, begun.headers["location"], user)


def audited(site: Dashboard) -> list[tuple[str, str, str]]:
    with site.engine.connect() as connection:
        return [(row.what, row.who, row.detail) for row in connection.execute(notice.select())]


@pytest.mark.parametrize(
    ("user", "name", "role"), [("1", "dora", "read"), ("2", "max", "operate"), ("6", "lone", "read")]
)
def test_the_groups_of_the_provider_give_the_role(site: Dashboard, provider: Provider, user: str, name: str, role: str):
    assert '<a href="/login/oidc">Log in at 127.0.0.1</a>' in site.browser().get("/login").text
    browser, back = answered(site, provider, user)
    assert browser.get(back).status_code == 200
    assert f"<span>{name} <small>{role}</small></span>" in browser.get("/").text
    assert ("login", name, "at 127.0.0.1") in audited(site)
    assert browser.post("/logout", data={"csrf": token(browser)}).status_code == 303
    assert browser.get("/").headers["location"] == "/login"


def test_a_chromium_that_comes_back_from_another_site_is_on_the_page_it_asked_for(provider: Provider, tmp_path: Path):
    chromium = open_chromium()
    browser: Browser = next(chromium)
    try:
        with served(provider, tmp_path) as site:
            # localhost and 127.0.0.1 are two sites: the strict cookie is not sent where one leads to the other.
            page = browser.new_page()
            page.goto(f"http://127.0.0.1:{site.config.web.port}/study/{site.uid}")
            page.get_by_role("link", name="Log in at 127.0.0.1").click()
            page.goto(page.url.replace("127.0.0.1", "localhost", 1))
            page.locator('input[name="sub"]').first.fill("2")
            page.locator('input[name="sub"]').first.press("Enter")
            expect(page.get_by_text("max operate")).to_be_visible(timeout=60_000)
            expect(page).to_have_url(f"http://127.0.0.1:{site.config.web.port}/study/{site.uid}")
    finally:
        chromium.close()


def test_who_is_in_no_group_or_has_the_name_of_a_local_user_or_none_stays_out(site: Dashboard, provider: Provider):
    for user, said in (
        ("3", "eve is in no group"),
        ("4", "otto is a user of this node alone"),
        ("5", "no usable name"),
    ):
        browser, back = answered(site, provider, user)
        refused = browser.get(back)
        assert refused.status_code in (403, 502), user
        assert said in refused.text
        assert browser.get("/").headers["location"] == "/login"
    assert [(what, who) for what, who, _ in audited(site)] == [("failed login", "eve"), ("failed login", "otto")]
    assert site.log_in(site.browser(), "otto", PASSWORD).status_code == 303


def test_an_answer_that_was_not_asked_for_in_this_browser_gets_nobody_in(site: Dashboard, provider: Provider):
    browser, back = answered(site, provider, "2")
    stranger = site.browser()
    assert stranger.get(back).status_code == 400, "the link of another's login"
    stranger.get("/login/oidc")
    assert stranger.get(back).status_code == 400, "the state of another's login"
    assert browser.get(re.sub(r"code=[^&]+", "code=guessed", back)).status_code == 502
    assert browser.get(back).status_code == 400, "a login ends with its first answer"
    refused = answered(site, provider, "2")
    denied = f"/login/oidc/back?error=access_denied&state={parse_qs(urlsplit(refused[1]).query)['state'][0]}"
    assert "refused the login: access_denied" in refused[0].get(denied).text
    assert audited(site) == []


def test_a_session_ends_with_the_configuration_that_began_it(provider: Provider, tmp_path: Path):
    with served(provider, tmp_path) as site:
        browser, back = answered(site, provider, "2")
        assert browser.get(back).status_code == 200
        cookies = dict(browser.cookies)
        config = site.config
    for oidc, status in (({}, 200), ({"operate": ("others",)}, 303), ({"issuer": ""}, 303)):
        web = config.web.model_copy(update={"oidc": config.web.oidc.model_copy(update=oidc), "port": free_port()})
        site.config = config.model_copy(update={"web": web})
        with serving(site.config, site.engine, site.spool, site.rules_file):
            answer = httpx.get(f"http://127.0.0.1:{web.port}/", cookies=cookies, timeout=120.0)
        assert answer.status_code == status, oidc


def test_a_provider_that_is_away_is_said_and_passwords_still_work(provider: Provider, tmp_path: Path):
    with served(provider, tmp_path, issuer=f"http://127.0.0.1:{free_port()}") as site:
        page = site.browser().get("/login/oidc")
        assert (page.status_code, "does not answer as an OpenID provider" in page.text) == (502, True)
        assert site.log_in(site.browser(), "otto", PASSWORD).status_code == 303


def test_a_provider_whose_answer_has_no_end_holds_nobody(
    provider: Provider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(single_sign_on, "_TIMEOUT_SECONDS", 1.5)
    with answering(b"HTTP/1.1 200 OK\r\nX-Drip: ", b"x") as url, served(provider, tmp_path, issuer=url) as site:
        page = site.browser().get("/login/oidc", timeout=30.0)
        assert (page.status_code, "does not answer within 1.5 s" in page.text) == (502, True)
