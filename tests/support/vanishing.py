"""A PostgreSQL server in a network of its own whose packets can be made to vanish; needs the rights of root.

Run as ``unshare --net PYTHON vanishing.py FOLDER``; it leaves ``told.json`` there.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import postgres
import sqlalchemy as sa
from row_writing import Rows

from node.jobs.engine import Jobs
from node.ledger.engine import open_ledger
from node.receive import row_writer

HERE, THERE = "192.0.2.1", "192.0.2.2"


def call(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


@contextmanager
def network() -> Iterator[list[str]]:
    """Command prefix of the other end of a cable: what it starts has the address ``THERE``, we have ``HERE``."""
    other = subprocess.Popen(["unshare", "--net", "sleep", "600"])
    try:
        time.sleep(0.5)
        prefix = ["nsenter", "--net", "--target", str(other.pid)]
        call("ip", "link", "set", "lo", "up")
        call("ip", "link", "add", "here", "type", "veth", "peer", "name", "there", "netns", str(other.pid))
        for within, name, address in (([], "here", HERE), (prefix, "there", THERE)):
            call(*within, "ip", "address", "add", f"{address}/24", "dev", name)
            call(*within, "ip", "link", "set", name, "up")
        yield prefix
    finally:
        other.kill()
        other.wait()


def seconds_until_error(work: Callable[[], object]) -> float:
    begun = time.monotonic()
    try:
        work()
    except sa.exc.SQLAlchemyError:
        return time.monotonic() - begun
    raise AssertionError("no packet came back, and yet it worked")


def main(folder: Path) -> None:
    row_writer.STALLED_SECONDS = 5.0
    with network() as prefix, postgres.cluster(THERE, prefix) as url:
        engine = open_ledger(f"postgresql+psycopg://ainode@{THERE}/postgres")
        Jobs(engine)  # DBOS connects by the URL of the engine
        rows = Rows(f"postgresql+psycopg://ainode@{THERE}/postgres", folder)
        rows.follow(2)
        while len(rows.written()) < 2:
            time.sleep(0.05)
        waiting, told = engine.connect(), {}
        waiting.execute(sa.text("SELECT 1"))
        blackhole = [*prefix, "ip", "route", "add", "blackhole", f"{HERE}/32"]
        call(*blackhole)
        rows.follow(2, "1.2.4")
        told["statement"] = seconds_until_error(lambda: waiting.execute(sa.text("SELECT 2")))
        told["new connection"] = seconds_until_error(engine.connect)
        begun = time.monotonic()
        while rows.row_writer.has_room() and time.monotonic() < begun + 60.0:
            time.sleep(0.1)
        told["until images are refused"] = time.monotonic() - begun
        call(*prefix, "ip", "route", "del", "blackhole", f"{HERE}/32")
        begun = time.monotonic()
        while len(rows.written()) < 4:
            assert time.monotonic() - begun < 60.0
            time.sleep(0.1)
        told["rows after"] = time.monotonic() - begun
        assert url
        waiting.close()
        rows.row_writer.stop()
        rows.engine.dispose()
        engine.dispose()
    (folder / "told.json").write_text(json.dumps(told))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
