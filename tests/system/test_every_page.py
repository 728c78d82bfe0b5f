"""Every page of the dashboard on a phone and a large screen, in light and dark: it fits, and people can use it.

Each page is opened once for each width and language, and changes its colours there. Two tests judge it: its layout, and
WCAG 2.2 AA as far as axe-core can see.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest
from dashboards import Dashboard
from every_page import AXE_COLOURS, AXE_TAGS, OPEN_ALL, VISITS, Scheme, logged_in, open_chromium, pages_of, violations
from playwright.sync_api import Browser, Page
from web_pictures import filled_dashboard

HAS_AXE = find_spec("axe_playwright_python") is not None
needs_axe = pytest.mark.skipif(not HAS_AXE, reason="axe-core is not installed: pip install axe-playwright-python")
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


@dataclass(frozen=True, kw_only=True)
class Seen:
    """One page on one screen."""

    fits: bool
    wider: list[str]
    """What is wider than the screen."""
    overlaps: list[str]
    violations: list[str]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    yield from open_chromium()


@pytest.fixture(scope="module")
def dashboard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dashboard]:
    with filled_dashboard(tmp_path_factory.mktemp("dashboard")) as made:
        yield made


@pytest.fixture(scope="session")
def pictures() -> Path | None:
    """Folder of AINODE_PICTURES, where somebody wants to look at the pages."""
    return Path(os.environ["AINODE_PICTURES"]) if "AINODE_PICTURES" in os.environ else None


@pytest.fixture(scope="module", params=VISITS, ids=str)
def seen(
    request: pytest.FixtureRequest, chromium: Browser, dashboard: Dashboard, pictures: Path | None
) -> dict[str, Seen]:
    """Every page at a width and in a language, by its name, and what axe finds on the page of the login."""
    of = {}
    width, locale, schemes = request.param
    with logged_in(chromium, dashboard, width, schemes[0], locale) as page:
        for name, path in pages_of(dashboard).items():
            page.goto(path)
            page.wait_for_load_state("networkidle") if path.startswith("/study/") else None
            page.evaluate(OPEN_ALL)
            of[name] = Seen(
                fits=page.evaluate("() => document.documentElement.scrollWidth <= innerWidth"),
                wider=page.evaluate(WIDER),
                overlaps=page.evaluate(OVERLAPS),
                violations=_violations(page, schemes, pictures and pictures / f"{name}-{width}-{locale}"),
            )
        page.context.clear_cookies()
        page.goto("/login")
        of["login"] = Seen(fits=True, wider=[], overlaps=[], violations=_violations(page, schemes))
    return of


def _violations(page: Page, schemes: Sequence[Scheme], picture: Path | None = None) -> list[str]:
    """What axe finds in each colour scheme, of which ``picture`` gets one each."""
    problems = []
    for scheme in schemes:
        page.emulate_media(color_scheme=scheme)
        if picture is not None:
            page.screenshot(path=f"{picture}-{scheme}.png", full_page=True)
        if HAS_AXE:
            problems += violations(page, AXE_TAGS if scheme == schemes[0] else AXE_COLOURS)
    return problems


@pytest.mark.rotating
@pytest.mark.timeout(900)
def test_no_page_is_wider_than_the_screen_and_nothing_overlaps(seen: dict[str, Seen]) -> None:
    for name, page in seen.items():
        assert page.fits, (name, page.wider)
        assert page.overlaps == [], name


@needs_axe
@pytest.mark.timeout(900)
def test_axe_finds_no_violation_on_any_page(seen: dict[str, Seen]) -> None:
    problems = [f"{name}: {violation}" for name, page in seen.items() for violation in page.violations]
    assert not problems, "\n".join(problems)


@needs_axe
def test_axe_finds_a_violation_where_there_is_one(chromium: Browser, dashboard: Dashboard):
    with logged_in(chromium, dashboard, 1440, "light") as page:
        page.evaluate("() => document.body.append(Object.assign(new Image(), {src: '/static/icon.svg'}))")
        assert any(violation.startswith("image-alt") for violation in violations(page))
        page.emulate_media(color_scheme="dark")
        assert violations(page, AXE_COLOURS) == []
        page.evaluate("() => { document.querySelector('h1').style.color = '#333'; }")
        assert any(violation.startswith("color-contrast") for violation in violations(page, AXE_COLOURS))


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
