"""What the pages of the dashboard say and show, and what they keep from being shown."""

from __future__ import annotations

import html
import json
import logging
import re
import zipfile
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from dashboards import Dashboard, Serve, dashboard_on, paths_of, token
from dicom_files import write
from PIL import Image

from node.ledger.deliveries import schedule_delivery
from node.ledger.destination_circuits import close, record_failure
from node.ledger.drained_machines import drain_machines
from node.ledger.engine import begin_immediate, now
from node.ledger.jobs import get_job
from node.ledger.members import Member, renew_beat
from node.ledger.pipeline_failures import record_failure as record_pipeline_failure
from node.ledger.tables import decision, delivery, instance, job, notice, series
from node.log import StudyLog, WarningLog, about
from node.process.presence import host_name
from node.reasons import ReasonCode, reason, reason_text
from node.spool.machine import machine_id
from node.web.slices import Segments, open_segments, open_series, picture, pixels, window_of
from node.wording import NOTICE


def test_every_page_shows_itself_to_a_user(standing: Dashboard):
    browsers = {"vera": standing.browser("vera"), "otto": standing.browser("otto")}
    for path in paths_of(standing, "GET"):
        user = (
            "otto" if path in ("/fleet", "/upload", "/fetches", "/log", "/audit", "/rules/edit", "/users") else "vera"
        )
        assert browsers[user].get(path).status_code == 200, path


def test_operators_alone_see_warnings_and_errors_newest_first_and_find_them(dashboard: Dashboard):
    keeper, logger = WarningLog(dashboard.spool.logs), logging.getLogger("of_a_test")
    logger.addHandler(keeper)
    dashboard.spool.logs.mkdir(exist_ok=True)
    try:
        logger.warning("the PACS <b>is</b> away")
        with about(dashboard.uid):
            logger.error("job failed")
    finally:
        logger.removeHandler(keeper)
    operator, viewer = dashboard.browser("otto"), dashboard.browser("vera")
    page = operator.get("/log").text
    assert page.index("job failed") < page.index("the PACS &lt;b&gt;is&lt;/b&gt; away")
    assert f'href="/study/{dashboard.uid}"' in page
    assert "is away" not in operator.get("/log?q=JOB").text
    assert "is&lt;/b&gt; away" not in operator.get("/log?level=errors").text
    assert "is&lt;/b&gt; away" in operator.get("/log?q=pacs").text
    assert viewer.get("/log").status_code == 403
    assert 'href="/log"' not in viewer.get("/").text


def test_every_page_says_that_it_is_for_research(standing: Dashboard):
    visitor, browser = standing.browser(), standing.browser("otto")
    assert NOTICE in visitor.get("/login").text
    assert NOTICE in browser.get("/nowhere").text
    for path in (p for p in paths_of(standing, "GET") if not p.endswith((".jpg", ".zip"))):
        text = browser.get(path).text
        assert NOTICE in text or "<html" not in text, path
        assert "support" not in text, f"{path}: the node supports no reading"


def test_an_operator_retries_and_the_timeline_names_who(dashboard: Dashboard):
    browser = dashboard.browser("otto")
    answer = browser.post(f"/job/{dashboard.job_id}/retry", data={"csrf": token(browser)})
    assert answer.headers["location"] == f"/study/{dashboard.uid}"
    with dashboard.engine.connect() as connection:
        assert get_job(connection, dashboard.job_id).state == "SCHEDULED"
    line = '<span class="faint">nodule</span><b>operator</b><span>otto retried the job</span>'
    assert line in browser.get(f"/study/{dashboard.uid}").text
    refused = browser.post(f"/job/{dashboard.job_id}/retry", data={"csrf": token(browser)})  # of a page that is old
    assert refused.status_code == 400
    assert "is SCHEDULED in stage infer; only COMPLETED or CANCELED jobs can be retried" in refused.text
    assert browser.get(f"/study/{dashboard.uid}").text.count("otto retried the job") == 1
    browser.post(f"/job/{dashboard.job_id}/cancel", data={"csrf": token(browser)})
    with dashboard.engine.connect() as connection:
        assert reason_text(get_job(connection, dashboard.job_id).reason) == "cancelled by otto"


