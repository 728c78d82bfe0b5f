"""`ainode check` tells a pooler of sessions, which the node works behind, from one of transactions."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import postgres
import pytest
import sqlalchemy as sa
from pgbouncer import pgbouncer

from node.check.machine import ledger
from node.config import parse
from node.ledger.engine import KEPT_CONNECTIONS, MORE_CONNECTIONS, ledger_url, open_ledger
from node.ledger.server_sessions import splits_sessions


@pytest.mark.parametrize(("mode", "good"), [("session", True), ("transaction", False)])
def test_check_refuses_a_pooler_that_splits_sessions(tmp_path: Path, mode: str, *, good: bool) -> None:
    with postgres.cluster() as url, pgbouncer(url, mode) as pooler:
        open_ledger(ledger_url(url, tmp_path)).dispose()
        config = parse(f'[storage]\nfolder = "{tmp_path}"\nledger_url = "{pooler.url}"\n')
        result = ledger(config)
    assert result.good is good
    assert ("pool_mode = session" in result.remedy) is not good


def test_a_server_itself_keeps_sessions_whole(tmp_path: Path) -> None:
    with postgres.cluster() as url:
        engine = open_ledger(ledger_url(url, tmp_path))
        assert not splits_sessions(engine)
        engine.dispose()


def test_a_process_has_no_more_connections_than_the_page_says(tmp_path: Path) -> None:
    with postgres.cluster() as url, ExitStack() as opened:
        engine = open_ledger(ledger_url(url, tmp_path))
        opened.callback(engine.dispose)
        held = [opened.enter_context(engine.connect()) for _ in range(KEPT_CONNECTIONS + MORE_CONNECTIONS)]
        count = sa.text("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'")
        assert held[0].scalar(count) == len(held)
        engine.pool._timeout = 0.1  # type: ignore[attr-defined]
        with pytest.raises(sa.exc.TimeoutError):
            engine.connect()
    page = (Path(__file__).parents[2] / "docs/install.md").read_text()
    assert f"at most {KEPT_CONNECTIONS + MORE_CONNECTIONS} connections, of which {KEPT_CONNECTIONS} stay open" in page
