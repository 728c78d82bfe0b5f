"""The dashboard as HTTP: who gets in, what forged requests get, what leaves the page, and what the pages say."""

from __future__ import annotations

import json
import re
import shutil
import zipfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from analyses import encoded
from click.testing import CliRunner
from dicom_files import write
from peers import free_port
from PIL import Image

import node.web.visit
from node.__main__ import main
from node.config import Config
from node.errors import ConfigError
from node.jobs.engine import Jobs
from node.ledger import begin_immediate, open_ledger
from node.ledger.instances import Receipt, record_instances
from node.ledger.jobs import NewJob, get_job
from node.ledger.tables import decision, job, result, series
from node.spool import Spool
from node.web.server import _PAGES, serving
from node.web.slices import Segments, open_segments, open_series, picture, pixels, window_of
from node.web.users import make_user, matches, read_users, secret_key, users_path, write_user

PASSWORD = "a long password"  # noqa: S105 - of nobody


class Dashboard:
    """A running dashboard on a copy of an analysed study, and browsers on it."""

    def __init__(self, folder: Path, uid: str, job_id: str, **web: Any) -> None:
        self.uid, self.job_id = uid, job_id
        self.config = Config.model_validate(
            {
                "storage": {"folder": folder, "min_free_gib": 0.0},
                "web": {"port": free_port(), **web},
                "pipelines": {"nodule": {}, "other": {}},
                "destinations": {"pacs": {"title": "PACS", "host": "127.0.0.1", "port": 104}},
            }
        )
        self.spool = Spool(folder)
        self.engine = open_ledger(f"sqlite:///{folder / 'ledger.sqlite'}")
        self.users = users_path(self.config.web, folder)
        self._browsers: list[httpx.Client] = []

    def browser(self, name: str = "") -> httpx.Client:
        """Logged in as ``name``; not at all without."""
        browser = httpx.Client(base_url=f"http://127.0.0.1:{self.config.web.port}", timeout=30.0, trust_env=False)
        self._browsers.append(browser)
        if name:
            assert self.log_in(browser, name, PASSWORD).status_code == 303
        return browser

    def log_in(self, browser: httpx.Client, name: str, password: str) -> httpx.Response:
        return browser.post("/login", data={"csrf": token(browser, "/login"), "name": name, "password": password})

    def close(self) -> None:
        for browser in self._browsers:
            browser.close()
        self.engine.dispose()


def analysed(folder: Path) -> tuple[str, str]:
    """One CT series with a SEG, an SR and a derived series, as receiver, router and worker leave it."""
    spool, engine = Spool(folder), open_ledger(f"sqlite:///{folder / 'ledger.sqlite'}")
    for name, role in (("vera", "view"), ("otto", "operate")):
        write_user(folder / "web-users", make_user(name, role, PASSWORD))  # type: ignore[arg-type]
    source, objects = encoded(folder / "made")
    study, uid = source.study_instance_uid, source.series_instance_uid
    receipts = []
    for path in source.paths:
        kept = spool.keep(study, uid, path.stem, [path.read_bytes()])
        receipts.append(
            Receipt(
                sop_instance_uid=path.stem,
                sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
                transfer_syntax_uid="1.2.840.10008.1.2.1",
                study_instance_uid=study,
                series_instance_uid=uid,
                modality="CT",
                path=kept.path,
                sha256=kept.sha256,
                size=kept.size,
                conflict=False,
                association=None,
                received_at=1000.0,
            )
        )
    trace = [
        {
            "rule": "<b>chest</b>",
            "matched": True,
            "pipelines": ["nodule"],
            "conditions": [{"attribute": "Modality", "wanted": "CT", "found": ["CT"], "matched": True}],
        }
    ]
    new = NewJob(
        study_instance_uid=study, series_instance_uid=uid, generation=1, pipeline="nodule", rule="chest",
        destinations=("pacs",), priority=2,
    )  # fmt: skip
    jobs = Jobs(engine)
    with begin_immediate(engine) as connection:
        record_instances(connection, receipts)
        connection.execute(series.update().values(state="COMPLETE", generation=1, completed_by="quiet"))
        connection.execute(
            decision.insert().values(
                study_instance_uid=study, series_instance_uid=uid, generation=1, outcome="routed",
                reason="matches 'chest'", trace=trace, decided_at=1001.0,
            )
        )  # fmt: skip
        jobs.enqueue(connection, new)
        for made in objects:
            head = made.dataset
            kept = spool.keep_result(new.id, head.SOPInstanceUID, made.data)
            connection.execute(
                result.insert().values(
                    sop_instance_uid=head.SOPInstanceUID, job_id=new.id, sop_class_uid=head.SOPClassUID,
                    transfer_syntax_uid="1.2.840.10008.1.2.1", series_instance_uid=head.SeriesInstanceUID,
                    description=made.description, path=kept.path, sha256=kept.sha256, size=kept.size,
                    quarantine=None, created_at=1002.0,
                )
            )  # fmt: skip
        connection.execute(job.update().values(state="COMPLETED", stage="deliver", outcome="findings"))
    engine.dispose()
    return study, new.id


