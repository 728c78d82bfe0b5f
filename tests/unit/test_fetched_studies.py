"""Studies that are fetched as time allows: their analyses go after all others; lists of them are kept for a while."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa
from dashboards import Dashboard, token
from dicom_files import ct_series
from hl7_orders import order
from ledgers import open_copy
from routing_scene import CHEST, Scene

from node.config import Orders
from node.deliver.study_list import key_of
from node.errors import ConfigError, NotFoundError
from node.ledger.clock import clock_of
from node.ledger.engine import begin_immediate
from node.ledger.fetch_lists import (
    FetchItem,
    NewFetchList,
    add_fetch_list,
    due_item,
    end_item,
    fetch_progress,
    mark_fetched,
    missing_items,
    open_fetches,
    purge_fetches,
)
from node.ledger.order_messages import Receipt, record_messages
from node.ledger.states import PRIORITIES, FetchState, JobState
from node.ledger.tables import fetch_item, fetch_list, fetched_study, job, notice, series
from node.orders.hl7_text import parse_hl7
from node.orders.order_message import order_message_of

URGENT = CHEST.replace("prefer = [", 'priority = "high"\n# prefer = [').replace("prefer_seconds", "# prefer_seconds")
CHOOSING = CHEST.replace("pipelines = [", 'priority = "high"\npipelines = [')
ORDERED = URGENT.replace('priority = "high"\n', "") + '[orders]\nenabled = true\nsenders = ["127.0.0.1"]\n'


def priorities(folder: Path, text: str, *, fetched: bool, heard: str = "") -> list[int]:
    """Priorities of the jobs that a rule of high priority, or an order, makes for a STAT study."""
    scene = Scene(folder, text)
    try:
        with begin_immediate(scene.node.engine) as connection:
            if fetched:
                mark_fetched(connection, scene.study)
            if heard:
                receipt = Receipt(id="1", sender="RIS", control_id="1", kind="ORM^O01", peer_address="", answer="AA")
                record_messages(connection, [(receipt, order_message_of(parse_hl7(heard.encode()), Orders()))])
        identity = {"PatientID": "PAT1", "AccessionNumber": "A1", "IssuerOfPatientID": "HOSP"}
        images = ct_series(n=4, size=16, study=scene.study)
        scene.receive(images, RequestedProcedurePriority="" if heard else "STAT", **identity)
        scene.wait(100.0)
        scene.wait(100.0)
        return [job.priority for job in scene.jobs()]
    finally:
        scene.node.engine.dispose()


@pytest.mark.parametrize("text", [URGENT, CHOOSING], ids=["rule of series", "rule of studies"])
def test_a_fetched_study_goes_last_whatever_rule_and_header_say(tmp_path: Path, text: str):
    assert priorities(tmp_path / "routine", text, fetched=False) == [PRIORITIES["high"]]
    assert priorities(tmp_path / "fetched", text, fetched=True) == [PRIORITIES["low"]]


@pytest.mark.thorough
def test_an_order_of_today_lets_it_go_first(tmp_path: Path):
    heard = order("1", priority="S")
    assert priorities(tmp_path / "ordered", ORDERED, fetched=True, heard=heard) == [PRIORITIES["high"]]
    assert priorities(tmp_path / "not", ORDERED, fetched=True, heard=order("1", priority="R")) == [PRIORITIES["low"]]


def test_series_count_until_they_are_routed_and_jobs_until_they_end(tmp_path: Path):
    scene = Scene(tmp_path, URGENT)

    def counted() -> int:
        with scene.node.engine.connect() as connection:
            return open_fetches(connection)

    scene.receive()
    assert counted() == 0
    with begin_immediate(scene.node.engine) as connection:
        mark_fetched(connection, scene.study)
    assert counted() == 1
    scene.wait(100.0)
    assert counted() == 1
    with begin_immediate(scene.node.engine) as connection:
        connection.execute(job.update().values(state=JobState.COMPLETED))
    assert counted() == 0
    scene.node.engine.dispose()


@pytest.mark.parametrize(
    ("text", "keyword"),
    [("1.2.840.1", "StudyInstanceUID"), ("A1", "AccessionNumber"), ("2026.17", "AccessionNumber")],
)
def test_a_line_names_a_study_by_uid_or_accession_number(text: str, keyword: str):
    assert key_of(text) == (keyword, text)


@pytest.mark.parametrize("text", ["*", "A?", "A1\\A2"])
def test_a_line_that_would_name_other_studies_is_refused(text: str):
    with pytest.raises(ConfigError, match="names more than one study"):
        key_of(text)


def test_lists_go_when_their_numbers_are_no_longer_kept_and_never_while_anything_waits(tmp_path: Path):
    engine = open_copy(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    with begin_immediate(engine) as connection:
        for value in ("A1", "A2"):
            add_fetch_list(connection, NewFetchList(destination="p", requester="r", keys=[("AccessionNumber", value)]))
        first = due_item(connection)
        assert isinstance(first, FetchItem)
        end_item(connection, first, FetchState.FETCHED, here=2, there=2)
        for study in ("1.1", "1.2"):
            mark_fetched(connection, study)
        row = {"modality": "CT", "instances": 1, "first_at": 0.0, "last_at": 0.0, "state": "RECEIVING", "generation": 0}
        connection.execute(series.insert().values(study_instance_uid="1.2", series_instance_uid="1.3", **row))
        purge_fetches(connection, clock_of(engine) - 60.0)
        assert len(connection.execute(sa.select(fetch_list)).all()) == 2
        purge_fetches(connection, clock_of(engine) + 60.0)
        assert [progress.items for progress in fetch_progress(connection)] == [{FetchState.WAITING: 1}]
        assert connection.scalars(sa.select(fetch_item.c.value)).all() == ["A2"]
        assert connection.scalars(sa.select(fetched_study.c.study_instance_uid)).all() == ["1.2"]
        with pytest.raises(NotFoundError, match="no list 1 "):
            missing_items(connection, 1)
    engine.dispose()


@pytest.mark.thorough
def test_an_operator_queues_cancels_and_repeats_a_list_on_the_dashboard(dashboard: Dashboard):
    operator, viewer = dashboard.browser("otto"), dashboard.browser("vera")
    assert viewer.get("/fetches").status_code == 403
    csrf = {"csrf": token(operator, "/fetches")}
    form = csrf | {"studies": "A1\r\n\r\n 1.2.3 \r\nA1\r\n", "destination": "pacs", "modalities": "ct, mr"}
    assert viewer.post("/fetches", data=form | {"csrf": token(viewer)}).status_code == 403
    assert operator.post("/fetches", data=form | {"destination": "nowhere"}).status_code == 404
    assert operator.post("/fetches", data=form).headers["location"] == "/fetches"
    with dashboard.engine.connect() as connection:
        item = due_item(connection)
    assert item is not None
    assert (item.keyword, item.value, item.modalities) == ("AccessionNumber", "A1", ("CT", "MR"))
    assert "2 waiting" in operator.get("/fetches").text
    change = csrf | {"list": str(item.list_id)}
    assert operator.post("/fetches/change", data=change | {"to": "cancel"}).status_code == 303
    assert "2 cancelled" in operator.get("/fetches").text
    assert operator.post("/fetches/change", data=change | {"to": "again"}).status_code == 303
    with begin_immediate(dashboard.engine) as connection:
        end_item(connection, item, FetchState.NOT_FOUND, error="there is <none>")
    page = operator.get("/fetches", params={"list": item.list_id}).text
    assert "there is &lt;none&gt;" in page
    assert "1.2.3" not in page
    for wrong in ({"studies": " "}, {"studies": "A1\n*"}):
        assert operator.post("/fetches", data=form | wrong).status_code == 400
    for number in ("9", "x", "9" * 30):
        assert operator.get("/fetches", params={"list": number}).status_code in (400, 404)
    with dashboard.engine.connect() as connection:
        acts = [row.detail for row in connection.execute(sa.select(notice)) if row.who == "otto"]
    assert [act for act in acts if "list 1" in act] == [
        "queued list 1 of studies to fetch from pacs",
        "cancelled list 1 of studies to fetch",
        "tried again list 1 of studies to fetch",
    ]
