"""Every page of the dashboard fits a phone and a large screen, in light and dark."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
from dashboards import Dashboard
from every_page import OPEN_ALL, SPOKEN, logged_in, open_chromium, pages_of
from playwright.sync_api import Browser
from web_pictures import filled_dashboard

OVERLAPS = """() => {
    const shown = [...document.querySelectorAll("a, button, input, select, summary, h1, h2, h3")].filter(e => {
        const box = e.getBoundingClientRect();
        return box.width > 1 && box.height > 1 && box.left >= 0 && e.checkVisibility();
    });
    const found = [];
    for (const [i, a] of shown.entries()) for (const b of shown.slice(i + 1)) {
        if (a.contains(b) || b.contains(a)) continue;
        const p = a.getBoundingClientRect(), q = b.getBoundingClientRect();
        const wide = Math.min(p.right, q.right) - Math.max(p.left, q.left);
        const high = Math.min(p.bottom, q.bottom) - Math.max(p.top, q.top);
        if (wide > 2 && high > 4) found.push(a.outerHTML.slice(0, 90) + " / " + b.outerHTML.slice(0, 90));
    }
    return found;
}"""
WIDER = """() => [...document.querySelectorAll("body *")]
    .filter(e => e.getBoundingClientRect().right > innerWidth + 1 && !e.closest("pre, .prose table"))
    .map(e => e.outerHTML.slice(0, 120))"""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    yield from open_chromium()


@pytest.fixture(scope="module")
def dashboard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dashboard]:
    with filled_dashboard(tmp_path_factory.mktemp("dashboard")) as made:
        yield made


@pytest.mark.parametrize("screen", SPOKEN, ids=str)
def test_no_page_is_wider_than_the_screen_and_nothing_overlaps(
    chromium: Browser, dashboard: Dashboard, screen: tuple[int, Literal["light", "dark"], str], pictures: Path | None
):
    with logged_in(chromium, dashboard, *screen) as page:
        for name, path in pages_of(dashboard).items():
            page.goto(path)
            page.wait_for_load_state("networkidle") if path.startswith("/study/") else None
            page.evaluate(OPEN_ALL)
            if pictures is not None:
                page.screenshot(path=pictures / f"{name}-{'-'.join(map(str, screen))}.png", full_page=True)
            assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth"), (
                name,
                page.evaluate(WIDER),
            )
            assert page.evaluate(OVERLAPS) == [], name


def test_the_keys_work_after_a_click_on_the_picture_and_the_hint_says_so(chromium: Browser, dashboard: Dashboard):
    with logged_in(chromium, dashboard, 1440, "light") as page:
        page.goto(f"/study/{dashboard.uid}")
        slider = page.locator(".slice")
        before = int(slider.input_value())
        page.keyboard.press("ArrowUp")
        assert int(slider.input_value()) == before, "the picture has no focus yet"
        hint = page.locator(".keys")
        assert "While the picture has the focus (click it, or Tab)" in hint.inner_text()
        faint = hint.evaluate("e => getComputedStyle(e).color")
        page.locator(".stack").click()
        page.keyboard.press("ArrowUp")
        assert int(slider.input_value()) == before - 1
        page.keyboard.press("End")
        assert slider.input_value() == slider.get_attribute("max")
        assert hint.evaluate("e => getComputedStyle(e).color") != faint, "the hint stands out while the keys work"


@pytest.fixture(scope="session")
def pictures() -> Path | None:
    """Folder of AINODE_PICTURES, where somebody wants to look at the pages."""
    return Path(os.environ["AINODE_PICTURES"]) if "AINODE_PICTURES" in os.environ else None
