"""Verdicts and quality in a real browser: a reader clicks, and the page of the pipelines counts."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files

import pytest
from dashboards import Dashboard, analysed, dashboard_on
from every_page import open_chromium, sign_in
from playwright.sync_api import Browser, Page, expect

from node.ledger.clicked_verdicts import current_verdicts
from node.ledger.clock import ledger_clock
from node.ledger.tables import job_fact, verdict

WAIT = 120_000
"""Milliseconds that a picture may take on a busy machine."""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    expect.set_options(timeout=WAIT)
    yield from open_chromium()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dashboard]:
    folder = tmp_path_factory.mktemp("dashboard")
    with dashboard_on(folder, *analysed(folder)) as made:
        yield made


@pytest.fixture
def page(chromium: Browser, site: Dashboard) -> Iterator[Page]:
    """Of a reader; a script error, a refused resource or a missing file fails the test."""
    address = f"http://127.0.0.1:{site.config.web.port}"
    context = chromium.new_context(viewport={"width": 1280, "height": 900}, base_url=address)
    context.set_default_timeout(WAIT)
    page = context.new_page()
    faults: list[str] = []
    page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: faults.append(str(error)))
    sign_in(page, "rita")
    yield page
    context.close()
    assert faults == []


def given(site: Dashboard) -> list[str]:
    with site.engine.connect() as connection:
        verdicts = current_verdicts(connection, [site.job_id]).get(site.job_id, {})
    return sorted(row.verdict for row in verdicts.values())


def violations(page: Page) -> list[str]:
    page.evaluate((files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8"))
    result = page.evaluate("() => axe.run(document, {resultTypes: ['violations']})", None)
    return [f"{rule['id']}: {node['html'][:160]}" for rule in result["violations"] for node in rule["nodes"]]


def test_a_reader_accepts_rejects_withdraws_and_marks_what_was_missed(page: Page, site: Dashboard):
    page.goto(f"/study/{site.uid}")
    page.get_by_role("button", name="Accept Nodule 1").click()
    expect(page.locator(".given")).to_have_text(["accepted"])
    page.get_by_role("button", name="Reject Nodule 2").focus()
    page.keyboard.press("Enter")
    expect(page.locator(".given")).to_have_text(["accepted", "rejected"])
    page.get_by_role("button", name="Withdraw the verdict on Nodule 2").click()
    expect(page.locator(".given")).to_have_text(["accepted"])
    page.get_by_role("button", name="Nothing missed").click()
    expect(page.locator(".given")).to_have_text(["accepted", "nothing missed"])
    page.locator(".viewer").focus()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowDown")
    expect(page.locator(".missed")).to_have_value("2")  # follows the slice that is shown
    page.get_by_role("button", name="Missed here").click()
    expect(page.get_by_text("slice 2:")).to_be_visible()
    assert given(site) == ["accepted", "added"]
    assert violations(page) == []
    for width in (390, 1280):
        page.set_viewport_size({"width": width, "height": 844})
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_the_page_quality_draws_what_readers_said(page: Page, site: Dashboard):
    with site.engine.begin() as connection:
        at = ledger_clock(connection)
        fact = {
            "pipeline": "nodule", "version": "1.2", "scanner": "A One", "at": at, "outcome": "findings", "slices": 5,
            "findings": 1, "scores": [], "device": "cpu", "run_seconds": 1.0,
        }  # fmt: skip
        connection.execute(job_fact.insert(), [fact | {"job_id": f"job {number}"} for number in range(40)])
        row = {"source": "1.2", "lesion": "1.2.3", "kind": "segmentation", "reader": "", "given_at": at}
        verdicts = [
            row | {"job_id": f"job {number}", "verdict": "rejected" if number % 5 == 0 else "accepted"}
            for number in range(30)
        ]
        connection.execute(verdict.insert(), verdicts)
    page.goto("/quality")
    chart = page.locator('svg[aria-label^="Positive predictive value"]')
    expect(chart.locator("circle")).to_have_count(1)
    assert "80 (62.7 to 90.5) %" in str(chart.get_attribute("aria-label"))
    expect(page.get_by_text("80.0 % [62.7 to 90.5], n = 30")).to_be_visible()
    expect(page.get_by_text("30 of 40")).to_be_visible()
    assert violations(page) == []
