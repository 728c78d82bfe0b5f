"""How fast retention purges studies from a large ledger, and whether PostgreSQL gives the room back.

``python tests/support/retention_rate.py --studies 8000 --days 4`` fills a new PostgreSQL with synthetic studies of two
series. Then as many studies arrive each day as are purged, and each day prints its rate and the size of the tables.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import many_studies
import postgres
import sqlalchemy as sa

from node.config import Config
from node.ledger.engine import open_ledger
from node.operate.purge import Retention
from node.spool import Spool

_OLDEST_PART = 4
"""One of so many studies is purged in a day, and as many arrive."""
_SIZES = """SELECT sum(pg_total_relation_size(relid)), sum(n_live_tup), sum(n_dead_tup) FROM pg_stat_user_tables
WHERE schemaname = 'public'"""


def main() -> None:
    """Fill, purge and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=8000)
    parser.add_argument("--images", type=int, default=250, help="in each of the two series of a study")
    parser.add_argument("--days", type=int, default=4)
    chosen = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        url = stack.enter_context(postgres.cluster())
        settings = {"storage": {"folder": folder, "ledger_url": url}, "retention": {"days": 1}}
        config, spool, engine = Config.model_validate(settings), Spool(folder), open_ledger(url)
        many_studies.fill(engine, spool, chosen.studies, images=chosen.images)
        part = chosen.studies // _OLDEST_PART
        for day in range(chosen.days):
            first = chosen.studies + day * part
            began = time.monotonic()
            many_studies.fill(engine, spool, part, known=first, images=chosen.images)
            filled = time.monotonic()
            with engine.connect() as connection:
                oldest = sa.text("SELECT max(last_at) FROM (SELECT last_at FROM series ORDER BY last_at LIMIT :n) AS s")
                at = connection.scalar(oldest, {"n": 2 * part})
            purged = len(Retention(config, engine, spool).step(float(at or 0.0) + 86_400.0 + 300.0))
            seconds = time.monotonic() - filled
            with engine.connect() as connection:
                size, live, dead = connection.execute(sa.text(_SIZES)).one()
            print(  # noqa: T201
                f"day {day + 1}: {part} studies came in {filled - began:.0f} s; {purged} purged in {seconds:.0f} s, "
                f"{purged / seconds:.1f}/s; {size / 2**20:.0f} MiB, {live} rows and {dead} dead ones",
                flush=True,
            )


if __name__ == "__main__":
    main()
