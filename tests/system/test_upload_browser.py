"""Upload in a real browser: a folder and a ZIP archive go to the receiver, and the page says what was stored."""

from __future__ import annotations

import http.client
import json
import os
import time
import zipfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Literal

import pytest
from dashboards import PASSWORD, Dashboard, dashboard_on, token
from dicom_files import ct_series, write
from every_page import logged_in, open_chromium
from playwright.sync_api import Browser, expect
from receivers import Node, receiving, until

from node.ledger.tables import instance, notice
from node.web import strict_http
from node.web.server import serving
from node.web.users import make_user, write_user

WAIT = 60_000


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    expect.set_options(timeout=WAIT)
    yield from open_chromium()


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    with receiving(tmp_path / "node") as node:
        yield node


@pytest.fixture
def dashboard(node: Node) -> Iterator[Dashboard]:
    folder = node.config.storage.folder
    for name, role in (("vera", "view"), ("otto", "operate")):
        write_user(folder / "web-users", make_user(name, role, PASSWORD))  # type: ignore[arg-type]
    with dashboard_on(folder, "", "", ae={"address": "127.0.0.1", "port": node.port}) as made:
        yield made


def stored(node: Node) -> set[str]:
    return {row.sop_instance_uid for row in node.rows(instance)}


@pytest.mark.parametrize("screen", [(1440, "light", "en-US"), (390, "dark", "de-DE")])
def test_a_folder_and_an_archive_are_uploaded(
    chromium: Browser,
    dashboard: Dashboard,
    node: Node,
    tmp_path: Path,
    screen: tuple[int, Literal["light", "dark"], str],
):
    images = ct_series(6)
    files = write(images, tmp_path / "cd")
    files[1].write_bytes(files[1].read_bytes()[:-100])
    (tmp_path / "cd/readme.txt").write_text("a viewer is on this CD")
    with zipfile.ZipFile(tmp_path / "more.zip", "w") as archive:
        more = ct_series(60)
        for number, file in enumerate(write(more, tmp_path / "more")):
            archive.write(file, f"IMAGES/IM{number}")
    with logged_in(chromium, dashboard, *screen) as page:
        faults: list[str] = []
        page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.goto("/upload")
        page.locator("input[name=folder]").set_input_files(tmp_path / "cd")
        page.locator("input[name=files]").set_input_files(tmp_path / "more.zip")
        page.locator("form.upload button").click()
        expect(page.locator(".after")).to_be_visible()
        shown = {name: page.locator(f".{name}").inner_text() for name in ("stored", "refused", "missing", "other")}
        assert shown == {"stored": "65", "refused": "1", "missing": "0", "other": "1"}
        expect(page.locator(".reasons li")).to_have_count(1)
        assert f"cd/{files[1].name}" in page.locator(".reasons li").inner_text()
        assert page.evaluate("document.documentElement.scrollWidth") <= screen[0]
        if folder := os.environ.get("AINODE_PICTURES"):
            page.screenshot(path=Path(folder) / f"upload-{screen[0]}.png", full_page=True)
        assert faults == []
    assert stored(node) == {image.SOPInstanceUID for image in [*images, *more]} - {images[1].SOPInstanceUID}
    assert list(node.spool.folder.glob("temporary/*/*")) == []
    with dashboard.engine.connect() as connection:
        acts = [row.detail for row in connection.execute(notice.select())]
    assert f"uploaded 60 instances, the first is {more[0].SOPInstanceUID}" in acts


def test_who_may_not_operate_uploads_nothing(dashboard: Dashboard, node: Node, tmp_path: Path):
    content = write(ct_series(1), tmp_path)[0].read_bytes()
    for name, status in (("", 401), ("vera", 403), ("otto", 403)):
        browser = dashboard.browser(name)
        csrf = token(browser) if name == "vera" else "guessed"
        assert browser.post("/upload/file", content=content, headers={"x-csrf-token": csrf}).status_code == status
    assert stored(node) == set()


def upload_connection(dashboard: Dashboard, size: int) -> http.client.HTTPConnection:
    """A connection of an operator that has sent the head of an upload of ``size`` bytes."""
    browser = dashboard.browser("otto")
    connection = http.client.HTTPConnection("127.0.0.1", dashboard.config.web.port, timeout=60)
    connection.putrequest("POST", "/upload/file")
    connection.putheader("Cookie", "; ".join(f"{name}={value}" for name, value in browser.cookies.items()))
    connection.putheader("X-CSRF-Token", token(browser))
    connection.putheader("Content-Length", str(size))
    connection.endheaders()
    return connection


def test_a_body_may_take_longer_than_a_form_as_long_as_it_flows(dashboard: Dashboard, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(strict_http, "REQUEST_SECONDS", 2.0)
    connection = upload_connection(dashboard, 6 << 20)
    for _ in range(6):
        time.sleep(0.5)
        connection.send(bytes(1 << 20))
    answer = json.loads(connection.getresponse().read())
    assert (answer["other"], answer["stored"]) == (1, 0)
    connection.close()


def test_an_upload_that_stops_leaves_nothing(dashboard: Dashboard, node: Node, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(strict_http, "REQUEST_SECONDS", 1.0)
    connection = upload_connection(dashboard, 6 << 20)
    connection.send(bytes(1 << 19))
    until(lambda: list(node.spool.folder.glob("temporary/*/*")) != [])
    with pytest.raises((http.client.HTTPException, ConnectionError)):
        connection.getresponse()
    until(lambda: list(node.spool.folder.glob("temporary/*/*")) == [])
    connection.close()


def test_without_free_space_the_page_says_so(node: Node, tmp_path: Path):
    folder = node.config.storage.folder
    write_user(folder / "web-users", make_user("otto", "operate", PASSWORD))
    made = Dashboard(folder, "", "", ae={"address": "127.0.0.1", "port": node.port})
    full = made.config.model_copy(update={"storage": made.config.storage.model_copy(update={"min_free_gib": 1e9})})
    with serving(full, made.engine, made.spool, made.rules_file), closing(made):
        browser = made.browser("otto")
        content = write(ct_series(1), tmp_path)[0].read_bytes()
        answer = browser.post("/upload/file", content=content, headers={"x-csrf-token": token(browser)})
        assert (answer.status_code, "too little free space" in answer.text) == (507, True)
