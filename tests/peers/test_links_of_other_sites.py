"""A link to a study on another site, such as a web PACS that shows a PDF report, in Chromium."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from dashboards import PASSWORD, Dashboard, analysed, dashboard_on
from every_page import open_chromium
from playwright.sync_api import Browser, expect


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Dashboard]:
    with dashboard_on(tmp_path, *analysed(tmp_path)) as dashboard:
        yield dashboard


@pytest.fixture
def chromium() -> Iterator[Browser]:
    yield from open_chromium()


@pytest.fixture
def elsewhere(site: Dashboard) -> Iterator[str]:
    """Address of a page with a link to the study: localhost and 127.0.0.1 are two sites."""
    page = f'<a href="http://127.0.0.1:{site.config.web.port}/study/{site.uid}">The study</a>'.encode()

    class Linking(SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(page)

    with ThreadingHTTPServer(("localhost", 0), Linking) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://localhost:{server.server_port}/"
        server.shutdown()


def test_a_link_on_another_site_opens_the_study_before_and_after_a_login(
    site: Dashboard, chromium: Browser, elsewhere: str
):
    page = chromium.new_page()
    study = f"http://127.0.0.1:{site.config.web.port}/study/{site.uid}"
    page.goto(elsewhere)
    page.get_by_role("link", name="The study").click()
    page.get_by_label("Name").fill("vera")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    expect(page).to_have_url(study, timeout=60_000)
    expect(page.get_by_text("vera view")).to_be_visible()
    page.goto(elsewhere)
    page.get_by_role("link", name="The study").click()
    expect(page).to_have_url(study, timeout=60_000)
    expect(page.get_by_text("vera view")).to_be_visible()
