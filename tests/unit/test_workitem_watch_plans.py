"""What a look of the sender costs: no query reads all workitems that a subscriber was told of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import sqlalchemy as sa

from node.ledger.engine import ledger_url, open_ledger
from node.ledger.workitem_subscriptions import subscribe_to_all, subscriber
from node.ledger.workitem_watches import begun_again, changed_watches


def test_no_look_reads_all_workitems_that_a_subscriber_was_told_of(tmp_path: Path) -> None:
    engine = open_ledger(ledger_url("", tmp_path))
    sent: list[tuple[str, Any]] = []
    with engine.begin() as connection:
        subscribe_to_all(connection, "RIS")
        of = subscriber(connection, "RIS")
    assert of is not None
    with engine.connect() as connection:
        sa.event.listen(engine, "before_cursor_execute", lambda *its: sent.append((its[2], its[3])))
        begun_again(connection, of, of.looked_at, 10)
        changed_watches(connection, "RIS", of.looked_at, 10)
        plans = [connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {query}", values).all() for query, values in sent[:]]
    engine.dispose()
    steps = [str(step[3]) for plan in plans for step in plan]
    of_watches = [step for step in steps if " workitem_watch " in step]
    assert len(of_watches) >= 2
    assert not [step for step in of_watches if "followed" not in step and "cancel" not in step]
