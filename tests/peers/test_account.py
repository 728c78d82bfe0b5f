"""The nothing-lost account: sums that hold, whatever happened, and differences that cannot hide."""

from __future__ import annotations

import json
import re
from datetime import date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest.mock import patch

import postgres
import pytest
import sqlalchemy as sa
from click.testing import CliRunner
from dicom_files import ct_series, mr_series
from drawn_examples import examples
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from ledger_walk import CONFIG, Step, Walk
from receivers import configuration, receiving
from scanner import RULE, send

from node.__main__ import main
from node.config import parse
from node.errors import LedgerError
from node.jobs.engine import Jobs
from node.ledger.engine import begin_immediate, ledger_url, now
from node.ledger.tables import (
    conflict,
    decision,
    delivery,
    delivery_instance,
    instance,
    job,
    result,
    series,
)
from node.operate.account import rows as account_rows
from node.operate.account.balance import Count, Sum
from node.operate.account.report import Account, account, account_of, bounds
from node.operate.account.rows import read
from node.reasons import ReasonCode, reason
from node.routing.router import Router
from node.translation import in_language

walks = st.lists(st.tuples(st.sampled_from(Walk.STEPS), st.integers(0, 59)), max_size=40)
FINISHED: list[Step] = [("receive", 0), ("receive", 48), ("complete", 0), *[("work", 0)] * 12]
"""A CT image, the same with other content, both pipelines with findings delivered to both destinations."""


def balanced(engine: sa.Engine, queue_minutes: float = 1e9) -> Account:
    """Of a ledger whose times are near the epoch: by default nothing has waited for too long."""
    return account(read(engine, queue_minutes=queue_minutes), CONFIG.is_recipient)


def count(engine: sa.Engine, table: sa.Table, *where: sa.ColumnElement[bool]) -> int:
    with engine.connect() as connection:
        return connection.scalar(sa.select(sa.func.count()).select_from(table).where(*where)) or 0


def change(engine: sa.Engine, statement: sa.Executable) -> None:
    with begin_immediate(engine) as connection:
        connection.execute(statement)


@settings(max_examples=examples(40), deadline=None)
@given(walks)
def test_whatever_happens_nothing_is_unaccounted_for_and_the_parts_add_up(steps: list[Step]) -> None:
    engine = Walk(steps).engine
    totals = balanced(engine)
    assert totals.differences == ()
    for of in (totals.received, totals.jobs, totals.deliveries):
        assert sum(part.entries for part in of.parts.values()) == of.total.entries
        assert sum(part.instances for part in of.parts.values()) == of.total.instances
        assert all(part.studies <= of.total.studies <= part.studies + of.total.entries for part in of.parts.values())
    assert totals.received.total.entries == count(engine, series)
    for of in vars(totals.balance).values():
        for unit in ("studies", "entries", "instances"):
            assert sum(getattr(part, unit) for part in of.parts.values()) == getattr(of.total, unit)
    total = totals.received.total
    assert totals.balance.received.total == total
    nothing = Count(studies=0, entries=0, instances=0)
    routed = totals.balance.analysed.total
    assert totals.balance.received.parts.get("routed", nothing) == routed
    in_work, ended = totals.balance.analysed.parts.get("in work", nothing), totals.balance.delivered.total
    for unit in ("studies", "entries", "instances"):
        assert getattr(in_work, unit) + getattr(ended, unit) == getattr(routed, unit)
    assert totals.received.total.instances == count(engine, instance)
    assert totals.jobs.total.entries == count(engine, job)
    assert totals.jobs.total.instances == count(engine, result, result.c.quarantine.is_(None))
    assert totals.deliveries.total.entries == count(engine, delivery)
    assert len(totals.quarantined) == count(engine, result, result.c.quarantine.is_not(None))
    assert len(totals.conflicts) == count(engine, conflict)


_AFTER_ENCODE = sa.select(job.c.id).where(job.c.state != "CANCELED", job.c.stage == "deliver")
_PROVEN = sa.exists().where(
    delivery.c.job_id == delivery_instance.c.job_id,
    delivery.c.destination == delivery_instance.c.destination,
    delivery.c.state.in_(("STORED", "CONFIRMED")),
)
_ANSWERED = sa.exists().where(delivery_instance.c.sop_instance_uid == result.c.sop_instance_uid)


