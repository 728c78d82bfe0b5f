"""The dashboard in a real browser: Chromium, headless, on a whole node."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import real_peers
from dicom_files import ct_series, write
from every_page import sign_in
from lesion_studies import with_lesion
from playwright.sync_api import Browser, Page, expect, sync_playwright
from pydicom import dcmread
from pydicom.uid import generate_uid
from real_peers import free_port
from whole_node import WholeNode, whole_node

from node.web.users import make_user, write_user

PASSWORD = "a long password"  # noqa: S105 - of nobody
WAIT = 120_000
"""Milliseconds that a step of the node may take on a busy machine."""


@pytest.fixture(scope="module")
def web_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def pacs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[real_peers.StoreScp]:
    with real_peers.storescp(tmp_path_factory.mktemp("pacs")) as running:
        yield running


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory, pacs: real_peers.StoreScp, web_port: int) -> Iterator[WholeNode]:
    extra = EXTRA.format(web_port)
    with whole_node(tmp_path_factory.mktemp("node"), pacs.port, title="STORESCP", extra=extra) as running:
        write_user(running.folder / "web-users", make_user("anna", "operate", PASSWORD))
        yield running


EXTRA = """
[web]
enabled = true
port = {}
[pipelines.broken]
factory = "whole_node:absent"
[[rules]]
name = "one that fails"
pipelines = ["broken"]
destinations = ["pacs"]
[rules.match]
SeriesDescription = "*fail*"
"""
"""Beside the node's own rule: a pipeline that cannot be loaded."""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no Chromium is installed (Debian package chromium)")
    expect.set_options(timeout=WAIT)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(chromium: Browser, node: WholeNode, web_port: int) -> Iterator[Page]:
    """Logged in, at 1280 px; a script error, a refused resource or a missing file fails the test."""
    context = chromium.new_context(viewport={"width": 1280, "height": 900}, base_url=f"http://127.0.0.1:{web_port}")
    context.set_default_timeout(WAIT)
    page = context.new_page()
    faults: list[str] = []
    page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.goto("/")
    expect(page).to_have_url(f"http://127.0.0.1:{web_port}/login")
    sign_in(page, "anna", PASSWORD)
    yield page
    context.close()
    assert faults == []


def send(node: WholeNode, folder: Path, description: str = "Test CT series") -> str:
    """A CT series with one bright region; returns its study UID."""
    study = generate_uid()
    datasets = ct_series(volume=with_lesion((8, 64, 64)), study=study)
    for dataset in datasets:
        dataset.SeriesDescription = description
    write(datasets, folder)
    real_peers.dcmtk("storescu", "-aec", "AINODE", "+sd", "127.0.0.1", node.port, folder)
    return study


def grey(page: Page, selector: str) -> list[int]:
    """Pixels of a shown picture, as the browser decoded it."""
    return page.eval_on_selector(
        selector,
        """async image => { await image.decode();
        const c = document.createElement("canvas"); c.width = 32; c.height = 32;
        const d = c.getContext("2d"); d.drawImage(image, 0, 0, 32, 32);
        return [...d.getImageData(0, 0, 32, 32).data]; }""",
    )


def test_a_study_is_seen_arriving_and_its_picture_is_scrolled_outlined_and_compared(
    page: Page, node: WholeNode, tmp_path: Path
):
    study = send(node, tmp_path)
    row = page.locator("tr", has=page.locator(f'a[href="/study/{study}"]'))
    expect(row).to_be_visible(timeout=WAIT)  # without a reload: the page looks by itself
    expect(row.locator(".stage")).to_have_text("stored")
    row.get_by_role("link").click()
    viewer = page.locator(".viewer")
    expect(viewer).to_be_visible()
    expect(page.locator(".lesions")).to_contain_text("Bright 1")
    assert page.locator(".lesions").evaluate("e => e.offsetWidth <= e.parentElement.clientWidth")
    slider, before = page.locator(".slice"), page.locator(".before")
    start = int(slider.input_value())
    first = grey(page, ".before")
    assert max(first) > 200
    viewer.focus()
    page.keyboard.press("o")
    expect(page.locator(".outlines")).not_to_be_checked()
    expect(before).to_have_attribute("src", f"/slice/{_job(page)}/{start - 1}.jpg?window=&outlines=0")
    assert grey(page, ".before") != first
    page.keyboard.press("ArrowDown")
    expect(slider).to_have_value(str(start + 1))
    page.mouse.move(300, 400)
    page.mouse.wheel(0, -100)
    expect(slider).to_have_value(str(start))
    page.locator(".window").select_option("lung")
    expect(before).to_have_attribute("src", f"/slice/{_job(page)}/{start - 1}.jpg?window=lung&outlines=0")
    page.get_by_role("button", name="Bright 1").click()
    expect(slider).to_have_value(str(start))
    page.locator(".swipe").fill("20")
    assert page.locator(".stack").evaluate("e => e.style.getPropertyValue('--cut')") == "20%"
    assert grey(page, ".after") != grey(page, ".before")
    with page.expect_download() as download:
        page.get_by_role("link", name="Evidence bundle").click()
    assert download.value.suggested_filename == f"evidence-{study}.zip"


def _job(page: Page) -> str:
    return str(page.locator(".viewer").get_attribute("data-url")).split("/")[2]