def test_an_operator_changes_the_priority_of_a_job_that_has_not_ended(dashboard: Dashboard):
    browser, path = dashboard.browser("otto"), f"/job/{dashboard.job_id}/priority"
    assert "Raise priority" not in browser.get(f"/study/{dashboard.uid}").text, "it has ended"
    browser.post(f"/job/{dashboard.job_id}/retry", data={"csrf": token(browser)})
    page = browser.get(f"/study/{dashboard.uid}").text
    assert "medium priority" in page
    assert 'name="priority" value="high"' in page
    assert 'name="priority" value="low"' in page
    assert browser.post(path, data={"csrf": token(browser), "priority": "high"}).status_code == 303
    page = browser.get(f"/study/{dashboard.uid}").text
    assert "high priority" in page
    assert "Raise priority" not in page
    assert 'name="priority" value="medium"' in page
    assert "<b>priority changed</b><span>to high by otto</span>" in page
    assert browser.post(path, data={"csrf": token(browser), "priority": "first"}).status_code == 400
    assert "Raise priority" not in dashboard.browser("vera").get(f"/study/{dashboard.uid}").text


def test_results_are_retracted_with_a_reason_only_and_where_some_were_sent(dashboard: Dashboard):
    browser, path = dashboard.browser("otto"), f"/job/{dashboard.job_id}/retract"
    assert "Retract the results" not in browser.get(f"/study/{dashboard.uid}").text, "nothing was sent"
    assert "only retracted with a reason" in browser.post(path, data={"csrf": token(browser)}).text
    refused = browser.post(path, data={"csrf": token(browser), "reason": "safety"})
    assert (refused.status_code, "no destination holds anything of job" in refused.text) == (400, True)
    assert dashboard.browser("vera").post(path, data={"reason": "safety"}).status_code == 403


def test_an_operator_runs_another_pipeline_on_a_series_once(dashboard: Dashboard):
    browser = dashboard.browser("otto")
    with dashboard.engine.connect() as connection:
        series_uid = get_job(connection, dashboard.job_id).series_instance_uid
    data = {"csrf": token(browser), "series": series_uid, "pipeline": "other", "destination": "pacs"}
    assert browser.post(f"/study/{dashboard.uid}/run", data=data).status_code == 303
    assert browser.post(f"/study/{dashboard.uid}/run", data=data).status_code == 409
    assert browser.post(f"/study/{dashboard.uid}/run", data={**data, "pipeline": "none"}).status_code == 400
    assert browser.post("/study/1.2.3/run", data=data).status_code == 409


def test_the_page_of_the_pipelines_says_what_holds_up_their_jobs(dashboard: Dashboard):
    browser = dashboard.browser("otto")
    assert "no live worker" not in browser.get("/pipelines").text, "nothing waits"
    browser.post(f"/job/{dashboard.job_id}/retry", data={"csrf": token(browser)})
    assert "no live worker has the pipeline" in browser.get("/pipelines").text
    worker = Member(id="w", role="worker", host="elsewhere", pid=1, pipelines=("nodule", "other"))
    with begin_immediate(dashboard.engine) as connection:
        renew_beat(connection, worker, now())
        for job_id in "123":
            record_pipeline_failure(connection, "nodule", job_id, 0.0, None)
    assert "the pipeline has failed on 3 jobs in a row; next attempt after" in browser.get("/pipelines").text


@pytest.mark.parametrize(
    ("template", "begins"),
    [
        ("https://ohif.example.org/viewer?StudyInstanceUIDs={study}", "https://ohif.example.org/viewer?Study"),
        (
            'https://pacs.example.org/?a="><b>&amp;study={study}',
            "https://pacs.example.org/?a=&#34;&gt;&lt;b&gt;&amp;amp;",
        ),
        ("weasis://%24dicom%3Ars%20-r%20%22studyUID%3D{study}%22", "weasis://%24dicom%3Ars%20-r%20%22studyUID%3D"),
    ],
)
def test_a_study_opens_in_the_configured_viewer(serve: Serve, template: str, begins: str):
    with serve(viewer_url=template) as dashboard:
        page = dashboard.browser("vera").get(f"/study/{dashboard.uid}").text
    (address,) = re.findall(r'<a class="button" href="([^"]*)" target="_blank" rel="noopener noreferrer">', page)
    assert address.startswith(begins)
    assert html.unescape(address) == template.replace("{study}", dashboard.uid)


def test_a_study_has_no_link_to_a_viewer_unless_one_is_configured(standing: Dashboard):
    assert "Open in viewer" not in standing.browser("vera").get(f"/study/{standing.uid}").text


def test_pages_carry_no_inline_script_and_no_inline_style(standing: Dashboard):
    browser = standing.browser("otto")
    for path in (p for p in paths_of(standing, "GET") if not p.endswith((".jpg", ".zip"))):
        text = browser.get(path).text
        assert not re.search(r"<script(?![^>]*\bsrc=)|\son[a-z]+=|\sstyle=|<style|javascript:|https?://", text), path


