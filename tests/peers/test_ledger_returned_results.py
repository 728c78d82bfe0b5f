"""What came back from a service outside, and of which series nothing did."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import postgres
import pytest
import sqlalchemy as sa

from node.config import FORWARD, parse
from node.ledger.engine import begin_immediate
from node.ledger.events import EventKind
from node.ledger.returned_results import came_before_reading, returned_paths, series_sent_to, still_arriving
from node.ledger.series import receiving_series
from node.ledger.tables import decision, delivery, event, instance, job, series
from node.operate.alerts import ledger_alerts
from node.reasons import Reason, ReasonCode, reason
from node.routing.returned_routes import ReturnedRoutes
from node.spool import Spool

CONFIG = """
[destinations.pacs]
title = "P"
host = "h"
port = 104
[destinations.cloud]
title = "C"
host = "h"
port = 105
deidentify = "basic"
results_to = ["pacs"]
[pipelines.mass]
factory = "returned:cloud"
"""
HOUR = 3600.0
SEG = {"sop_class_uid": "1", "transfer_syntax_uid": "1", "modality": "SEG", "digest": "d", "size": 1}


@postgres.BOTH
def test_series_of_which_nothing_came_back_are_told_for_a_week(engine: sa.Engine):
    config = parse(CONFIG)
    at = 1000 * HOUR
    with begin_immediate(engine) as connection:
        for number, hours in enumerate((10, 30, 40, 250)):
            _sent(connection, f"1.2.{number}", at - hours * HOUR)

    with engine.connect() as connection:
        assert {row.study_instance_uid for row in series_sent_to(connection, "cloud")} == {f"1.2.{n}" for n in range(4)}
        assert series_sent_to(connection, "pacs") == []

    def told(hours: float = 0.0) -> str:
        with engine.connect() as connection:
            return ledger_alerts(config, connection, at + hours * HOUR).get("returned cloud", "")

    assert told().startswith("nothing came back from cloud of 2 series, the first of which was sent there at")
    assert "of 3 series" in told(20), "the first one, too"
    with begin_immediate(engine) as connection:
        connection.execute(sa.insert(job).values(**_job("1.2.1", "mass", at)))
    assert "of 1 series, which" in told()
    assert told(24 * 30) == "", "and not for ever"
    with begin_immediate(engine) as connection:  # corrected meanwhile: what came back was about the earlier images
        connection.execute(sa.update(series).where(series.c.study_instance_uid == "1.2.1").values(generation=2))
    assert "of 2 series" in told()
    with begin_immediate(engine) as connection:  # it came back for one of them, and was made of both
        _returned(connection, "2.25.7.1", came("mass 1.2.9", series=("1.2.1.1", "1.2.2.1")), at - 2 * HOUR)
    assert told() == ""


@postgres.BOTH
def test_a_job_reads_what_came_back_for_it_also_as_one_of_several(engine: sa.Engine):
    with begin_immediate(engine) as connection:
        _returned(connection, "2.25.1.1", came("first"))
        _returned(connection, "2.25.1.2", came("first", "second"))
        _returned(connection, "2.25.1.3", came("first", late=("first",)))
        _returned(connection, "2.25.1.4", reason(ReasonCode.RETURNED_ABOUT_OTHERS, destination="cloud", number=2))
    with engine.connect() as connection:
        assert returned_paths(connection, "2.25.1", "first") == ["2.25.1.1.9", "2.25.1.2.9", "2.25.1.3.9"]
        assert returned_paths(connection, "2.25.1", "second") == ["2.25.1.2.9"]
        assert not still_arriving(connection, "2.25.1")


@postgres.BOTH
def test_what_came_back_after_its_job_had_begun_is_told_until_the_job_begins_again(engine: sa.Engine):
    config = parse(CONFIG)
    later = came("mass 1.2.1", late=("mass 1.2.1",))
    with begin_immediate(engine) as connection:
        connection.execute(sa.insert(job).values(**_job("1.2.1", "mass", 500.0)))
        _returned(connection, "2.25.1.1", came("mass 1.2.1"), 499.0)
        _returned(connection, "2.25.1.2", later, 510.0)
        assert came_before_reading(connection, "2.25.1", "2.25.1.2", "mass 1.2.1"), "nothing has begun"
        _begin(connection, "mass 1.2.1", 505.0)
        assert came_before_reading(connection, "2.25.1", "2.25.1.1", "mass 1.2.1")
        assert not came_before_reading(connection, "2.25.1", "2.25.1.2", "mass 1.2.1")

    def told() -> str:
        with engine.connect() as connection:
            return ledger_alerts(config, connection, 600.0).get("unread mass 1.2.1", "")

    assert told() == (
        "1 result came back after job mass 1.2.1 had begun and is not read; `ainode retry mass 1.2.1` reads all"
    )
    with begin_immediate(engine) as connection:
        _begin(connection, "mass 1.2.1", 520.0)
    assert told() == ""


@pytest.mark.parametrize(
    ("others", "waits_until"),
    [((), None), ((95.0,), 105.0), ((95.0, 99.0), 109.0), ((89.0,), None), ((1000.0,), 120.0)],
    ids=["alone", "one arrives", "the last one counts", "all are quiet", "for three quiet periods at most"],
)
@postgres.BOTH
def test_a_result_waits_for_others_until_the_whole_study_is_quiet(
    engine: sa.Engine, tmp_path: Path, others: tuple[float, ...], waits_until: float | None
):
    routes = ReturnedRoutes(parse(CONFIG + "[series]\nquiet_seconds = 10.0\n"), engine, Spool(tmp_path))
    with begin_immediate(engine) as connection:
        for number, last_at in enumerate((90.0, *others)):
            of = {"study_instance_uid": "2.25.1", "series_instance_uid": f"2.25.1.{number}"}
            times = {"first_at": last_at, "last_at": last_at}
            connection.execute(
                sa.insert(series).values(**of, **times, modality="SEG", instances=1, state="RECEIVING", generation=0)
            )
    with engine.connect() as connection:
        (result,) = (row for row in receiving_series(connection) if row.series_instance_uid == "2.25.1.0")
    waits = routes.wait_for_others(result, 100.0)
    assert (None if waits is None else waits.until) == waits_until


def came(*jobs: str, late: tuple[str, ...] = (), series: tuple[str, ...] = ()) -> Reason:
    known = {"destination": "cloud", "jobs": list(jobs), "series": list(series), "unread": 0}
    return reason(ReasonCode.RETURNED_LATER, **known, late=list(late)) if late else reason(ReasonCode.RETURNED, **known)


def _begin(connection: sa.Connection, job_id: str, at: float) -> None:
    started = {"kind": EventKind.ATTEMPT_STARTED, "stage": "infer", "attempt": 1, "at": at, "parameters": {}}
    connection.execute(sa.insert(event).values(study_instance_uid="1.2.1", job_id=job_id, **started))


def _returned(connection: sa.Connection, uid: str, why: Reason, at: float = 10.0) -> None:
    """A series with one object that came back at ``at``."""
    study = uid.rpartition(".")[0]
    of = {"study_instance_uid": study, "series_instance_uid": uid}
    times = {"first_at": at, "last_at": at}
    connection.execute(
        sa.insert(series).values(**of, **times, modality="SEG", instances=1, state="COMPLETE", generation=1)
    )
    decided = {"generation": 1, "outcome": "ignored", "reason": why, "trace": [], "decided_at": at}
    connection.execute(sa.insert(decision).values(**of, **decided))
    connection.execute(
        sa.insert(instance).values(**of, **SEG, received_at=at, sop_instance_uid=f"{uid}.9", path=f"{uid}.9")
    )


def _sent(connection: sa.Connection, uid: str, at: float) -> None:
    """A series that the service got at ``at``."""
    of = {"study_instance_uid": uid, "series_instance_uid": f"{uid}.1", "modality": "CT"}
    times = {"first_at": at, "last_at": at}
    connection.execute(sa.insert(series).values(**of, **times, instances=2, state="COMPLETE", generation=1))
    made = _job(uid, FORWARD, at)
    connection.execute(sa.insert(job).values(**made))
    sent = {"state": "STORED", "attempt": 0, "created_at": at, "updated_at": at}
    connection.execute(sa.insert(delivery).values(job_id=made["id"], destination="cloud", **sent))


def _job(uid: str, pipeline: str, at: float) -> dict[str, Any]:
    of = {"study_instance_uid": uid, "series_instance_uid": f"{uid}.1", "generation": 1, "pipeline": pipeline}
    state = {"rule": "r", "destinations": ["cloud"], "priority": 2, "state": "COMPLETED", "stage": "deliver"}
    return {"id": f"{pipeline} {uid}", "run": 0, "attempt": 0, "created_at": at, "updated_at": at, **of, **state}
