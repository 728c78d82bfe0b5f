"""No query, form, path or cookie of a browser, and nothing that a model said, ends in an internal error."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from dashboards import Dashboard, paths_of, token
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from node.ledger.analysis_statistics import record_statistics
from node.ledger.engine import begin_immediate
from node.ledger.tables import job_fact

WORDS = st.one_of(
    st.text(max_size=40),
    st.sampled_from(
        ["", "0", "-1", "1e400", "nan", "9" * 400, "٣", "2026-02-31", "0000-00-00", "%", "_", "\\", "\x00", "\ud800",
         "'", '"', "1.2.3", "nodule", "pacs", "stop", "infer", "deliver", "../..", "{{7*7}}", "a" * 5000]
    ),
)  # fmt: skip
NAMES = st.one_of(
    st.text(max_size=10),
    st.sampled_from(["q", "stage", "day", "part", "results", "window", "outlines", "derived", "csrf", "to", "pipeline",
                     "destination", "series", "name", "password"]),
)  # fmt: skip
FIELDS = st.lists(st.tuples(NAMES, WORDS), max_size=6)
PATIENT = settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


def encoded(fields: list[tuple[str, str]]) -> bytes:
    """As a form or a query, with whatever bytes an attacker may send in it."""
    from urllib.parse import quote_from_bytes

    def one(text: str) -> str:
        return quote_from_bytes(text.encode("utf-8", "surrogatepass"))

    return "&".join(f"{one(name)}={one(value)}" for name, value in fields).encode()


@pytest.fixture(scope="module")
def browsers(standing: Dashboard) -> tuple[httpx.Client, httpx.Client]:
    return standing.browser("otto"), standing.browser()


@given(data=st.data())
@PATIENT
def test_no_query_path_or_cookie_is_an_internal_error(standing: Dashboard, browsers: Any, data: st.DataObject) -> None:
    browser = data.draw(st.sampled_from(browsers))
    path = data.draw(st.sampled_from([*paths_of(standing, "GET"), "/login", "/readyz", "/static/app.js", "/nothing"]))
    parts = path.split("/")
    if data.draw(st.booleans()):
        place = data.draw(st.integers(1, len(parts) - 1))
        parts[place] = encoded([("", data.draw(WORDS))]).decode()[1:]
    query = encoded(data.draw(FIELDS)).decode()
    headers = {"hx-request": "true"} if data.draw(st.booleans()) else {}
    address = f"{'/'.join(parts)}?{query}"
    answer = browser.send(browser.build_request("GET", httpx.URL(address[:16000]), headers=headers))
    assert answer.status_code < 500 or parts[1] == "readyz", (address, answer.text)


@given(data=st.data())
@PATIENT
def test_no_form_is_an_internal_error(standing: Dashboard, browsers: Any, data: st.DataObject) -> None:
    browser = browsers[0]
    path = data.draw(st.sampled_from([*paths_of(standing, "POST"), "/login"]))
    parts = path.split("/")
    if data.draw(st.booleans()):
        place = data.draw(st.integers(1, len(parts) - 1))
        parts[place] = encoded([("", data.draw(WORDS))]).decode()[1:]
    fields = [("csrf", token(browser, "/account")), *data.draw(FIELDS)]
    body = encoded(fields) if data.draw(st.booleans()) else data.draw(st.binary(max_size=200))
    kind = data.draw(
        st.sampled_from(
            ["application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "multipart/form-data",
             "text/plain", "application/x-www-form-urlencoded; charset=utf-7", "application/json", ""]
        )
    )  # fmt: skip
    answer = browser.post("/".join(parts)[:16000], content=body, headers={"content-type": kind})
    assert answer.status_code < 500, (parts, body, kind, answer.text)


@pytest.mark.parametrize(
    "cookie", ["", "x", "\x7f", "é", "ainode=ainode", '"', "a" * 43, "a" * 5000, "." * 43], ids=ascii
)
def test_no_cookie_is_an_internal_error(standing: Dashboard, cookie: str) -> None:
    headers = [(b"cookie", f"ainode={cookie}".encode())]
    for path in ("/", "/login"):
        assert standing.browser().get(path, headers=headers).status_code < 500  # type: ignore[arg-type]


FACTS = {
    "run_seconds": 1.0,
    "outcome": "findings",
    "scanner": "A",
    "slices": 10,
    "findings": 1,
    "device": "cpu",
    "scores": [0.5],
}
"""What an analysis was like."""


@pytest.mark.parametrize(
    "change",
    [
        {"scores": ["high"]},
        {"scores": [None]},
        {"scores": [[1.0]]},
        {"scores": 0.5},
        {"scores": {"a": 1}},
        {"scores": [float("nan"), float("inf"), 1e308, -1e308]},
        {"histogram": ["x"] * 48},
        {"histogram": [float("nan")]},
        {"histogram": "x"},
        {"histogram": [[0.1]]},
    ],
    ids=repr,
)
def test_no_score_of_a_model_hides_the_page_of_its_pipeline(dashboard: Dashboard, change: dict[str, Any]) -> None:
    required = {
        column.name: 0 for column in job_fact.columns if not column.nullable and column.name not in {"pipeline", "at"}
    }
    required.pop("job_id")
    with begin_immediate(dashboard.engine) as connection:
        record_statistics(connection, "good", "nodule", {**required, **FACTS})
        record_statistics(connection, "bad", "nodule", {**required, **FACTS, **change})
        assert connection.scalar(sa.select(sa.func.count()).select_from(job_fact)) == 2
    browser = dashboard.browser("vera")
    for path in ("/pipelines/nodule", "/pipelines", "/metrics"):
        assert browser.get(path).status_code == 200, path