@pytest.mark.parametrize(
    ("table", "where"),
    [
        (instance, sa.true()),
        (series, sa.true()),
        (decision, sa.true()),
        (job, sa.true()),
        (delivery, delivery.c.job_id.in_(_AFTER_ENCODE)),
        (delivery_instance, _PROVEN),
        (result, _ANSWERED),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
@settings(max_examples=examples(8), deadline=None)
@given(steps=walks, choice=st.integers(0, 99))
def test_no_row_can_go_unnoticed(table: sa.Table, where: Any, steps: list[Step], choice: int) -> None:
    engine = Walk([*FINISHED, *steps]).engine
    key = list(table.primary_key.columns)
    with engine.connect() as connection:
        rows = connection.execute(sa.select(*key).where(where).order_by(*key)).all()
    assume(rows)
    row = rows[choice % len(rows)]
    change(engine, sa.delete(table).where(*(column == value for column, value in zip(key, row, strict=True))))
    assert balanced(engine).differences


@pytest.mark.parametrize(
    ("tamper", "told"),
    [
        (sa.update(series).values(instances=3), "counts 3 images, but 1 have a row"),
        (sa.update(series).values(generation=2), "generation 2 was complete, but there is no decision on it"),
        (sa.update(job).values(outcome=None), "is encoded, but has no outcome"),
        (sa.delete(result), "is encoded, but has no result"),
        (sa.update(delivery).values(state="SCHEDULED"), "is COMPLETED, but its delivery to 'all' is SCHEDULED"),
        (sa.update(delivery_instance).values(status=0xA700), "0 of 2 objects are stored"),
        (sa.update(delivery_instance).values(committed_at=None), "is CONFIRMED, but 0 of 2 objects are committed"),
        (sa.delete(delivery), "'all' takes the outcome 'findings', but has no delivery of it"),
        (sa.delete(job), "was routed to 'two', but there is no job"),
        (sa.delete(series), "1 images of series 1.0.0, study 1.0: there is no row of these"),
    ],
)
def test_a_difference_says_what_is_wrong(tamper: sa.Executable, told: str) -> None:
    engine = Walk(FINISHED).engine
    assert balanced(engine).differences == ()
    change(engine, tamper)
    assert told in "\n".join(balanced(engine).differences)


def test_a_difference_is_told_in_the_language_of_its_reader() -> None:
    engine = Walk(FINISHED).engine
    change(engine, sa.update(series).values(instances=3))
    with in_language("de"):
        told = "\n".join(balanced(engine).differences)
    assert "zählt 3 Bilder, aber 1 haben einen Eintrag" in told


@pytest.mark.parametrize(
    ("doubts", "explained"),
    [(None, False), ([{"about": "a gap", "until": 60.0}], False), ([{"about": "a sender", "until": None}], True)],
)
def test_a_series_that_waits_for_nothing_and_has_no_decision_is_a_difference(doubts: Any, *, explained: bool) -> None:
    engine = Walk([("receive", 0)]).engine
    change(engine, sa.update(series).values(doubts=doubts))
    told = "\n".join(balanced(engine, queue_minutes=60.0).differences)
    assert ("no decision was made; the log of the router says why" in told) is not explained
    assert balanced(engine).differences == ()


def test_both_databases_give_the_same_account(postgres_server: str, tmp_path: Path) -> None:
    engine = Walk(FINISHED, ledger_url(postgres.new_database(postgres_server, tmp_path.name), tmp_path)).engine
    assert balanced(engine) == balanced(Walk(FINISHED).engine)
    engine.dispose()


def test_conflicts_and_quarantined_results_are_named_and_are_no_difference() -> None:
    totals = balanced(Walk(FINISHED).engine)
    assert [entry.path for entry in totals.conflicts] == ["conflicts/9.0"]
    assert {(entry.study_instance_uid, entry.reason) for entry in totals.quarantined} == {("1.0", "no valid DICOM")}
    assert totals.jobs == Sum(
        total=Count(studies=1, entries=2, instances=4), parts={"findings": Count(studies=1, entries=2, instances=4)}
    )
    assert {part: of.entries for part, of in totals.deliveries.parts.items()} == {"confirmed": 1, "stored": 2}
    assert totals.differences == ()


@settings(max_examples=examples(15), deadline=None)
@given(walks, st.floats(0, 60))
def test_every_series_belongs_to_one_day(steps: list[Step], midnight: float) -> None:
    rows = read(Walk(steps).engine)
    days = [account_of(rows.portions(day), CONFIG.is_recipient) for day in ((-1.0, midnight), (midnight, 61.0))]
    whole = account(rows, CONFIG.is_recipient)
    for name in ("received", "jobs", "deliveries"):
        totals = [getattr(day, name).total for day in days]
        assert sum(total.entries for total in totals) == getattr(whole, name).total.entries
        assert sum(total.instances for total in totals) == getattr(whole, name).total.instances


def test_days_follow_one_another_without_a_gap_whatever_the_clocks_do() -> None:
    first = date(2026, 3, 1)
    days = [bounds(first + timedelta(days=number)) for number in range(366)]
    assert all(end == start for (_, end), (start, _) in pairwise(days))


def test_account_of_a_node_names_what_is_routed_ignored_and_still_received(tmp_path: Path) -> None:
    with receiving(tmp_path / "node") as node:
        file = tmp_path / "config.toml"
        text = configuration(tmp_path / "node", node.port) + RULE
        file.write_text(text)
        send(node, ct_series(3, 16))
        send(node, mr_series(2, 16))
        assert len(node.rows(series)) == 2
        router = Router(parse(text), node.engine, node.spool, Jobs(node.engine))
        assert router.step(now() + 3600.0) == 2
        send(node, ct_series(4, 16))
        told = CliRunner().invoke(main, ["account", "--json", "--config", str(file)])
        assert told.exit_code == 0, told.output
        parts = {name: part["instances"] for name, part in json.loads(told.stdout)["received"]["parts"].items()}
        assert parts == {"routed": 3, "ignored: no rule matches": 2, "receiving": 4}
        words = CliRunner().invoke(
            main, ["account", "--config", str(file), "--day", f"{datetime.now().astimezone():%Y-%m-%d}"]
        )
        assert "Everything is accounted for." in words.output
        assert "images   9 received = 3 routed + 4 receiving + 2 ignored\n" in words.output
        other = CliRunner().invoke(main, ["account", "--json", "--config", str(file), "--day", "2020-02-29"])
        assert json.loads(other.stdout)["received"]["total"] == {"studies": 0, "entries": 0, "instances": 0}
        change(node.engine, sa.delete(decision))
        alarm = CliRunner().invoke(main, ["account", "--config", str(file)])
        assert alarm.exit_code == LedgerError.exit_code
        assert alarm.output.count("DIFFERENCE: ") == 2
        assert "2 differences; `ainode explain STUDY_UID`" in alarm.stderr


@settings(max_examples=examples(25), deadline=None)
@given(steps=walks, size=st.integers(1, 3), midnight=st.floats(0, 60), data=st.data())
def test_the_account_is_the_same_however_many_rows_it_reads_at_once(
    steps: list[Step], size: int, midnight: float, data: st.DataObject
) -> None:
    engine = Walk([*FINISHED, *steps]).engine
    for table in data.draw(st.lists(st.sampled_from([series, job, result, delivery, decision]), max_size=2)):
        key = list(table.primary_key.columns)
        with engine.connect() as connection:
            rows = connection.execute(sa.select(*key).order_by(*key)).all()
        row = data.draw(st.sampled_from(rows)) if rows else ()
        change(engine, sa.delete(table).where(*(column == value for column, value in zip(key, row, strict=bool(row)))))
    for period in (None, (-1.0, midnight), (midnight, 61.0)):
        at_once = account_of(read(engine, queue_minutes=1e9).portions(period), CONFIG.is_recipient)
        with patch.object(account_rows, "ROWS_AT_ONCE", size):
            in_parts = account_of(read(engine, queue_minutes=1e9).portions(period), CONFIG.is_recipient)
        assert sorted(in_parts.differences) == sorted(at_once.differences)
        assert in_parts.balance == at_once.balance
        for name in ("sent", "received", "jobs", "deliveries"):
            assert getattr(in_parts, name) == getattr(at_once, name)


def add_image(engine: sa.Engine, study: str, of: str, *, at: float | None = None) -> None:
    """An image; ``at``: with a series that is complete since then and ignored."""
    key = {"study_instance_uid": study, "series_instance_uid": of}
    image = dict.fromkeys(("sop_class_uid", "transfer_syntax_uid", "modality", "digest"), "")
    row = {**key, **image, "sop_instance_uid": f"{study}/{of}", "path": f"{study}/{of}", "size": 1, "received_at": 1.0}
    with begin_immediate(engine) as connection:
        connection.execute(sa.insert(instance), row)
        if at is not None:
            times = {"first_at": at, "last_at": at, "state": "COMPLETE", "generation": 1, "instances": 1}
            connection.execute(sa.insert(series), {**key, **times, "modality": "CT"})
            ruling = {"outcome": "ignored", "reason": reason(ReasonCode.NO_RULE), "trace": [], "decided_at": at}
            connection.execute(sa.insert(decision), {**key, **ruling, "generation": 1})


@postgres.BOTH
@pytest.mark.parametrize("size", [1, 2, 1000])
def test_rows_of_nothing_are_differences_whatever_their_keys_are(engine: sa.Engine, size: int) -> None:
    for study in ("1.2", "1.4", "1.6"):
        add_image(engine, study, "1", at=1.0)
    alone = [("", ""), ("1.1", "1"), ("1.3", "1"), ("1.4", "2"), ("1.60", "1"), ("9", "1")]
    for study, of in alone:
        add_image(engine, study, of)
    jobs = ("", "0", "job", "~")
    answers = [{"job_id": job_id, "destination": "pacs", "sop_instance_uid": "1", "status": 0} for job_id in jobs]
    change(engine, sa.insert(delivery_instance).values(answers))
    with patch.object(account_rows, "ROWS_AT_ONCE", size):
        differences = balanced(engine).differences
    assert list(differences) == [
        *(f"1 images of series {of}, study {study}: there is no row of these" for study, of in alone),
        *(f"1 answers of pacs to results of job {job_id}: there is no row of these" for job_id in jobs),
    ]


def test_the_account_of_a_day_has_the_rows_of_nothing_of_its_studies_alone(engine: sa.Engine) -> None:
    add_image(engine, "1.2", "1", at=1.0)
    add_image(engine, "1.4", "1", at=100.0)
    add_image(engine, "1.4", "2")
    add_image(engine, "1.6", "1")
    of_study, other = (
        f"1 images of series {of}, study {study}: there is no row of these"
        for study, of in (("1.4", "2"), ("1.6", "1"))
    )
    days = [
        account_of(read(engine, queue_minutes=1e9).portions(period), CONFIG.is_recipient).differences
        for period in ((0.0, 50.0), (50.0, 150.0))
    ]
    assert days == [(), (of_study,)]
    assert balanced(engine).differences == (of_study, other)


_LARGE = re.compile(r"SCAN (instance|series|decision|job|delivery|delivery_instance|result|original|event)\b")
_BOUNDED = re.compile(r"LIMIT|FROM \"?conflict")
"""Statements that read the first rows of an order, or begin with the conflicts."""


@pytest.mark.parametrize("period", [None, (1.5, 2.5)], ids=["everything", "a day"])
def test_no_statement_of_the_account_reads_a_large_table_as_a_whole(period: tuple[float, float] | None) -> None:
    engine = Walk(FINISHED).engine
    for number in range(3):
        add_image(engine, f"1.{number}", "1", at=float(number))
    executed: list[tuple[str, Any]] = []
    sa.event.listen(
        engine, "before_cursor_execute", lambda _connection, _cursor, text, values, *_: executed.append((text, values))
    )
    with patch.object(account_rows, "ROWS_AT_ONCE", 1):
        account_of(read(engine, with_records=True).portions(period), CONFIG.is_recipient)
    with engine.connect() as connection:
        plans = [
            (step.detail, text)
            for text, values in executed[:]
            if text.startswith("SELECT") and not _BOUNDED.search(text)
            for step in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}", values)
        ]
    assert plans
    assert [plan for plan in plans if _LARGE.match(plan[0])] == []
