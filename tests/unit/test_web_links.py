"""Links to a page of the dashboard: they work with and without a session, and never lead to another site."""

from __future__ import annotations

import html
import re
from urllib.parse import quote

import httpx
import pytest
from dashboards import PASSWORD, Dashboard, token

from node.config import Web
from node.web.return_path import local_path, login_path
from node.web.single_sign_on import BegunLogin

ELSEWHERE = (
    "https://evil.example/",
    "//evil.example/",
    "/\\evil.example/",
    "/\t/evil.example/",
    "/ /evil.example",
    "\\\\evil.example",
    "javascript:alert(1)",
    "evil.example",
    "",
    "/" + "x" * 1001,
)
"""What browsers may take for an address of another site, and what is no address of a page."""
NAVIGATION = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}


def logged_in(dashboard: Dashboard, browser: httpx.Client, following: str, password: str = PASSWORD) -> httpx.Response:
    form = {"csrf": token(browser, "/login"), "name": "vera", "password": password, "next": following}
    return browser.post("/login", data=form)


def test_a_login_leads_to_the_study_that_was_asked_for(standing: Dashboard):
    browser = standing.browser()
    link = Web(link_base=f"{browser.base_url}".rstrip("/")).study_link(standing.uid)
    asked = browser.get(f"{link}?window=-600")
    page = browser.get(asked.headers["location"]).text
    wanted = f"/study/{standing.uid}?window=-600"
    (following,) = re.findall(r'name="next" value="([^"]+)"', page)
    assert html.unescape(following) == wanted
    wrong = logged_in(standing, browser, wanted, "wrong password")
    assert f'name="next" value="{following}"' in wrong.text, "a mistyped password does not lose the page"
    done = logged_in(standing, browser, wanted)
    assert (done.status_code, done.headers["location"]) == (303, wanted)
    assert browser.get(wanted).status_code == 200


def test_the_choice_of_a_language_before_the_login_keeps_the_page(standing: Dashboard):
    browser = standing.browser()
    login = login_path(f"/study/{standing.uid}")
    (back,) = re.findall(r'name="back" value="([^"]+)"', browser.get(login).text)
    chosen = browser.post("/language", data={"csrf": token(browser, login), "language": "de", "back": back})
    assert chosen.headers["location"] == login


@pytest.mark.parametrize("address", ELSEWHERE)
def test_no_login_leads_to_another_site(standing: Dashboard, address: str):
    assert local_path(address) == "/"
    assert BegunLogin.from_cookie(f"state.nonce.verifier.{quote(address, safe='') or 'x'}").following == "/"  # type: ignore[union-attr]
    browser = standing.browser()
    assert "evil" not in browser.get(f"/login?next={quote(address)}").text
    assert logged_in(standing, browser, address).headers["location"] == "/"
    chosen = browser.post("/language", data={"csrf": token(browser), "language": "de", "back": address})
    assert chosen.headers["location"] == "/"


def test_a_link_on_another_site_keeps_the_session_and_is_asked_once_more(standing: Dashboard):
    """Browsers send no strict cookie along such a link; an answer that sets one would end the session."""
    stranger = standing.browser()
    answer = stranger.get(f"/study/{standing.uid}?window=-600", headers=NAVIGATION)
    assert (answer.status_code, "set-cookie" in answer.headers) == (200, False)
    assert f'content="0; url=/study/{standing.uid}?window=-600"' in answer.text
    assert standing.browser("vera").get("/", headers={**NAVIGATION, "sec-fetch-site": "same-origin"}).text.count("vera")
    foreign = stranger.get(f"/study/{standing.uid}", headers={**NAVIGATION, "sec-fetch-mode": "no-cors"})
    assert foreign.headers["location"].startswith("/login"), "a picture on another site"
