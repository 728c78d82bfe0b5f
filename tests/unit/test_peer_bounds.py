"""What one device may make the ledger hold, however many requests it sends."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from dicom_files import ct_series
from ledgers import open_copy
from pydicom import Dataset
from receivers import Node
from scanner import begin, say

from node.ledger import peer_bounds
from node.ledger.associations import purge_associations
from node.ledger.commitments import Named, record_transaction
from node.ledger.engine import begin_immediate
from node.ledger.procedure_steps import NewStep, create_step, update_step
from node.ledger.refusals import MOST_REJECTIONS, record_rejection
from node.ledger.tables import association, commitment, commitment_instance, instance, procedure_step, rejection
from node.ledger.tables import procedure_step_instance as named_by_step

SCANNER, OTHER = "192.0.2.1", "192.0.2.2"


@pytest.fixture
def connection(tmp_path, monkeypatch: pytest.MonkeyPatch) -> Iterator[sa.Connection]:
    monkeypatch.setattr(peer_bounds, "MOST_REQUESTS", 8)
    monkeypatch.setattr(peer_bounds, "MOST_NAMED", 100)
    monkeypatch.setattr(peer_bounds, "MOST_NAMED_OF_ONE", 30)
    engine = open_copy(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    with begin_immediate(engine) as connection:
        yield connection
    engine.dispose()


def step(number: int, named: int = 0, equipment: str = SCANNER) -> NewStep:
    return NewStep(
        sop_instance_uid=f"1.2.{number}",
        study_instance_uid=f"1.3.{number}",
        modality="CT",
        calling_ae="CT1",
        equipment=equipment,
        made=frozenset(("1.4", f"1.5.{index}") for index in range(named)),
    )


def count(connection: sa.Connection, table: sa.Table, *where: sa.ColumnElement[bool]) -> int:
    return connection.scalar(sa.select(sa.func.count()).select_from(table).where(*where)) or 0


def test_many_updates_of_a_step_name_no_more_than_one_may(connection: sa.Connection):
    assert create_step(connection, step(0)) == "created"
    taken = 0
    for number in range(20):
        made = {("1.4", f"1.5.{number}.{index}") for index in range(5)}
        taken += update_step(connection, "1.2.0", "IN PROGRESS", made)
    assert taken == 6
    assert count(connection, named_by_step) == 30
    assert update_step(connection, "1.2.0", "IN PROGRESS", {("1.4", "1.5.0.0")}), "what it has named already"
    assert not update_step(connection, "1.2.0", "COMPLETED", {("1.4", "1.6")})
    assert connection.scalar(sa.select(procedure_step.c.state)) == "IN PROGRESS", "nothing of a refused update counts"
    assert update_step(connection, "1.2.0", "COMPLETED", {})


def test_a_step_of_too_many_images_is_refused_whole(connection: sa.Connection):
    assert create_step(connection, step(0, named=31)) == "too many"
    assert count(connection, procedure_step) == count(connection, named_by_step) == 0


def test_ever_new_steps_of_a_device_are_refused_and_those_of_others_are_not(connection: sa.Connection):
    answers = [create_step(connection, step(number)) for number in range(20)]
    assert answers == ["created"] * 8 + ["too many"] * 12
    assert create_step(connection, step(100, equipment=OTHER)) == "created"
    assert create_step(connection, step(0)) == "exists"


def test_steps_that_have_ended_make_room_the_oldest_first(connection: sa.Connection):
    for number in range(30):
        assert create_step(connection, step(number, named=3)) == "created"
        assert update_step(connection, f"1.2.{number}", "COMPLETED", {})
    uids = set(connection.scalars(sa.select(procedure_step.c.sop_instance_uid)))
    assert uids == {f"1.2.{number}" for number in range(22, 30)}
    assert count(connection, named_by_step) == 24, "what a removed step named is removed with it"


def test_many_large_steps_are_bounded_by_what_they_name_together(connection: sa.Connection):
    answers = [create_step(connection, step(number, named=30)) for number in range(5)]
    assert answers == ["created"] * 3 + ["too many"] * 2


def request(connection: sa.Connection, number: int, named: int = 1, title: str = "CT1", device: str = SCANNER) -> bool:
    return record_transaction(
        connection,
        calling_ae=title,
        transaction_uid=f"1.7.{number}",
        association_id="a",
        equipment=device,
        named=[Named(sop_instance_uid=f"1.8.{index}", sop_class_uid="1.9", failure=None) for index in range(named)],
        next_at=0.0,
    )


def test_ever_new_commitment_requests_under_ever_new_titles_are_refused(connection: sa.Connection):
    assert [request(connection, number, title=f"T{number}") for number in range(10)] == [True] * 8 + [False] * 2
    assert request(connection, 0, title="T0"), "the same request again is answered again"
    assert request(connection, 0, device=OTHER)
    assert count(connection, commitment) == 9


def test_commitment_requests_that_have_ended_make_room(connection: sa.Connection):
    for number in range(30):
        assert request(connection, number, named=20)
        connection.execute(sa.update(commitment).values(state="COMPLETED"))
    assert count(connection, commitment) == 5
    assert count(connection, commitment_instance) == 100


def test_rejections_of_ever_new_titles_of_an_address_are_so_many(connection: sa.Connection):
    record_rejection(connection, "CT1", OTHER, "unknown", 0.0)
    for number in range(MOST_REJECTIONS + 20):
        record_rejection(connection, f"T{number}", SCANNER, "unknown", float(number))
    assert count(connection, rejection, rejection.c.peer_address == SCANNER) == MOST_REJECTIONS
    assert count(connection, rejection, rejection.c.peer_address == OTHER) == 1
    newest = connection.scalar(sa.select(sa.func.max(rejection.c.at)))
    assert newest == MOST_REJECTIONS + 19.0


def test_associations_go_with_the_images_that_they_brought(connection: sa.Connection):
    for name, closed in (("old", 10.0), ("new", 1000.0), ("open", None), ("kept", 10.0), ("again", 10.0)):
        connection.execute(
            sa.insert(association).values(
                id=name, receiver="r", calling_ae="CT1", called_ae="NODE", peer_address=SCANNER, opened_at=0.0,
                closed_at=closed,
            )
        )  # fmt: skip
    connection.execute(
        sa.insert(instance).values(
            sop_instance_uid="1", sop_class_uid="1", transfer_syntax_uid="1", study_instance_uid="1",
            series_instance_uid="1", modality="CT", path="p", digest="d", size=1, association_id="kept",
            received_at=0.0, repeated_by="again",
        )
    )  # fmt: skip
    purge_associations(connection, 500.0)
    assert set(connection.scalars(sa.select(association.c.id))) == {"new", "open", "kept", "again"}


def test_a_peer_is_told_when_its_step_names_too_much(node: Node, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(peer_bounds, "MOST_NAMED_OF_ONE", 3)
    monkeypatch.setattr(peer_bounds, "MOST_REQUESTS", 2)
    images: list[Dataset] = ct_series(5, 16)
    _, uid = begin(node, images[0].StudyInstanceUID)
    assert say(node, uid, "IN PROGRESS", images[:2]).Status == 0x0000
    refused = say(node, uid, "IN PROGRESS", images)
    assert refused.Status == 0x0213
    assert "too many" in refused.ErrorComment
    assert begin(node, images[0].StudyInstanceUID)[0].Status == 0x0000
    assert begin(node, images[0].StudyInstanceUID)[0].Status == 0x0213
    assert say(node, uid, "COMPLETED", images[:2]).Status == 0x0000
    assert begin(node, images[0].StudyInstanceUID)[0].Status == 0x0000, "an ended step made room"