def token(browser: httpx.Client, path: str = "/") -> str:
    found = re.search(r'name="csrf" value="([^"]+)"', browser.get(path).text)
    assert found is not None
    return found[1]


Serve = Callable[..., AbstractContextManager[Dashboard]]


@pytest.fixture(scope="module")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Serve:
    """Starts a dashboard on a copy of the study."""
    prepared = tmp_path_factory.mktemp("prepared")
    uid, job_id = analysed(prepared)

    @contextmanager
    def started(**web: Any) -> Iterator[Dashboard]:
        folder = tmp_path_factory.mktemp("node")
        shutil.copytree(prepared, folder, dirs_exist_ok=True)
        made = Dashboard(folder, uid, job_id, **web)
        with serving(made.config, made.engine, made.spool):
            yield made
            made.close()

    return started


@pytest.fixture(scope="module")
def shared(serve: Serve) -> Iterator[Dashboard]:
    """For tests that change nothing."""
    with serve() as running:
        yield running


@pytest.fixture
def dashboard(serve: Serve) -> Iterator[Dashboard]:
    with serve() as running:
        yield running


def paths_of(dashboard: Dashboard, method: str) -> list[str]:
    names = {"{uid}": dashboard.uid, "{job}": dashboard.job_id, "{index:int}": "0", "{name}": "nodule"}
    found = []
    for path, _, wanted in _PAGES:
        if wanted == method:
            for name, value in names.items():
                path = path.replace(name, value)  # noqa: PLW2901
            found.append(path)
    return found


def test_without_a_login_every_page_leads_to_the_login_and_nothing_is_told(shared: Dashboard):
    browser = shared.browser()
    for path in paths_of(shared, "GET"):
        answer = browser.get(path)
        assert (answer.status_code, answer.headers["location"], answer.content) == (303, "/login", b""), path
    for path in paths_of(shared, "POST"):
        assert browser.post(path, data={"csrf": token(browser, "/login")}).headers["location"] == "/login", path


def test_every_page_shows_itself_to_a_user(shared: Dashboard):
    browser = shared.browser("vera")
    for path in paths_of(shared, "GET"):
        assert browser.get(path).status_code == 200, path


def test_a_wrong_password_an_unknown_user_and_a_user_of_the_proxy_stay_outside(dashboard: Dashboard):
    path = dashboard.users
    path.write_text(path.read_text() + "proxied:view:\n")
    browser = dashboard.browser()
    for name, password in (("otto", "wrong password"), ("nobody", PASSWORD), ("proxied", "")):
        answer = dashboard.log_in(browser, name, password)
        assert (answer.status_code, "Name or password is wrong." in answer.text) == (403, True)
        assert browser.get("/").headers["location"] == "/login"


def test_guessing_is_stopped_also_for_the_right_password(dashboard: Dashboard):
    browser = dashboard.browser()
    for _ in range(node.web.visit.TRIES):
        dashboard.log_in(browser, "otto", "wrong password")
    assert "Too many failed logins" in dashboard.log_in(browser, "otto", PASSWORD).text


def test_a_form_without_the_token_of_the_session_changes_nothing(shared: Dashboard):
    browser, other = shared.browser("otto"), shared.browser("otto")
    for data in ({}, {"csrf": "guessed"}, {"csrf": token(other)}):
        for path in (*paths_of(shared, "POST"), "/logout", "/login"):
            assert browser.post(path, data=data).status_code == 403, path
    assert browser.get("/").status_code == 200
    with shared.engine.connect() as connection:
        assert get_job(connection, shared.job_id).state == "COMPLETED"


def test_a_large_form_is_refused_before_it_is_read(shared: Dashboard):
    browser = shared.browser("otto")
    assert browser.post("/logout", data={"csrf": "x" * 100_000}).status_code == 413


def test_the_role_view_sees_no_button_and_may_change_nothing(shared: Dashboard):
    browser = shared.browser("vera")
    assert "Retry" not in browser.get(f"/study/{shared.uid}").text
    for path in paths_of(shared, "POST"):
        assert browser.post(path, data={"csrf": token(browser)}).status_code == 403, path


