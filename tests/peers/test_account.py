"""The nothing-lost account: sums that hold, whatever happened, and differences that cannot hide."""

from __future__ import annotations

import json
from datetime import date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

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
from node.operate.account.balance import Count, Sum
from node.operate.account.report import Account, account, account_of, bounds
from node.operate.account.rows import read
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
