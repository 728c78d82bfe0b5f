"""The documentation as a site (`make docs`): every page is in its navigation, and a browser needs nothing else."""

from __future__ import annotations

import runpy
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
SITE = ROOT / "build" / "site"


def test_the_navigation_lists_every_page_once():
    pages = [page for group in runpy.run_path(str(DOCS / "conf.py"))["NAVIGATION"].values() for page in group]
    written = {path.relative_to(DOCS).with_suffix("").as_posix() for path in DOCS.rglob("*.md")}
    assert sorted(pages) == sorted(written - {"index"})


@pytest.fixture
def page() -> Iterator[Page]:
    """A browser without network."""
    built = SITE / "index.html"
    if not built.exists() or built.stat().st_mtime < max(path.stat().st_mtime for path in DOCS.rglob("*")):
        pytest.skip("the site is not built, or older than its pages (make docs)")
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no Chromium is installed (Debian package chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser.new_context(offline=True, viewport={"width": 1280, "height": 900}).new_page()
        browser.close()


def test_the_built_site_opens_from_a_folder_and_asks_nobody(page: Page):
    asked: list[str] = []
    faults: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("requestfailed", lambda request: faults.append(request.url))
    page.on("pageerror", lambda error: faults.append(str(error)))
    for path in sorted(SITE.rglob("*.html")):
        page.goto(path.as_uri())
    assert [url for url in asked if not url.startswith((SITE.as_uri(), "data:"))] == []
    assert faults == []
    assert len(asked) > len(list(SITE.rglob("*.html")))


def test_the_built_site_is_searched_without_a_server(page: Page):
    page.goto(f"{(SITE / 'search.html').as_uri()}?q=quarantine")
    page.locator("#search-results li a", has_text="Operate").first.wait_for()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_built_site_follows_the_colours_of_the_system(page: Page, scheme: str):
    page.emulate_media(color_scheme=scheme)
    page.goto((SITE / "index.html").as_uri())
    red = page.evaluate("parseInt(getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0])")
    assert (red > 128) == (scheme == "light")


def test_the_built_site_names_every_reader_and_page(page: Page):
    page.goto((SITE / "index.html").as_uri())
    sidebar = page.locator(".sidebar-tree")
    for reader, pages in runpy.run_path(str(DOCS / "conf.py"))["NAVIGATION"].items():
        assert reader in (sidebar.text_content() or "")
        for name in pages:
            assert sidebar.locator(f'a[href="{name}.html"]').count() == 1
