"""No row of an acknowledged image is dropped, whatever the ledger says; one that it refuses holds up no other."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import postgres
import pytest
import sqlalchemy as sa
from receivers import SOON_SECONDS, until
from row_writing import Rows

from node.errors import LedgerError
from node.ledger.association_endings import Ending
from node.ledger.engine import begin_immediate
from node.ledger.instances import Receipt
from node.ledger.states import AssociationEnding
from node.ledger.tables import association, event, instance, series
from node.receive import row_writer
from node.receive.recovery import recover
from node.receive.row_writer import RowWriter
from node.spool import Spool
from node.web.probes import ledger_fault

_NUMBERS = itertools.count()


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'ledger.sqlite'}"
    server = request.getfixturevalue("postgres_server")
    return postgres.new_database(server, f"committer{next(_NUMBERS)}")


@pytest.fixture
def rows(url: str, tmp_path: Path) -> Iterator[Rows]:
    made = Rows(url, tmp_path)
    yield made
    made.row_writer.stop()
    made.engine.dispose()


@contextmanager
def refusing(engine: sa.Engine, condition: str) -> Iterator[None]:
    """While inside, the ledger refuses rows of ``instance`` for which the SQL ``condition`` on NEW holds."""
    guard = f"guard{next(_NUMBERS)}"  # another connection may not have seen yet that the last one was dropped
    create = f"CREATE TRIGGER {guard} BEFORE INSERT ON instance"
    if engine.dialect.name == "sqlite":
        begin = [f"{create} WHEN {condition} BEGIN SELECT RAISE(ABORT, 'guarded'); END"]
        end = [f"DROP TRIGGER {guard}"]
    else:
        begin = [
            f"CREATE FUNCTION {guard}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'guarded'; END $$",
            f"{create} FOR EACH ROW WHEN ({condition}) EXECUTE FUNCTION {guard}()",
        ]
        end = [f"DROP TRIGGER {guard} ON instance", f"DROP FUNCTION {guard}"]
    _execute(engine, begin)
    try:
        yield
    finally:
        _execute(engine, end)


def _execute(engine: sa.Engine, statements: list[str]) -> None:
    with begin_immediate(engine) as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


def test_rows_that_a_guard_refuses_wait_and_receiving_stops_until_it_is_gone(
    rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_writer, "STALLED_SECONDS", 1.0)
    with refusing(rows.engine, "TRUE" if rows.engine.dialect.name == "postgresql" else "1"):
        receipts = rows.follow(8)
        rows.row_writer.close("a 1.2.3", Ending(AssociationEnding.RELEASED))
        assert rows.row_writer.has_room(), "a moment's trouble stops nobody"
        until(lambda: not rows.row_writer.has_room())
        assert rows.written() == set()
        assert rows.spool.drafts.without_row(0.0) == 8
        assert ledger_fault(rows.engine) == "the ledger takes no rows; images are refused"
    assert ledger_fault(rows.engine) == ""
    until(lambda: rows.written() == {receipt.sop_instance_uid for receipt in receipts})
    until(rows.row_writer.has_room)
    until(lambda: rows.closed() == {"a 1.2.3"})
    assert rows.spool.drafts.without_row(0.0) == 0


def test_rows_wait_while_postgresql_is_read_only(
    postgres_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_writer, "STALLED_SECONDS", 1.0)
    url = postgres.new_database(postgres_server, "readonly")
    rows = Rows(url, tmp_path)

    def read_only(value: str) -> None:
        """As a guard of the disk does, or a server that was demoted: for every connection, also those that are open."""
        server = sa.create_engine(postgres_server, isolation_level="AUTOCOMMIT")
        with server.connect() as connection:
            connection.exec_driver_sql(f"ALTER DATABASE readonly SET default_transaction_read_only = {value}")
            connection.exec_driver_sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'readonly'"
            )
        server.dispose()

    first = rows.follow(4)
    until(lambda: len(rows.written()) == 4)
    read_only("on")
    second = rows.follow(4, "1.2.4")
    until(lambda: not rows.row_writer.has_room())
    with pytest.raises(LedgerError):
        rows.row_writer.record(first[0])
    assert rows.spool.drafts.without_row(0.0) == 4
    assert ledger_fault(rows.engine) == "the ledger takes no rows; images are refused"
    read_only("off")
    until(lambda: rows.written() == {receipt.sop_instance_uid for receipt in (*first, *second)})
    until(rows.row_writer.has_room)
    rows.row_writer.stop()
    rows.engine.dispose()


def test_one_row_that_the_ledger_refuses_holds_up_no_other_and_is_tried_again(
    rows: Rows, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_writer, "STALLED_SECONDS", 0.0)
    bad = "1.2.666"
    with refusing(rows.engine, f"NEW.series_instance_uid = '{bad}'"):
        rows.follow(1, bad)
        receipts = rows.follow(40)
        rows.row_writer.close("a 1.2.3", Ending(AssociationEnding.RELEASED))
        rows.row_writer.close(f"a {bad}", Ending(AssociationEnding.RELEASED))
        wanted = {receipt.sop_instance_uid for receipt in receipts}
        until(lambda: rows.written() == wanted)
        until(lambda: rows.closed() == {"a 1.2.3"})  # the series with a missing row is not complete
        assert rows.row_writer.has_room()
        assert rows.spool.drafts.without_row(0.0) == 1
        assert "the ledger rejects its row" in caplog.text
        rows.row_writer.record(receipts[0])
        more = rows.follow(3, "1.2.9")
        until(lambda: rows.written() == wanted | {receipt.sop_instance_uid for receipt in more})
    until(lambda: len(rows.written()) == 44)
    until(lambda: f"a {bad}" in rows.closed())
    assert rows.spool.drafts.without_row(0.0) == 0


def test_a_refused_row_is_found_at_the_next_start_and_stops_no_other(url: str, tmp_path: Path) -> None:
    rows = Rows(url, tmp_path)
    bad = "1.2.666"
    with refusing(rows.engine, f"NEW.series_instance_uid = '{bad}'"):
        rows.follow(1, bad)
        good = {receipt.sop_instance_uid for receipt in rows.follow(3)}
        until(lambda: rows.written() == good)
        rows.row_writer.stop()
        assert rows.spool.drafts.without_row(0.0) == 1
        folder = rows.spool.folder
        del rows.spool  # as if its process had ended
        spool = Spool(folder)
        assert recover(rows.engine, spool, frozenset).files == 0
        assert spool.drafts.without_row(0.0) == 1
    assert recover(rows.engine, spool, frozenset).files == 1
    assert len(rows.written()) == 4
    assert spool.drafts.without_row(0.0) == 0
    rows.engine.dispose()


def test_recovery_records_what_it_can_beside_a_row_that_the_ledger_refuses(url: str, tmp_path: Path) -> None:
    rows = Rows(url, tmp_path)
    with refusing(rows.engine, "NEW.sop_class_uid <> '0'"):
        images = rows.follow(5)
        until(lambda: rows.spool.drafts.without_row(0.0) == 5)
        rows.row_writer.stop()
    folder = rows.spool.folder
    del rows.spool
    spool = Spool(folder)
    with refusing(rows.engine, f"NEW.sop_instance_uid = '{images[2].sop_instance_uid}'"):
        assert recover(rows.engine, spool, frozenset).files == 4
    assert recover(rows.engine, spool, frozenset).files == 1
    assert rows.written() == {receipt.sop_instance_uid for receipt in images}
    rows.engine.dispose()


def test_what_the_ledger_is_tried_with_leaves_no_trace(rows: Rows) -> None:
    with refusing(rows.engine, "NEW.sop_instance_uid = '1.2.5.1'"):
        receipt = replace(rows.follow(1)[0], sop_instance_uid="1.2.5.1")
        with pytest.raises(LedgerError, match="not written"):
            rows.row_writer.record(receipt)
        until(lambda: len(rows.written()) == 1)
    with rows.engine.connect() as connection:
        for table in (instance, series, association, event):
            written = connection.execute(sa.select(table)).all()
            assert written, table.name
            for row in written:
                assert "0" not in {row[0], getattr(row, "study_instance_uid", "")}
                assert "trial" not in tuple(row)


def test_a_stop_gives_up_a_ledger_that_takes_nothing(rows: Rows) -> None:
    with refusing(rows.engine, "NEW.sop_class_uid <> ''"):
        rows.follow(4)
        begun = time.monotonic()
        rows.row_writer.stop()
        assert time.monotonic() - begun < SOON_SECONDS
    assert rows.spool.drafts.without_row(0.0) == 4
    rows.row_writer = RowWriter(rows.engine, rows.spool)
    rows.row_writer.start()


def test_many_threads_lose_nothing_while_the_ledger_comes_and_goes(rows: Rows) -> None:
    done: list[Receipt] = []

    def send(name: str) -> None:
        for _ in range(5):
            done.extend(rows.follow(4, name))
            time.sleep(0.05)

    senders = [threading.Thread(target=send, args=(f"1.2.{number}",)) for number in range(4)]
    for sender in senders:
        sender.start()
    for _ in range(4):
        with refusing(rows.engine, "NEW.sop_class_uid <> ''"):
            time.sleep(0.2)
        time.sleep(0.1)
    for sender in senders:
        sender.join()
    until(lambda: rows.written() == {receipt.sop_instance_uid for receipt in done}, seconds=60.0)