def test_a_failed_job_is_retried_with_the_keyboard(page: Page, node: WholeNode, tmp_path: Path):
    study = send(node, tmp_path, "made to fail")
    page.goto(f"/?q={study}")
    row = page.locator("tr", has=page.locator(f'a[href="/study/{study}"]'))
    expect(row.locator(".stage")).to_have_text("failed")
    page.goto(f"/study/{study}")
    job = page.locator("article", has=page.get_by_role("heading", name="broken"))
    expect(job).to_contain_text("NOT ANALYSED: the analysis is not set up on this node")
    job.get_by_role("button", name="Retry").focus()
    page.keyboard.press("Enter")
    expect(page.locator(".timeline:not(.log)")).to_contain_text("anna retried the job")
    expect(job.locator(".stage")).to_have_text("failed")


def test_delivered_results_are_retracted_with_a_reason(
    page: Page, node: WholeNode, pacs: real_peers.StoreScp, tmp_path: Path
):
    study = send(node, tmp_path)
    page.goto(f"/?q={study}")
    page.locator(f'a[href="/study/{study}"]').click()
    expect(page.locator("article .stage")).to_have_text("stored")
    page.get_by_text("Retract the results").click()
    page.get_by_label("Reason").select_option("wrong patient or order")
    page.wait_for_timeout(3000)  # the page looks every two seconds; what is being filled in stays
    expect(page.get_by_label("Reason")).to_have_value("worklist")
    page.once("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Retract").click()
    expect(page.locator(".timeline:not(.log)")).to_contain_text("anna retracted the job")
    expect(page.locator(".results")).to_contain_text("AI results withdrawn (worklist)")
    expect(page.locator("article .stage")).to_have_text("stored")
    received = [dcmread(path, stop_before_pixels=True) for path in pacs.files()]
    notes = [dataset for dataset in received if dataset.StudyInstanceUID == study and dataset.Modality == "KO"]
    assert [note.ConceptNameCodeSequence[0].CodeMeaning for note in notes] == ["Incorrect Modality Worklist Entry"]
    assert page.get_by_text("Retract the results").count() == 0


def test_a_paused_destination_gets_nothing_until_it_is_resumed(page: Page, node: WholeNode, tmp_path: Path):
    page.goto("/destinations")
    page.once("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Pause").click()
    expect(page.locator("#pacs .stage")).to_have_text("paused")
    study = send(node, tmp_path)
    page.goto(f"/?q={study}")
    page.locator(f'a[href="/study/{study}"]').click()
    expect(page.locator("article .stage")).to_have_text("delivering")
    expect(page.locator(".deliveries")).to_contain_text("paused by anna")
    page.goto("/destinations")
    page.get_by_role("button", name="Resume").click()
    expect(page.get_by_role("button", name="Pause")).to_be_visible()
    page.goto(f"/study/{study}")
    expect(page.locator("article .stage")).to_have_text("stored")
    page.goto("/destinations")
    expect(page.locator("#pacs .stage")).to_have_text("up")


def test_a_stopped_pipeline_leaves_its_jobs_waiting_at_their_priority_until_it_is_started(
    page: Page, node: WholeNode, tmp_path: Path
):
    page.goto("/pipelines")
    card = page.locator("section", has=page.get_by_role("link", name="bright"))
    page.once("dialog", lambda dialog: dialog.accept())
    card.get_by_role("button", name="Stop").click()
    expect(card.locator(".stage")).to_have_text("stopped")
    study = send(node, tmp_path)
    page.goto(f"/?q={study}")
    page.locator(f'a[href="/study/{study}"]').click()
    expect(page.locator("article .stage")).to_have_text("queued")
    page.get_by_role("button", name="Raise priority").click()
    expect(page.locator("article")).to_contain_text("high priority")
    expect(page.locator(".timeline:not(.log)")).to_contain_text("to high by anna")
    page.wait_for_timeout(3000)
    page.reload()
    expect(page.locator("article .stage")).to_have_text("queued")
    page.goto("/pipelines")
    card.get_by_role("button", name="Start").click()
    page.goto(f"/study/{study}")
    expect(page.locator("article .stage")).to_have_text("stored")
    page.goto("/pipelines/bright")
    expect(page.locator(".chart").first).to_be_visible()


def test_the_night_is_dark_and_no_page_is_wider_than_the_window(page: Page):
    colours = {}
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        for path in ("/", "/destinations", "/pipelines", "/pipelines/bright", "/storage", "/fleet", "/account"):
            page.goto(path)
            assert page.evaluate("document.documentElement.scrollWidth") <= 1280, path
            colours[scheme] = page.evaluate(
                "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)"
            )
    assert min(colours["light"]) > 200
    assert max(colours["dark"]) < 60


def test_every_page_is_walked_through_with_the_keyboard_alone(page: Page):
    page.goto("/")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    names = []
    for _ in range(11):
        page.keyboard.press("Tab")
        names.append(page.evaluate("document.activeElement.textContent").strip())
    pages = [
        "Studies",
        "Destinations",
        "Pipelines",
        "Quality",
        "Rules",
        "Storage",
        "Fleet",
        "Upload",
        "Fetch",
        "Account",
    ]
    assert names == ["AINODE", *pages]
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Account")).to_be_visible()
    expect(page.locator(".verdict")).to_contain_text("is accounted for.")
