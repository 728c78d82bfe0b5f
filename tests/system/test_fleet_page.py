"""The page of two machines that share a ledger: one is an hour ahead and its disk is full."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import postgres
import pytest
from dashboards import PASSWORD, token
from machines import Machine
from real_peers import free_port
from receivers import until

from node.web.users import make_user, write_user

HOUR = 3600.0


@pytest.fixture
def machines(tmp_path: Path, postgres_server: str) -> Iterator[tuple[Machine, Machine]]:
    """One with a dashboard and one with a receiver, each with a storage folder of its own."""
    url = postgres.new_database(postgres_server, tmp_path.name[-40:].lower())
    both = Machine(tmp_path, "pages", tmp_path / "pages", url), Machine(tmp_path, "images", tmp_path / "images", url)
    yield both
    for machine in both:
        machine.power_off()
        machine.node.engine.dispose()


@pytest.mark.timeout(180)
def test_the_page_shows_a_wrong_clock_a_full_disk_and_a_drained_machine(machines: tuple[Machine, Machine]):
    pages, images = machines
    port, storage = free_port(), pages.node.spool.folder
    write_user(storage / "web-users", make_user("otto", "operate", PASSWORD))
    pages.config.write_text(pages.config.read_text() + f"\n[web]\nport = {port}\n")
    full = images.config.read_text().replace("min_free_gib = 0.0", "min_free_gib = 1e9")
    images.config.write_text(full)
    pages.start("web")
    images.start("receiver", HOUR)
    for machine in machines:
        machine.wait_until_ready()
    until(lambda: len(json.loads(pages.ainode("fleet", "--json"))) == 2)
    listed = {member["role"]: member for member in json.loads(pages.ainode("fleet", "--json"))}
    for role, ahead in (("web", 0.0), ("receiver", HOUR)):
        error = listed[role]["clock_error_seconds"]
        assert 0.0 < error < 1.0
        assert listed[role]["clock_offset_seconds"] == pytest.approx(ahead, abs=error + 0.05)
        assert 0 < listed[role]["free_bytes"] < listed[role]["total_bytes"]
    shown = pages.ainode("fleet")
    assert "is +3600." in shown
    assert "GiB are free; images are refused below 1e+09 GiB" in shown
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60.0, trust_env=False) as browser:
        login = {"csrf": token(browser, "/login"), "name": "otto", "password": PASSWORD}
        assert browser.post("/login", data=login).status_code == 303
        sections = re.findall(r"<section class=\"card place\".*?</section>", browser.get("/fleet").text, re.DOTALL)
        [of_pages] = [section for section in sections if ">web<" in section]
        [of_images] = [section for section in sections if ">receiver<" in section]
        assert "the clock of" not in of_pages
        assert "images are refused" not in of_pages
        assert re.search(r'<p class="problem">the clock of \S+ is \+3600\.\d s ± \d\.\d s from the ledger', of_images)
        assert "images are refused below 1e+09 GiB" in of_images
        to = {"csrf": token(browser, "/fleet"), "to": "drain", "host": listed["receiver"]["host"]}
        assert browser.post("/fleet", data=to | {"machine": listed["receiver"]["machine"]}).status_code == 303
        until(lambda: ">draining<" in browser.get("/fleet").text)
        assert "Drained since" in browser.get("/fleet").text
