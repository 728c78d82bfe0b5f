"""The editor of rules and destinations in a real browser: try, apply, go back; the file stays the truth."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa
from dashboards import CONFIG, PASSWORD, Dashboard, Serve, token
from every_page import SCREENS, logged_in, open_chromium, violations
from playwright.sync_api import Browser, Page, expect
from real_peers import free_port
from receivers import until
from whole_node import whole_node

from node.config import load
from node.config.rules_text import rules_text
from node.ledger.deliveries import schedule_delivery
from node.ledger.engine import begin_immediate, now
from node.ledger.tables import notice, series
from node.web.users import make_user, write_user


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    yield from open_chromium()


@pytest.fixture
def dashboard(serve: Serve) -> Iterator[Dashboard]:
    with serve() as made:
        with begin_immediate(made.engine) as connection:
            connection.execute(series.update().values(last_at=now()))
        yield made


def change(page: Page, old: str, new: str, why: str = "as agreed") -> None:
    """Replace text in the editor, give a reason and try it."""
    editor = page.get_by_label("Rules and destinations (TOML)")
    editor.fill(editor.input_value().replace(old, new))
    page.get_by_label("Reason").fill(why)
    page.get_by_role("button", name="Try").click()


@pytest.mark.timeout(600)
def test_an_operator_tries_a_rule_applies_it_and_goes_back(chromium: Browser, dashboard: Dashboard):
    dashboard.file.chmod(0o640)
    with logged_in(chromium, dashboard, 1440, "light") as page:
        page.goto("/rules")
        page.get_by_role("link", name="Edit").click()
        change(page, 'match.Modality = "CT"', 'match.Modality = "MR" # from now on')
        expect(page.get_by_text("1 series were looked at; 1 would have been routed differently")).to_be_visible()
        expect(page.get_by_role("cell", name="ignored")).to_be_visible()
        expect(page.locator(".diff .added")).to_have_text('+match.Modality = "MR" # from now on')
        assert dashboard.file.read_text() == CONFIG, "trying changes nothing"
        page.get_by_role("button", name="Apply").click()
        expect(page.get_by_role("status").first).to_contain_text("Version 2 is in the file")
        applied = dashboard.file.read_text()
        assert applied == CONFIG.replace('match.Modality = "CT"', 'match.Modality = "MR" # from now on')
        assert stat.S_IMODE(dashboard.file.stat().st_mode) == 0o640
        assert dashboard.reloads == [applied]
        expect(page.get_by_role("row", name="2", exact=False).filter(has_text="as agreed")).to_contain_text("otto")
        page.get_by_role("link", name="Compare and go back to version 1").click()
        expect(page.locator(".diff .removed")).to_contain_text("MR")
        page.get_by_role("button", name="Try").click()
        page.get_by_role("button", name="Apply").click()
        expect(page.get_by_role("status").first).to_contain_text("Version 3 is in the file")
    assert dashboard.file.read_text() == CONFIG
    assert dashboard.reloads == [applied, CONFIG]
    assert [(version.number, version.who, version.why) for version in dashboard.rules_file.versions()] == [
        (3, "otto", "back to version 1"), (2, "otto", "as agreed"), (1, "", ""),
    ]  # fmt: skip
    with dashboard.engine.connect() as connection:
        acts = connection.scalars(sa.select(notice.c.detail).where(notice.c.what == "act").order_by(notice.c.id)).all()
    assert acts[0] == "changed rules and destinations to version 2: as agreed"


@pytest.mark.timeout(600)
def test_a_fault_is_shown_as_check_shows_it_and_what_was_typed_stays(chromium: Browser, dashboard: Dashboard):
    with logged_in(chromium, dashboard, 1440, "light") as page:
        page.goto("/rules/edit")
        change(page, "port = 104", "prot = 104")
        expect(page.get_by_role("alert")).to_contain_text("unknown key destinations.pacs.prot")
        expect(page.get_by_label("Rules and destinations (TOML)")).to_have_value(
            rules_text(CONFIG).replace("port", "prot")
        )
        expect(page.get_by_role("button", name="Apply")).to_have_count(0)
        change(page, "prot = 104", "port = 4242", why="")
        expect(page.get_by_text("Give a reason, and try again")).to_be_visible()
    assert dashboard.file.read_text() == CONFIG


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("width", "scheme"), SCREENS)
def test_a_tried_change_breaks_no_rule_of_accessibility(
    chromium: Browser, dashboard: Dashboard, width: int, scheme: str, tmp_path: Path
):
    with logged_in(chromium, dashboard, width, scheme) as page:  # type: ignore[arg-type]
        page.goto("/rules/edit")
        change(page, 'match.Modality = "CT"', 'match.Modality = "MR"')
        page.get_by_role("button", name="Apply").wait_for()
        page.screenshot(path=tmp_path / f"editor-{width}-{scheme}.png", full_page=True)
        assert violations(page) == []
        assert page.evaluate("() => document.documentElement.scrollWidth") <= width


def test_a_file_that_the_node_may_not_write_is_shown_to_be_copied(
    dashboard: Dashboard, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("node.operate.rules_file.os.access", lambda *_: False)
    browser = dashboard.browser("otto")
    assert "The node may not write" in browser.get("/rules/edit").text
    text = rules_text(CONFIG).replace("104", "4242")
    data = {"text": text, "why": "moved", "since": "1d", "csrf": token(browser)}
    shown = browser.post("/rules/try", data=data).text
    assert "Copy this over the rules and destinations" in shown
    assert '<button class="primary">Apply' not in shown


def test_what_was_changed_meanwhile_is_not_overwritten_and_what_is_pending_keeps_its_destination(dashboard: Dashboard):
    browser = dashboard.browser("otto")
    before = rules_text(CONFIG)
    data = {"before": before, "why": "moved", "csrf": token(browser)}
    dashboard.file.write_text(CONFIG.replace("104", "105"))
    answer = browser.post("/rules/apply", data={**data, "text": before.replace("104", "4242")})
    assert (answer.status_code, "changed meanwhile" in answer.text) == (400, True)
    dashboard.file.write_text(CONFIG)
    with begin_immediate(dashboard.engine) as connection:
        schedule_delivery(connection, dashboard.job_id, "pacs")
    unused = '[destinations.other]\ntitle = "O"\nhost = "o"\nport = 104\n'
    rule = before[before.index("[[rules]]") :].replace('"pacs"', '"other"')
    answer = browser.post("/rules/apply", data={**data, "text": unused + rule})
    assert (answer.status_code, "1 pending deliveries" in answer.text) == (400, True)
    assert dashboard.file.read_text() == CONFIG
    assert dashboard.reloads == []
    for name in ("vera", "rita"):
        other = dashboard.browser(name)
        assert other.get("/rules/edit").status_code == 403
        assert other.post("/rules/apply", data={**data, "text": before, "csrf": token(other)}).status_code == 403


@pytest.mark.timeout(600)
def test_a_whole_node_reads_what_was_applied_without_a_restart(tmp_path: Path):
    port = free_port()
    extra = f"[web]\nenabled = true\nport = {port}\n"
    with whole_node(tmp_path / "node", free_port(), extra=extra) as node:
        write_user(node.folder / "web-users", make_user("otto", "operate", PASSWORD))
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120.0, trust_env=False) as browser:
            until(lambda: _shown(browser, "/healthz"))
            login = {"csrf": token(browser, "/login"), "name": "otto", "password": PASSWORD}
            assert browser.post("/login", data=login).status_code == 303
            before = rules_text(node.config.read_text())
            data = {"csrf": token(browser), "why": "night shift", "before": before}
            text = before.replace("everything with a grid", "nothing but CT")
            answer = browser.post("/rules/apply", data={**data, "text": text})
            assert answer.status_code == 303, answer.text
            until(lambda: "nothing but CT" in _shown(browser, "/rules"), 120.0)
        assert "configuration reloaded" in node.log()
        assert 'name = "nothing but CT"' in node.config.read_text()
        assert load(node.config).web.port == port


def _shown(browser: httpx.Client, path: str) -> str:
    """A page, also while the process of the dashboard is replaced; empty while it does not answer."""
    try:
        answer = browser.get(path)
    except httpx.TransportError:
        return ""
    return answer.text if answer.status_code == 200 else ""
