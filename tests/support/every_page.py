"""Every page of the dashboard in Chromium: a made-up week, an analysed study, narrow and wide, light and dark."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from typing import Any, Literal

import pytest
from dashboards import PASSWORD, Dashboard
from playwright.sync_api import Browser, Page, sync_playwright

Scheme = Literal["light", "dark"]
SCREENS: tuple[tuple[int, Scheme], ...] = (
    (1440, "light"), (1440, "dark"), (390, "light"), (390, "dark"),
)  # fmt: skip
"""Width in pixels and colour scheme."""
VISITS: tuple[tuple[int, str, tuple[Scheme, ...]], ...] = (
    (1440, "en-US", ("light", "dark")), (390, "en-US", ("light", "dark")),
    (390, "de-DE", ("light",)), (390, "zh-CN", ("dark",)),
)  # fmt: skip
"""Width, the language that the browser asks for (German has the longest words), and the colour schemes in turn."""


WAITING = "1.2.826.0.1.3680043.8.498.73020195"
"""A study of ``web_pictures`` whose job waits for a device."""
AXE_TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
"""Tags of the rules of axe-core that are checked."""
AXE_COLOURS = ["color-contrast", "link-in-text-block"]
"""Its rules about colours: another colour scheme changes nothing else."""
OPEN_ALL = "() => document.querySelectorAll('details').forEach(one => { one.open = true; })"
"""What opens every part of a page that is folded in."""


def pages_of(dashboard: Dashboard) -> dict[str, str]:
    """Name -> path; the login is shown before these."""
    return {
        "studies": "/",
        "study": f"/study/{dashboard.uid}",
        "waiting study": f"/study/{WAITING}",
        "destinations": "/destinations",
        "pipelines": "/pipelines",
        "pipeline": "/pipelines/nodule",
        "quality": "/quality",
        "rules": "/rules?since=30d",
        "rules editor": "/rules/edit",
        "storage": "/storage",
        "fleet": "/fleet",
        "retention": "/storage/retention",
        "account": "/account",
        "log": "/log",
        "audit": "/audit",
        "upload": "/upload",
        "users": "/users",
        "error": "/study/1.2.3",
    }


def violations(page: Page, rules: list[str] = AXE_TAGS) -> list[str]:
    """The rules of axe-core, by tag or name, that the page breaks, each with its elements and what is wrong."""
    if not page.evaluate("() => 'axe' in window"):
        page.evaluate((files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8"))
    result: dict[str, Any] = page.evaluate(
        "rules => axe.run(document, {runOnly: rules, resultTypes: ['violations']})", rules
    )
    return [
        f"{rule['id']}: {node['html'][:160]} {' '.join(node['failureSummary'].split())}"
        for rule in result["violations"]
        for node in rule["nodes"]
    ]


def open_chromium() -> Iterator[Browser]:
    """For a fixture; skips where no Chromium is installed."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no Chromium is installed (Debian package chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


def sign_in(page: Page, name: str, password: str = PASSWORD) -> None:
    """Give a name and a password on the login page, until the list of studies is shown."""
    page.goto("/login")
    page.locator("input[name=name]").fill(name)
    page.locator("input[name=password]").fill(password)
    page.keyboard.press("Enter")
    page.locator("#stream").wait_for()


@contextmanager
def logged_in(
    browser: Browser, dashboard: Dashboard, width: int, scheme: Scheme, locale: str = "en-US"
) -> Iterator[Page]:
    """A page of an operator whose browser asks for the language of ``locale``."""
    address = f"http://127.0.0.1:{dashboard.config.web.port}"
    context = browser.new_context(
        viewport={"width": width, "height": 900 if width > 600 else 844},
        color_scheme=scheme,
        base_url=address,
        locale=locale,
    )
    context.set_default_timeout(120_000)
    page = context.new_page()
    sign_in(page, "otto")
    yield page
    context.close()