def test_what_comes_from_files_and_rules_is_escaped(standing: Dashboard):
    text = standing.browser("vera").get(f"/study/{standing.uid}").text
    assert "&lt;b&gt;chest&lt;/b&gt;" in text
    assert "<b>chest</b>" not in text
    assert "&lt;script&gt;" in standing.browser("vera").get("/?q=%22%3E%3Cscript%3E").text


@pytest.mark.parametrize("show", [False, True])
def test_the_patient_is_shown_only_where_that_is_switched_on(serve: Serve, *, show: bool):
    with serve(show_patient=show) as dashboard:
        browser = dashboard.browser("vera")
        for path in ("/", f"/study/{dashboard.uid}"):
            assert ("Test, Patient" in browser.get(path).text) == show
            assert ("TEST-1" in browser.get(path).text) == show
        assert (dashboard.uid in browser.get("/?q=patient").text) == show
        assert dashboard.uid in browser.get(f"/?q={dashboard.uid[:12]}").text


def test_an_old_study_is_found_by_its_uid_behind_many_newer_ones(dashboard: Dashboard):
    newer = {"series_instance_uid": "1.2.3", "modality": "CT", "instances": 1, "state": "RECEIVING", "generation": 0}
    rows = [newer | {"study_instance_uid": f"1.2.3.{n}", "first_at": 4e9, "last_at": 4e9 + n} for n in range(500)]
    with dashboard.engine.begin() as connection:
        connection.execute(series.insert(), rows)
    browser = dashboard.browser("vera")
    assert dashboard.uid not in browser.get("/").text
    assert dashboard.uid in browser.get(f"/?q={dashboard.uid}").text.split("<table", 1)[1]


def test_what_is_not_there_is_not_found_and_says_so(standing: Dashboard):
    browser = standing.browser("otto")
    for path in ("/study/1.2.3", "/slice/none/0.jpg", f"/slice/{standing.job_id}/99.jpg", "/static/../server.py"):
        assert browser.get(path).status_code == 404, path
    assert browser.get("/account?day=yesterday").status_code == 400


def test_the_account_is_of_today_of_another_day_or_of_everything(standing: Dashboard):
    browser = standing.browser("vera")
    today = datetime.now().astimezone().date()
    assert f"Everything of {today} is accounted for" in browser.get("/account").text
    assert "Everything of 2020-02-29 is accounted for" in browser.get("/account?day=2020-02-29").text
    assert "Everything is accounted for" in browser.get("/account?day=everything").text


def test_the_page_of_a_study_shows_its_lines_of_the_log(standing: Dashboard):
    logger = logging.getLogger("test_web_pages")
    keeper = StudyLog(standing.spool.logs, standing.spool.holds_study)
    logger.addHandler(keeper)
    try:
        with about(standing.uid):
            logger.error("job failed <at once>")
        logger.error("of nobody")
    finally:
        logger.removeHandler(keeper)
    text = standing.browser("vera").get(f"/study/{standing.uid}").text
    assert "job failed &lt;at once&gt;" in text
    assert "of nobody" not in text
    assert f"journalctl -u 'ainode*' -g {standing.uid}</code>" in text


def test_the_page_of_a_study_lists_the_findings_of_the_report(standing: Dashboard):
    text = standing.browser("vera").get(f"/study/{standing.uid}").text
    for part in ("Nodule 1", "Nodule 2", "Lung, left", " mm</td>", "Certainty of Finding", "83 %", "Halved"):
        assert part in text, part
    assert "<p>Outcome: findings.</p>" in text
    assert re.search(r"slice \d+ \(image \d+\)", text)


def test_measurements_beyond_the_fourth_stand_below_their_finding(standing: Dashboard):
    text = standing.browser("vera").get(f"/study/{standing.uid}").text
    head, _, body = text.partition("</thead>")
    assert head.count('<th class="number">') == 4
    first = body.partition("</tbody>")[0]
    assert first.count('<td class="number"') == 4
    assert first.count("<dt>") >= 1


def test_a_destination_is_up_only_once_it_has_taken_something(dashboard: Dashboard):
    browser = dashboard.browser("vera")

    def health() -> str:
        match = re.search(r'class="stage h-(\w+)"', browser.get("/destinations").text)
        assert match is not None
        return match[1]

    assert health() == "idle"
    with begin_immediate(dashboard.engine) as connection:
        record_failure(connection, "pacs", "refused", 1000.0, 2000.0)
    assert health() == "failing"
    with begin_immediate(dashboard.engine) as connection:
        for _ in range(2):
            record_failure(connection, "pacs", "refused", 1000.0, 2000.0)
    assert health() == "down"
    with begin_immediate(dashboard.engine) as connection:
        close(connection, "pacs")
        schedule_delivery(connection, dashboard.job_id, "pacs")
        connection.execute(delivery.update().values(state="STORED"))
    assert health() == "up"