def test_an_operator_retries_and_the_timeline_names_who(dashboard: Dashboard):
    browser = dashboard.browser("otto")
    answer = browser.post(f"/job/{dashboard.job_id}/retry", data={"csrf": token(browser)})
    assert answer.headers["location"] == f"/study/{dashboard.uid}"
    with dashboard.engine.connect() as connection:
        assert get_job(connection, dashboard.job_id).state == "SCHEDULED"
    assert "otto retried the job" in browser.get(f"/study/{dashboard.uid}").text
    browser.post(f"/job/{dashboard.job_id}/cancel", data={"csrf": token(browser)})
    with dashboard.engine.connect() as connection:
        assert get_job(connection, dashboard.job_id).reason == "cancelled by otto"


def test_an_operator_runs_another_pipeline_on_a_series_once(dashboard: Dashboard):
    browser = dashboard.browser("otto")
    with dashboard.engine.connect() as connection:
        series_uid = get_job(connection, dashboard.job_id).series_instance_uid
    data = {"csrf": token(browser), "series": series_uid, "pipeline": "other", "destination": "pacs"}
    assert browser.post(f"/study/{dashboard.uid}/run", data=data).status_code == 303
    assert browser.post(f"/study/{dashboard.uid}/run", data=data).status_code == 409
    assert browser.post(f"/study/{dashboard.uid}/run", data={**data, "pipeline": "none"}).status_code == 400
    assert browser.post("/study/1.2.3/run", data=data).status_code == 409


def test_a_session_ends_with_logout_with_a_new_password_and_with_the_user(dashboard: Dashboard):
    path = dashboard.users
    one, two, three = (dashboard.browser("otto") for _ in range(3))
    one.post("/logout", data={"csrf": token(one)})
    assert one.get("/").status_code == 303
    write_user(path, make_user("otto", "operate", "another password"))
    assert two.get("/").status_code == 303
    assert dashboard.log_in(three, "otto", "another password").status_code == 303
    path.write_text("")
    assert three.get("/").status_code == 303


def test_a_part_of_a_page_whose_session_has_ended_sends_the_browser_to_the_login(shared: Dashboard):
    answer = shared.browser().get("/?part=1", headers={"hx-request": "true"})
    assert (answer.status_code, answer.headers["hx-redirect"]) == (204, "/login")


def test_the_cookie_is_kept_from_scripts_and_other_sites(shared: Dashboard):
    cookie = shared.browser().get("/login").headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert "secure" not in cookie


def test_a_forged_session_is_no_session(shared: Dashboard):
    browser = shared.browser("otto")
    value = browser.cookies["ainode"]
    browser.cookies.clear()
    browser.cookies.set("ainode", ("B" if value[0] == "A" else "A") + value[1:])
    assert browser.get("/").status_code == 303


def test_every_answer_forbids_inline_scripts_framing_and_keeping(shared: Dashboard):
    browser = shared.browser("otto")
    for path in ("/", "/login", "/study/1.2.3", "/nothing", "/healthz", f"/slice/{shared.job_id}/0.jpg"):
        headers = browser.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert headers["x-frame-options"] == "DENY"
        assert headers["cache-control"] == "no-store"


def test_pages_carry_no_inline_script_and_no_inline_style(shared: Dashboard):
    browser = shared.browser("otto")
    for path in (p for p in paths_of(shared, "GET") if not p.endswith((".jpg", ".zip"))):
        text = browser.get(path).text
        assert not re.search(r"<script(?![^>]*\bsrc=)|\son[a-z]+=|\sstyle=|<style|javascript:|https?://", text), path


def test_what_comes_from_files_and_rules_is_escaped(shared: Dashboard):
    text = shared.browser("vera").get(f"/study/{shared.uid}").text
    assert "&lt;b&gt;chest&lt;/b&gt;" in text
    assert "<b>chest</b>" not in text
    assert "&lt;script&gt;" in shared.browser("vera").get("/?q=%22%3E%3Cscript%3E").text


@pytest.mark.parametrize("show", [False, True])
def test_the_patient_is_shown_only_where_that_is_switched_on(serve: Serve, *, show: bool):
    with serve(show_patient=show) as dashboard:
        browser = dashboard.browser("vera")
        for path in ("/", f"/study/{dashboard.uid}"):
            assert ("Test Patient" in browser.get(path).text) == show
        assert (dashboard.uid in browser.get("/?q=patient").text) == show
        assert dashboard.uid in browser.get(f"/?q={dashboard.uid[:12]}").text


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.1"])
def test_a_proxy_is_believed_from_its_address_alone(serve: Serve, address: str):
    with serve(proxy_header="X-Remote-User", proxy_address=address) as dashboard:
        answers = [dashboard.browser().get("/", headers={"X-Remote-User": name}) for name in ("otto", "new")]
        if address != "127.0.0.1":
            assert [answer.status_code for answer in answers] == [303, 303]
            return
        assert "otto <small>operate" in answers[0].text
        assert "new <small>view" in answers[1].text


