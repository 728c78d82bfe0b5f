"""The button next to an impression puts it on the clipboard, in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from dashboards import analysed, dashboard_on
from every_page import open_chromium, sign_in
from playwright.sync_api import Browser, expect

WAIT = 120_000
"""Milliseconds that a page may take on a busy machine."""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    yield from open_chromium()


def test_the_impression_is_copied_as_it_is_shown(tmp_path: Path, chromium: Browser) -> None:
    with dashboard_on(tmp_path, *analysed(tmp_path)) as site:
        context = chromium.new_context(base_url=f"http://127.0.0.1:{site.config.web.port}")
        context.set_default_timeout(WAIT)
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        page = context.new_page()
        sign_in(page, "rita")
        page.goto(f"/study/{site.uid}")
        shown = page.locator(".impression p").first.inner_text()
        assert "mm" in shown
        button = page.get_by_role("button", name="Copy the impression").first
        button.click()
        expect(button).to_have_text("Copied", timeout=WAIT)
        assert page.evaluate("navigator.clipboard.readText()") == shown
        context.close()
