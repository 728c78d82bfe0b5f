"""Every page of the dashboard meets WCAG 2.2 AA as far as axe-core can see, on a phone and a large screen."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files
from typing import Any

import pytest
from dashboards import Dashboard
from every_page import OPEN_ALL, SPOKEN, logged_in, open_chromium, pages_of
from playwright.sync_api import Browser, Page
from web_pictures import filled_dashboard

pytest.importorskip("axe_playwright_python", reason="axe-core is not installed: pip install axe-playwright-python")

RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
"""Tags of the rules of axe-core that are checked."""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    yield from open_chromium()


@pytest.fixture(scope="module")
def dashboard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dashboard]:
    with filled_dashboard(tmp_path_factory.mktemp("dashboard")) as made:
        yield made


def violations(page: Page) -> list[str]:
    """The rules that the page breaks, each with its elements and what is wrong."""
    page.evaluate((files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8"))
    found: dict[str, Any] = page.evaluate(
        "tags => axe.run(document, {runOnly: tags, resultTypes: ['violations']})", RULES
    )
    return [
        f"{rule['id']}: {node['html'][:160]} {' '.join(node['failureSummary'].split())}"
        for rule in found["violations"]
        for node in rule["nodes"]
    ]


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("width", "scheme", "locale"), SPOKEN)
def test_axe_finds_no_violation_on_any_page(
    chromium: Browser, dashboard: Dashboard, width: int, scheme: str, locale: str
):
    found = []
    with logged_in(chromium, dashboard, width, scheme, locale) as page:  # type: ignore[arg-type]
        for name, path in pages_of(dashboard).items():
            page.goto(path)
            page.evaluate(OPEN_ALL)
            found += [f"{name}: {one}" for one in violations(page)]
        page.context.clear_cookies()
        page.goto("/login")
        found += [f"login: {one}" for one in violations(page)]
    assert not found, "\n".join(found)


def test_axe_finds_a_violation_where_there_is_one(chromium: Browser, dashboard: Dashboard):
    with logged_in(chromium, dashboard, 1440, "light") as page:
        page.evaluate("() => document.body.append(Object.assign(new Image(), {src: '/static/icon.svg'}))")
        assert any(one.startswith("image-alt") for one in violations(page))
