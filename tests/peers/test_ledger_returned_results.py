"""What came back from a service outside, and of which series nothing did."""

from __future__ import annotations

from typing import Any

import postgres
import sqlalchemy as sa

from node.config import FORWARD, parse
from node.ledger.engine import begin_immediate
from node.ledger.returned_results import series_sent_to
from node.ledger.tables import delivery, job, series
from node.operate.alerts import ledger_alerts

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


@postgres.BOTH
def test_series_of_which_nothing_came_back_are_told_for_a_week(engine: sa.Engine):
    config = parse(CONFIG)
    at = 1000 * HOUR
    with begin_immediate(engine) as connection:
        for number, hours in enumerate((10, 30, 40, 250)):
            _sent(connection, f"1.2.{number}", at - hours * HOUR)

    with engine.connect() as connection:
        assert {one.study_instance_uid for one in series_sent_to(connection, "cloud")} == {f"1.2.{n}" for n in range(4)}
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