def test_the_bundle_holds_every_digest_and_no_patient(standing: Dashboard):
    data = standing.browser("vera").get(f"/study/{standing.uid}/evidence.zip").content
    with zipfile.ZipFile(BytesIO(data)) as archive:
        files = {name: archive.read(name).decode() for name in archive.namelist()}
    received = json.loads(files["received.json"])
    assert len(received) == 5
    assert all(entry["digest"].startswith("blake3:") for entry in received)
    assert "ab" * 32 in files["results.json"]
    for text in files.values():
        for identifying in ("Test^Patient", "PatientName", "00100010", "TEST-1", "19600101", "00080050"):
            assert identifying not in text


def test_an_outline_lies_round_the_voxels_of_its_segment(standing: Dashboard):
    shown, segments = _opened(standing)
    place = segments.largest(1)
    assert place is not None
    index = shown.places.index(place)
    window = window_of(shown, "", segments)
    plain = np.asarray(Image.open(BytesIO(picture(shown, index, window))), int)
    drawn = np.asarray(Image.open(BytesIO(picture(shown, index, window, [segments]))), int)
    changed = np.argwhere(np.abs(plain - drawn).max(-1) > 60)
    rows, columns = pixels(shown.series, index).shape
    scale = np.array(plain.shape[:2]) / (rows, columns)
    boxes = [piece.box for piece in segments.pieces[place]]
    low = np.min([[part.start for part in box] for box in boxes], axis=0) * scale
    high = np.max([[part.stop for part in box] for box in boxes], axis=0) * scale
    assert np.abs(changed.min(0) - low).max() < scale.max()
    assert np.abs(changed.max(0) - high).max() < scale.max()


def test_a_derived_series_is_seen_beside_its_source(standing: Dashboard):
    browser = standing.browser("vera")
    image, other = (
        np.asarray(Image.open(BytesIO(browser.get(f"/slice/{standing.job_id}/2.jpg?window=lung{more}").content)), int)
        for more in ("", "&derived=1")
    )
    assert image.shape == other.shape
    assert np.abs(image - other).max() > 10


def _opened(dashboard: Dashboard) -> tuple[Any, Segments]:
    files = sorted((dashboard.spool.folder / "incoming").rglob("*.dcm"))
    (seg,) = [
        path
        for path in (dashboard.spool.folder / "results").rglob("*.dcm")
        if b"1.2.840.10008.5.1.4.1.1.66.4" in path.read_bytes()[:400]
    ]
    return open_series(tuple(files)), open_segments(seg)


def test_readyz_names_what_is_missing_and_healthz_only_answers(standing: Dashboard):
    browser = standing.browser()
    assert browser.get("/healthz").status_code == 200
    answer = browser.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["faults"] == ["no worker is alive", "no sender is alive"]


def test_a_machine_that_is_drained_is_not_ready(dashboard: Dashboard):
    with begin_immediate(dashboard.engine) as connection:
        drain_machines(connection, [(machine_id(dashboard.spool.folder), host_name())])
    answer = dashboard.browser().get("/readyz")
    assert answer.status_code == 503
    assert "this machine is being drained" in answer.text


def test_a_series_that_is_no_grid_is_shown_image_by_image(tmp_path: Path):
    from dicom_files import ct_series

    datasets = ct_series(3, 16)
    for dataset in datasets:
        del dataset.ImagePositionPatient
    shown = open_series(tuple(write(datasets, tmp_path)))
    assert len(shown.places) == 3
    assert Image.open(BytesIO(picture(shown, 0, window_of(shown, "")))).size == (720, 720)


def test_the_page_of_a_study_shows_what_the_headers_of_a_series_show(dashboard: Dashboard):
    plane = {"values": ["axial"], "certainty": "certain", "basis": [["ImageOrientationPatient", "<of all images>"]]}
    with begin_immediate(dashboard.engine) as connection:
        connection.execute(decision.update().values(characteristics={"plane": plane}))
    shown = dashboard.browser("vera").get(f"/study/{dashboard.uid}").text
    assert "<li>plane axial (certain: ImageOrientationPatient &lt;of all images&gt;)</li>" in shown