def test_what_is_not_there_is_not_found_and_says_so(shared: Dashboard):
    browser = shared.browser("otto")
    for path in ("/study/1.2.3", "/slice/none/0.jpg", f"/slice/{shared.job_id}/99.jpg", "/static/../server.py"):
        assert browser.get(path).status_code == 404, path
    assert browser.get("/account?day=yesterday").status_code == 400


def test_the_page_of_a_study_lists_the_findings_of_the_report(shared: Dashboard):
    text = shared.browser("vera").get(f"/study/{shared.uid}").text
    for part in ("Nodule 1", "Nodule 2", "Lung, left", " mm</td>", "Certainty of Finding", "83.0 %", "Halved"):
        assert part in text, part


def test_the_bundle_holds_every_digest_and_no_patient(shared: Dashboard):
    data = shared.browser("vera").get(f"/study/{shared.uid}/evidence.zip").content
    with zipfile.ZipFile(BytesIO(data)) as archive:
        files = {name: archive.read(name).decode() for name in archive.namelist()}
    received = json.loads(files["received.json"])
    assert len(received) == 5
    assert all(len(entry["sha256"]) == 64 for entry in received)
    assert "ab" * 32 in files["results.json"]
    for text in files.values():
        for identifying in ("Test^Patient", "PatientName", "00100010", "TEST-1", "19600101", "00080050"):
            assert identifying not in text


def test_an_outline_lies_round_the_voxels_of_its_segment(shared: Dashboard):
    shown, segments = _opened(shared)
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


def test_a_derived_series_is_seen_beside_its_source(shared: Dashboard):
    browser = shared.browser("vera")
    one, other = (
        np.asarray(Image.open(BytesIO(browser.get(f"/slice/{shared.job_id}/2.jpg?window=lung{more}").content)), int)
        for more in ("", "&derived=1")
    )
    assert one.shape == other.shape
    assert np.abs(one - other).max() > 10


def _opened(dashboard: Dashboard) -> tuple[Any, Segments]:
    files = sorted((dashboard.spool.folder / "incoming").rglob("*.dcm"))
    (seg,) = [
        path
        for path in (dashboard.spool.folder / "results").rglob("*.dcm")
        if b"1.2.840.10008.5.1.4.1.1.66.4" in path.read_bytes()[:400]
    ]
    return open_series(tuple(files)), open_segments(seg)


def test_readyz_names_what_is_missing_and_healthz_only_answers(shared: Dashboard):
    browser = shared.browser()
    assert browser.get("/healthz").status_code == 200
    answer = browser.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["faults"] == ["no worker is alive", "no sender is alive"]


def test_the_verb_makes_a_user_whose_file_only_its_owner_reads(tmp_path: Path):
    config = tmp_path / "config.toml"
    config.write_text(f'[storage]\nfolder = "{tmp_path}"\n')
    arguments = ["web", "password", "anna", "--role", "view", "--config", str(config), "--password", PASSWORD]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    path = tmp_path / "web-users"
    assert path.stat().st_mode & 0o777 == 0o600
    assert PASSWORD not in path.read_text()
    anna = read_users(path)["anna"]
    assert (anna.role, matches(anna, PASSWORD), matches(anna, PASSWORD + "x")) == ("view", True, False)
    printed = CliRunner().invoke(main, [*arguments, "--print"]).output.strip()
    assert printed.startswith("anna:view:scrypt$")


@pytest.mark.parametrize(("name", "password"), [("a:b", PASSWORD), ("", PASSWORD), ("anna", "short")])
def test_a_user_that_cannot_be_is_refused(name: str, password: str):
    with pytest.raises(ConfigError):
        make_user(name, "view", password)


def test_a_spoilt_users_file_lets_nobody_in_and_names_the_line(tmp_path: Path):
    path = tmp_path / "users"
    path.write_text("# users\n\nanna:root:x\n")
    with pytest.raises(ConfigError, match="line 3"):
        read_users(path)


def test_the_key_of_sessions_is_made_once_for_its_owner_alone(tmp_path: Path):
    assert len(secret_key(tmp_path)) == 64
    assert secret_key(tmp_path) == secret_key(tmp_path)
    assert (tmp_path / "web-key").stat().st_mode & 0o777 == 0o600


def test_a_series_that_is_no_grid_is_shown_image_by_image(tmp_path: Path):
    from dicom_files import ct_series

    datasets = ct_series(3, 16)
    for dataset in datasets:
        del dataset.ImagePositionPatient
    shown = open_series(tuple(write(datasets, tmp_path)))
    assert len(shown.places) == 3
    assert Image.open(BytesIO(picture(shown, 0, window_of(shown, "")))).size == (720, 720)
