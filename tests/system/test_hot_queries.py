"""No process reads a whole table again and again: the plans of PostgreSQL for all statements of a working node.

``AINODE_HEAVY=1 pytest -s`` does it with 25 million images, and prints the statements that took longest.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import many_studies
import postgres
import pytest
import real_peers
import sqlalchemy as sa
from dicom_files import ct_series, write
from pydicom.uid import generate_uid
from receivers import until
from whole_node import WholeNode

from node.ledger.engine import open_ledger, snapshot
from node.ledger.states import JobState
from node.ledger.tables import delivery, job
from node.spool import Spool

STUDIES, IMAGES = (50_000, 250) if os.environ.get("AINODE_HEAVY") else (2000, 20)
"""IMAGES in each of the two series of a study."""
LARGE = 1000
"""Rows; a table with more must not be read as a whole."""
SETTINGS = {
    "session_preload_libraries": "auto_explain",
    "auto_explain.log_min_duration": "0",
    "auto_explain.log_format": "json",
}
EXEMPT = re.compile(r"NOT \(EXISTS|^UPDATE series SET size|FROM refusal ORDER BY refusal.at|\$50::|= ANY \(\$")
"""Statements of the account of the whole ledger, which is made at the start and now and then: they look for what no
other row explains, or read a portion of 50 keys and more, as the list of studies does."""
_PLAN = re.compile(r"duration: ([\d.]+) ms  plan:\s*\n(\s*\{.*?\n\s*\})\s*\n(?=\d{4}-|\Z)", re.DOTALL)


class WholeRead(NamedTuple):
    """A table that a statement reads as a whole."""

    table: str
    statement: str


class Executed(NamedTuple):
    """A statement that the server executed."""

    milliseconds: float
    statement: str
    plan: dict[str, Any]


def executed(log: str) -> Iterator[Executed]:
    for match in _PLAN.finditer(log):
        told = json.loads(match.group(2))
        yield Executed(float(match.group(1)), " ".join(told["Query Text"].split()), told["Plan"])


def whole_reads(node: dict[str, Any], large: set[str], partial: set[str]) -> Iterator[str]:
    """Tables of which this plan reads all rows, in order of the table or of an index."""
    kind, table = node["Node Type"], node.get("Relation Name")
    by_index = kind in {"Index Scan", "Index Only Scan"} and "Index Cond" not in node
    if table in large and (kind == "Seq Scan" or (by_index and node["Index Name"] not in partial)):
        yield table
    for below in node.get("Plans", ()):
        yield from whole_reads(below, large, partial)


def fill(engine: sa.Engine, spool: Spool) -> None:
    """Rows of finished studies in all tables, those of the job engine too."""
    many_studies.fill(engine, spool, STUDIES, images=1)
    many_studies.add_images(engine, IMAGES - 1)
    with engine.begin() as connection:
        for table in (job.c.traced_at, delivery.c.audited_at):  # nothing of them is left to do
            connection.execute(sa.update(table.table).values({table: sa.func.coalesce(table, 1.0)}))
        names = sa.inspect(connection).get_columns("workflow_status", schema="dbos")
        copied = ", ".join("workflow_uuid || n" if c["name"] == "workflow_uuid" else c["name"] for c in names)
        columns = ", ".join(c["name"] for c in names)
        connection.execute(
            sa.text(
                f"INSERT INTO dbos.workflow_status ({columns}) SELECT {copied} FROM dbos.workflow_status, "  # noqa: S608
                f"generate_series(1, {STUDIES}) AS n WHERE status = 'SUCCESS'"
            )
        )


def run(node: WholeNode, engine: sa.Engine, folder: Path) -> None:
    """Start the node, let it analyse a study, stop it."""
    study = generate_uid()
    node.start()
    write(ct_series(n=6, size=64, study=study), folder)
    real_peers.dcmtk("dcmsend", "-aec", "AINODE", "127.0.0.1", node.port, *sorted(folder.glob("*.dcm")))
    until(lambda: study in analysed(engine), 120.0)
    node.stop()


def analysed(engine: sa.Engine) -> set[str]:
    with snapshot(engine) as connection:
        completed = sa.select(job.c.study_instance_uid).where(job.c.state == JobState.COMPLETED)
        return set(connection.execute(completed).scalars())


@pytest.fixture(scope="module")
def pacs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[real_peers.Orthanc]:
    with real_peers.orthanc(tmp_path_factory.mktemp("pacs")) as running:
        yield running


@pytest.mark.timeout(3600)
def test_no_hot_query_reads_a_whole_table(tmp_path: Path, pacs: real_peers.Orthanc):
    with postgres.cluster() as url:
        server = sa.create_engine(url, isolation_level="AUTOCOMMIT")
        engine = open_ledger(url)
        log = Path(str(server.url.query["host"])) / "log"
        node = WholeNode(tmp_path, pacs.dicom_port)
        node.config.write_text(node.config.read_text().replace("[storage]", f'[storage]\nledger_url = "{url}"'))
        try:
            run(node, engine, tmp_path / "first")
            fill(engine, Spool(node.folder))
            with server.connect() as connection:
                connection.execute(sa.text("LOAD 'auto_explain'"))
                for name, value in SETTINGS.items():
                    connection.execute(sa.text(f"ALTER SYSTEM SET {name} = '{value}'"))
                connection.execute(sa.text("SELECT pg_reload_conf()"))
                connection.execute(sa.text("VACUUM ANALYZE"))
                large = set(
                    connection.execute(
                        sa.text("SELECT relname FROM pg_class WHERE reltuples > :rows"), {"rows": LARGE}
                    ).scalars()
                )
                partial = set(
                    connection.execute(
                        sa.text(
                            "SELECT relname FROM pg_class JOIN pg_index ON indexrelid = oid WHERE indpred IS NOT NULL"
                        )
                    ).scalars()
                )
            begin = log.stat().st_size
            run(node, engine, tmp_path / "second")
            told = list(executed(log.read_bytes()[begin:].decode()))
        finally:
            node.kill()
            server.dispose()
            engine.dispose()
    assert {"instance", "series", "job", "decision", "delivery", "result", "event", "workflow_status"} <= large
    assert len(told) > 500
    for query in sorted(told, key=lambda of: of.milliseconds)[-10:]:
        print(f"{query.milliseconds:10.3f} ms {query.statement[:300]}")  # noqa: T201
    reads = {
        WholeRead(table, query.statement)
        for query in told
        if not EXEMPT.search(query.statement)
        for table in whole_reads(query.plan, large, partial)
    }
    assert not reads, "\n\n".join(f"{read.table}: {read.statement[:1500]}" for read in sorted(reads))