def test_an_operator_routes_ignored_series_after_looking_at_them(dashboard: Dashboard):
    browser, viewer = dashboard.browser("otto"), dashboard.browser("vera")
    with begin_immediate(dashboard.engine) as connection:
        connection.execute(job.delete())
        connection.execute(
            decision.update().values(outcome="ignored", reason=reason(ReasonCode.NO_RULE), decided_at=now())
        )
        connection.execute(series.update().values(last_at=now()))
    shown = browser.get("/rules?since=1d").text
    assert "Route 1 series" in shown
    assert "all &lt;CT&gt;" in shown
    assert "no rule matches" in shown
    with dashboard.engine.connect() as connection:
        assert connection.scalar(series.select().with_only_columns(series.c.state)) == "COMPLETE", "nothing changed"
    assert "Route" not in viewer.get("/rules?since=1d").text
    data = {"since": "1d", "rule": "all <CT>"}
    assert viewer.post("/rules/reroute", data={**data, "csrf": token(viewer)}).status_code == 403
    assert browser.post("/rules/reroute", data={"since": "9d", "csrf": token(browser)}).status_code == 400
    assert browser.post("/rules/reroute", data={**data, "rule": "x", "csrf": token(browser)}).status_code == 404
    answer = browser.post("/rules/reroute", data={**data, "csrf": token(browser)})
    assert answer.headers["location"] == "/rules?done=1"
    with dashboard.engine.connect() as connection:
        assert connection.scalar(series.select().with_only_columns(series.c.state)) == "RECEIVING"
        (acted,) = connection.scalars(notice.select().where(notice.c.what == "act").with_only_columns(notice.c.detail))
    assert acted == "rerouted 1 series ignored in the last 1d by rule 'all <CT>'"
    assert "decides again on 1 series" in browser.get(answer.headers["location"]).text


def test_an_operator_excludes_an_image_from_a_held_series_and_puts_it_back(dashboard: Dashboard):
    browser, viewer, page = dashboard.browser("otto"), dashboard.browser("vera"), f"/study/{dashboard.uid}"
    with begin_immediate(dashboard.engine) as connection:
        uid, images = str(connection.scalar(sa.select(instance.c.sop_instance_uid))), _images(connection)
        why = reason(ReasonCode.CONTRADICTION, keywords=["PatientID"], others=[uid], number=1, of=images)
        connection.execute(decision.update().values(outcome="held", reason=why))
    assert "Exclude from the series" in browser.get(page).text
    assert "Exclude from the series" not in viewer.get(page).text
    assert viewer.post("/image/exclude", data={"image": uid, "reason": "x", "csrf": token(viewer)}).status_code == 403
    data = {"image": uid, "csrf": token(browser)}
    assert browser.post("/image/exclude", data={**data, "reason": " "}).status_code == 400
    answer = browser.post("/image/exclude", data={**data, "reason": "of <somebody> else"})
    assert answer.headers["location"] == page
    with dashboard.engine.connect() as connection:
        assert _images(connection) == images - 1
        (acted,) = connection.execute(notice.select().where(notice.c.what == "act")).all()
    assert (acted.who, acted.address) == ("otto", "127.0.0.1")
    assert acted.detail.startswith(f"excluded image {uid} of series ")
    shown = browser.get(page).text
    assert "was excluded by otto: of &lt;somebody&gt; else" in shown
    assert "Put it back" in shown
    assert browser.post("/image/include", data=data).headers["location"] == page
    with dashboard.engine.connect() as connection:
        assert _images(connection) == images


def _images(connection: sa.Connection) -> int:
    return int(connection.scalar(sa.select(series.c.instances)) or 0)


def test_the_first_page_says_that_all_is_well_or_what_is_wrong(dashboard: Dashboard):
    browser = dashboard.browser("vera")
    text = browser.get("/").text
    assert "No worker is alive" in text
    with begin_immediate(dashboard.engine) as connection:
        for role in ("worker", "sender"):
            renew_beat(connection, Member(id=role, role=role, host="elsewhere", pid=1), now())
        connection.execute(instance.update().values(received_at=now()))
        connection.execute(series.update().values(last_at=now()))
    with dashboard_on(dashboard.config.storage.folder, dashboard.uid, dashboard.job_id) as fresh:
        text = fresh.browser("vera").get("/").text
        assert "All is well." in text
        assert "1 sender, 1 worker, last image" in text
        with begin_immediate(fresh.engine) as connection:
            for _ in range(5):
                record_failure(connection, "pacs", "pacs (PACS at <10.1.2.9>): refused", now(), now())
    with dashboard_on(dashboard.config.storage.folder, dashboard.uid, dashboard.job_id) as fresh:
        text = fresh.browser("vera").get("/").text
        assert "1 problem" in text
        assert "destination pacs is down since" in text
        assert "&lt;10.1.2.9&gt;" in text
