"""Rules that ask for orders: before the images, after them, of another patient; and what a late order does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from dicom_files import ct_series
from hl7_orders import merge, order, update
from routing_scene import Scene

from node.config import Orders, parse
from node.errors import ConfigError
from node.ledger.engine import begin_immediate, snapshot
from node.ledger.events import EventKind
from node.ledger.order_messages import Receipt, record_messages
from node.ledger.patient_changes import changed_studies
from node.ledger.tables import candidate, event, imaging_order, order_message, patient_change
from node.ledger.turnaround import stage_times
from node.operate.alerts import ledger_alerts
from node.operate.explain import explain
from node.operate.explain_text import describe
from node.operate.status import status
from node.operate.turnaround import stages
from node.orders.hl7_text import parse_hl7
from node.orders.order_message import order_message_of
from node.routing.replay import replay

NODE = """
[orders]
enabled = true
senders = ["127.0.0.1"]
[series]
quiet_seconds = 10.0
stat_quiet_seconds = 10.0
[pipelines.scripted]
factory = "job_pipelines:create"
[pipelines.other]
factory = "job_pipelines:create"
[destinations.pacs]
title = "PACS"
host = "127.0.0.1"
port = 1
"""
CHEST = """
[[rules]]
name = "ordered"
pipelines = ["scripted"]
destinations = ["pacs"]
match = { "order.procedure_code" = "CTCHEST", "order.reason" = "re:nodule" }
"""
ANY = """
[[rules]]
name = "any"
pipelines = ["other"]
destinations = ["pacs"]
match = { Modality = "CT" }
"""
PATIENT = "PAT1^^^HOSP^MR"


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    yield from made(tmp_path, NODE + CHEST)


def made(folder: Path, text: str) -> Iterator[Scene]:
    scene = Scene(folder, text)
    yield scene
    scene.node.engine.dispose()


def hear(scene: Scene, message: str, control: str = "") -> None:
    """A message is recorded now, by the clock of the scene."""
    text = parse_hl7(message.encode())
    receipt = Receipt(
        id=f"{control}{hash(message)}", sender="RIS", control_id="1", kind="ORM^O01", peer_address="", answer="AA"
    )
    with begin_immediate(scene.node.engine) as connection:
        record_messages(connection, [(receipt, order_message_of(text, Orders()))])
        for table, column in ((imaging_order, "updated_at"), (patient_change, "received_at")):
            latest = sa.select(sa.func.max(table.c[column])).scalar_subquery()
            connection.execute(sa.update(table).where(table.c[column] == latest).values({column: scene.at}))


def receive(scene: Scene, **attributes: str) -> str:
    identity = {"PatientID": "PAT1", "AccessionNumber": "A1", "IssuerOfPatientID": "HOSP"} | attributes
    return scene.receive(ct_series(n=4, size=16, study=scene.study), **identity)


def reopened_at(connection: sa.Connection) -> float:
    return float(connection.scalars(sa.select(event.c.at).where(event.c.kind == EventKind.REROUTED)).one())


def text_of(scene: Scene) -> str:
    return describe(explain(scene.node.engine, scene.study))


def test_an_order_that_came_before_the_images_routes_them_with_its_priority(scene: Scene):
    hear(scene, order())
    series = receive(scene)
    scene.wait(11)
    assert scene.decided()[series][0] == "routed"
    assert [(job.pipeline, job.priority) for job in scene.jobs()] == [("scripted", 1)]
    text = text_of(scene)
    assert "order CTCHEST 'CT of the chest': STAT, active" in text
    assert "SCHEDULED, stage infer, priority high" in text
    assert "yes order.procedure_code wanted CTCHEST, found CTCHEST" in text
    assert "yes order.reason wanted re:nodule, found (not shown)" in text
    assert "PAT1" not in text


@pytest.mark.thorough
@pytest.mark.parametrize("priority", ["low", "medium", None])
def test_a_rule_that_states_a_priority_keeps_it(tmp_path: Path, priority: str | None):
    stated = f'priority = "{priority}"\n' if priority else ""
    for scene in made(tmp_path, NODE + CHEST.replace("match", f"{stated}match")):
        hear(scene, order())
        receive(scene)
        scene.wait(11)
        assert [job.priority for job in scene.jobs()] == [{"low": 3, "medium": 2, None: 1}[priority]]


def test_an_order_that_comes_late_routes_what_was_ignored_for_lack_of_it(scene: Scene):
    series = receive(scene)
    scene.wait(11)
    assert scene.decided()[series][0] == "ignored"
    scene.at += 60
    hear(scene, order())
    scene.wait(5)
    scene.wait(11)
    assert scene.decided()[series][0] == "routed"
    assert [(job.generation, job.priority) for job in scene.jobs()] == [(2, 1)]
    text = text_of(scene)
    assert "order: STAT CTCHEST: 1 ignored series is decided on again" in text
    assert scene.differences() == ()
    first, second = (text.index(f"  Decision {number} of 2, ") for number in (1, 2))
    assert first < text.index("ignored: ") < second < text.index("routed: ")
    with snapshot(scene.node.engine) as connection:
        begun, (of,) = reopened_at(connection), stage_times(connection, [scene.study])
    assert of.last_image_at == begun, "the time until the order came is no part of the turnaround"
    assert stages(of)["waiting for completeness"] < 30


def test_a_late_order_changes_nothing_of_jobs_and_the_timeline_says_so(tmp_path: Path):
    for scene in made(tmp_path, NODE + ANY):
        series = receive(scene)
        scene.wait(11)
        scene.at += 60
        hear(scene, order())
        scene.wait(5)
        scene.wait(20)
        assert scene.decided()[series][0] == "routed"
        assert [(job.generation, job.priority) for job in scene.jobs()] == [(1, 2)]
        assert "STAT CTCHEST: came after the decision; jobs and their priority stay" in text_of(scene)


def test_what_still_waits_for_its_study_becomes_urgent_by_a_late_order(tmp_path: Path):
    prefers = ANY.replace("match", 'prefer = ["thinnest"]\nprefer_seconds = 600.0\nmatch')
    for scene in made(tmp_path, NODE + prefers):
        receive(scene)
        scene.wait(11)
        scene.at += 60
        hear(scene, order())
        scene.wait(5)
        with scene.node.engine.connect() as connection:
            assert connection.scalar(sa.select(candidate.c.urgent)) is True
        scene.wait(700)
        assert [job.priority for job in scene.jobs()] == [1]


@pytest.mark.parametrize(
    "identity",
    [{"PatientID": "PAT2"}, {"IssuerOfPatientID": "OTHER"}, {"AccessionNumber": "A2"}, {"PatientID": ""}],
)
def test_an_order_of_another_patient_or_number_does_not_count(scene: Scene, identity: dict[str, str]):
    hear(scene, order())
    series = receive(scene, **identity)
    scene.wait(11)
    assert scene.decided()[series][0] == "ignored"
    others = "1 order has a number of this study and another patient" in text_of(scene)
    assert others == ("AccessionNumber" not in identity)


@pytest.mark.parametrize(
    ("values", "attributes"),
    [
        ({"accession": "", "placer": "P7^RIS"}, {"PlacerOrderNumberImagingServiceRequest": "P7"}),
        ({"accession": "", "placer": "", "filler": "F7"}, {"FillerOrderNumberImagingServiceRequest": "F7"}),
    ],
)
def test_placer_and_filler_numbers_name_an_order(scene: Scene, values: dict[str, str], attributes: dict[str, str]):
    hear(scene, order(**values))
    series = receive(scene, AccessionNumber="", **attributes)
    scene.wait(11)
    assert scene.decided()[series][0] == "routed"


def test_the_study_instance_uid_names_an_order_and_a_canceled_one_counts_no_more(scene: Scene):
    hear(scene, order(accession="", study=scene.study))
    hear(scene, order(accession="", code="CA", study=scene.study))
    series = receive(scene, AccessionNumber="")
    scene.wait(11)
    assert scene.decided()[series][0] == "ignored"
    assert "order.procedure_code wanted CTCHEST, found (absent: the order is canceled)" in text_of(scene)
    scene.at += 60
    hear(scene, order(accession="", code="XO", study=scene.study))
    scene.wait(5)
    scene.wait(11)
    assert scene.decided()[series][0] == "routed"
    with snapshot(scene.node.engine) as connection:
        assert len(connection.execute(sa.select(order_message)).all()) == 3


def test_an_order_after_a_merge_is_of_the_images_before_it(scene: Scene):
    hear(scene, merge("m", "PAT9^^^HOSP^MR", PATIENT))
    hear(scene, order(patient="PAT9^^^HOSP^MR"))
    series = receive(scene)
    scene.wait(11)
    assert scene.decided()[series][0] == "routed"


def test_studies_of_a_merged_patient_are_shown_until_the_images_have_the_new_identity(scene: Scene):
    receive(scene)
    scene.wait(11)
    scene.at += 60
    hear(scene, merge("m", "PAT9^^^HOSP^MR", PATIENT))
    assert "PATIENT MERGED with another" in text_of(scene)
    with snapshot(scene.node.engine) as connection:
        (sentence,) = [
            text
            for name, text in ledger_alerts(scene.config, connection, scene.at).items()
            if name == "merged patients"
        ]
        assert "1 studies" in sentence
        assert [study.kind for study in changed_studies(connection)] == ["merge"]
    assert status(scene.node.engine, scene.config.storage.folder)["merged_patients"] == 1


def test_an_update_of_a_patient_is_shown_with_studies_of_before_it(scene: Scene):
    hear(scene, update("u", PATIENT))
    receive(scene)
    scene.wait(11)
    assert "PATIENT UPDATED" not in text_of(scene)
    scene.at += 60
    hear(scene, update("v", PATIENT))
    assert "PATIENT UPDATED at" in text_of(scene)


def test_replay_sees_the_orders(scene: Scene):
    hear(scene, order(procedure="CTABD^Abdomen^L"))
    receive(scene)
    scene.wait(11)
    new = parse((NODE + CHEST).replace("CTCHEST", "CTABD"))
    answer = replay(scene.node.engine, scene.node.spool, new, scene.at - 3600, lambda *_: None)
    assert [list(change.after) for change in answer.changes] == [["scripted"]]


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ('"order.prority" = "STAT"', r"nothing that orders have \(did you mean 'order.priority'"),
        ('"order.priority" = "URGENT"', "give one of 'STAT', 'HIGH'"),
    ],
)
def test_a_mistaken_condition_is_refused(condition: str, message: str):
    with pytest.raises(ConfigError, match=message):
        parse(NODE + ANY.replace('Modality = "CT"', condition))
