"""Rows of received instances: idempotent, never overwritten, a late image opens its series again."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import postgres
import pytest
import sqlalchemy as sa
from receipts import SENDER, receipt
from timeline import timeline

from node.ledger.association_endings import Ending
from node.ledger.associations import close_associations, close_associations_of, open_receivers
from node.ledger.engine import begin_immediate, ledger_url, open_ledger
from node.ledger.file_digests import known_paths
from node.ledger.instances import Receipt, record_instances
from node.ledger.states import AssociationEnding
from node.ledger.tables import association, conflict, event, instance, series


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with postgres.cluster() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[sa.Engine]:
    url = ledger_url("", tmp_path) if request.param == "sqlite" else request.getfixturevalue("server")
    engine = open_ledger(url)
    yield engine
    postgres.drop_tables(engine)
    engine.dispose()


def record(ledger: sa.Engine, *receipts: Receipt) -> None:
    with begin_immediate(ledger) as connection:
        record_instances(connection, receipts)


def rows(ledger: sa.Engine, table: sa.Table) -> list[Any]:
    with ledger.connect() as connection:
        return list(connection.execute(sa.select(table)).all())


def test_instances_count_into_their_series_with_first_and_last_time(ledger: sa.Engine) -> None:
    record(ledger, receipt("1", at=10.0), receipt("2", at=11.0))
    record(ledger, receipt("3", at=12.0), receipt("4", at=9.0, series_instance_uid="1.1.2", modality="SR"))
    first, second = rows(ledger, series)
    assert (first.instances, first.first_at, first.last_at, first.state) == (3, 10.0, 12.0, "RECEIVING")
    assert (second.instances, second.modality) == (1, "SR")
    assert [r.association_id for r in rows(ledger, instance)] == ["a1"] * 4
    assert [e.what for e in timeline(ledger)] == ["receiving", "receiving"]


def test_the_same_instance_again_changes_nothing_at_all(ledger: sa.Engine) -> None:
    record(ledger, receipt("1"), receipt("1"))
    before = [rows(ledger, table) for table in (instance, series, event, conflict)]
    record(ledger, receipt("1", at=99.0))
    assert [rows(ledger, table) for table in (instance, series, event, conflict)] == before
    assert rows(ledger, series)[0].instances == 1


def test_rows_in_any_number_take_few_different_statements_which_drivers_keep(ledger: sa.Engine) -> None:
    inserts = set()

    def told(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("INSERT INTO instance"):
            inserts.add(statement)

    sa.event.listen(ledger, "before_cursor_execute", told)
    for count in range(1, 100):
        record(ledger, *(receipt(f"1.{count}.{number}") for number in range(count)))
    with ledger.connect() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(instance)) == sum(range(100))
    assert len(inserts) < 20


def test_a_late_image_opens_a_complete_series_again_and_a_repeated_one_does_not(ledger: sa.Engine) -> None:
    record(ledger, receipt("1"))
    with begin_immediate(ledger) as connection:
        connection.execute(series.update().values(state="COMPLETE", generation=1))
    record(ledger, receipt("1", at=20.0))
    assert rows(ledger, series)[0].state == "COMPLETE"
    record(ledger, receipt("2", at=30.0))
    (row,) = rows(ledger, series)
    assert (row.state, row.generation, row.instances, row.last_at) == ("RECEIVING", 1, 2, 30.0)
    assert timeline(ledger)[-1].what == "late image"


@pytest.mark.parametrize(
    ("before", "told"), [("blake3:" + "0" * 64, ["receiving", "received again"]), ("0" * 64, ["receiving"])]
)
def test_a_row_follows_its_file_and_only_another_file_is_told(ledger: sa.Engine, before: str, told: list[str]) -> None:
    record(ledger, receipt("1", digest=before))
    record(ledger, receipt("1", digest="blake3:" + "f" * 64))  # before: SHA-256 of the same file, or another file
    assert [row.digest for row in rows(ledger, instance)] == ["blake3:" + "f" * 64]
    assert [row.what for row in timeline(ledger)] == told


def test_other_bytes_become_a_conflict_with_an_event_and_the_first_row_stays(ledger: sa.Engine) -> None:
    record(ledger, receipt("1"))
    other = receipt("1", at=20.0, conflict=True, path="conflicts/1.1/1.1.1/1.f.dcm", digest="f" * 64)
    record(ledger, other)
    record(ledger, other)
    assert [r.digest for r in rows(ledger, instance)] == ["0" * 64]
    (row,) = rows(ledger, conflict)
    assert (row.path, row.digest, row.association_id) == ("conflicts/1.1/1.1.1/1.f.dcm", "f" * 64, "a1")
    assert [e.what for e in timeline(ledger)] == ["receiving", "conflict"]
    assert rows(ledger, series)[0].instances == 1


def test_the_same_uid_in_another_series_is_a_conflict_also_within_one_batch(ledger: sa.Engine) -> None:
    moved = receipt("1", series_instance_uid="1.1.2", path="incoming/1.1/1.1.2/1.dcm")
    record(ledger, receipt("1"), moved)
    record(ledger, moved)
    assert [r.series_instance_uid for r in rows(ledger, instance)] == ["1.1.1"]
    assert [r.path for r in rows(ledger, conflict)] == ["incoming/1.1/1.1.2/1.dcm"]
    assert [r.series_instance_uid for r in rows(ledger, series)] == ["1.1.1"]


def test_every_file_with_a_row_is_known_conflicts_too(ledger: sa.Engine) -> None:
    record(ledger, receipt("1"), receipt("1", conflict=True, path="conflicts/x"), receipt("2", study_instance_uid="9"))
    with ledger.connect() as connection:
        assert known_paths(connection, "1.1") == {"incoming/1.1/1.1.1/1.dcm", "conflicts/x"}


def test_a_modality_that_came_late_is_filled_in(ledger: sa.Engine) -> None:
    record(ledger, receipt("1", modality=""))
    record(ledger, receipt("2", modality="MR"))
    assert rows(ledger, series)[0].modality == "MR"


def test_an_association_opens_with_its_first_instance_and_closes_once(ledger: sa.Engine) -> None:
    record(ledger, receipt("1"), receipt("2"))
    (row,) = rows(ledger, association)
    assert (row.calling_ae, row.closed_at) == ("CT1", None)
    with begin_immediate(ledger) as connection:
        close_associations(connection, {"a1", "never sent anything"}, 50.0, Ending(AssociationEnding.RELEASED))
    assert rows(ledger, association)[0].closed_at == 50.0


def test_only_what_dead_receivers_left_open_is_closed(ledger: sa.Engine) -> None:
    elsewhere = replace(SENDER, id="a2", receiver="other:1")
    closed = replace(SENDER, id="a3")
    record(ledger, receipt("1"), receipt("2", association=elsewhere), receipt("3", association=closed))
    with begin_immediate(ledger) as connection:
        close_associations(connection, ["a3"], 50.0, Ending(AssociationEnding.RELEASED))
        assert open_receivers(connection) == {"host:1", "other:1"}
        assert close_associations_of(connection, ["host:1"], 60.0) == 1
    assert {r.id: r.closed_at for r in rows(ledger, association)} == {"a1": 60.0, "a2": None, "a3": 50.0}


def test_files_found_in_the_spool_have_no_association(ledger: sa.Engine) -> None:
    record(ledger, receipt("1", association=None))
    assert rows(ledger, instance)[0].association_id is None
    assert rows(ledger, association) == []
    assert timeline(ledger)[0].detail == "first image found in the spool"


def test_writers_of_one_series_at_the_same_time_lose_no_count(ledger: sa.Engine) -> None:
    barrier = threading.Barrier(4)

    def write(writer: int) -> None:
        barrier.wait()
        for number in range(10):
            record(ledger, receipt(f"{writer}.{number}"), receipt(f"7.{number}"))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(1, 5)))
    assert rows(ledger, series)[0].instances == 50 == len(rows(ledger, instance))
    assert [e.what for e in timeline(ledger)] == ["receiving"]


def _open(url: str) -> str:
    open_ledger(url).dispose()
    return "opened"


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_processes_that_start_together_may_all_create_the_ledger(
    request: pytest.FixtureRequest, tmp_path: Path, database: str
) -> None:
    url = ledger_url("", tmp_path) if database == "sqlite" else request.getfixturevalue("server")
    with ProcessPoolExecutor(4, mp_context=multiprocessing.get_context("spawn")) as pool:
        assert list(pool.map(_open, [url] * 4)) == ["opened"] * 4
