"""Migrations of the ledger on both databases: they make the tables of the code and keep every row."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import postgres
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from click.testing import CliRunner

from node.__main__ import main
from node.errors import LedgerError
from node.ledger import migrations
from node.ledger.engine import ledger_url, open_ledger
from node.ledger.events import EventKind, record_study_event
from node.ledger.jobs import get_job
from node.ledger.tables import metadata
from node.operate.explain import explain
from node.operate.explain_text import describe

OLDEST_TABLE = "oldest_revision"
"""What the newest revision states: no table of the code, and another value after each upgrade."""

NEXT = '''"""A change of tomorrow."""
import os
import signal
import sqlalchemy as sa
from alembic import op

revision = "{revision}"
down_revision = "{newest}"


def upgrade() -> None:
    with op.batch_alter_table("job") as job:
        job.add_column(sa.Column("cost", sa.Double(), nullable=False, server_default="1.5"))
        job.alter_column("reason", new_column_name="because")
    op.create_table("added", sa.Column("id", sa.Integer(), primary_key=True))
{failure}
'''
TOMORROW = f"{int(migrations.revisions()[-1]) + 1:04d}"
RAISES = '    op.execute("INSERT INTO nowhere VALUES (1)")'
DIES = "    os.kill(os.getpid(), signal.SIGKILL)"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with postgres.cluster() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Of an empty database."""
    if request.param == "sqlite":
        yield ledger_url("", tmp_path)
        return
    url = request.getfixturevalue("server")
    yield url
    engine = sa.create_engine(url)
    postgres.drop_tables(engine)
    engine.dispose()


@pytest.fixture
def tomorrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Give the node another revision, which ends in ``failure``."""
    folder = tmp_path / "migrations"
    shutil.copytree(migrations.FOLDER, folder)
    newest = migrations.revisions()[-1]
    monkeypatch.setattr(migrations, "FOLDER", folder)

    def give(failure: str = "") -> Path:
        text = NEXT.format(failure=failure, newest=newest, revision=TOMORROW)
        (folder / "versions" / f"v{TOMORROW}_tomorrow.py").write_text(text)
        return folder

    return give


def value_of(column: sa.Column[Any], number: int) -> Any:
    kind = getattr(column.type, "impl_instance", column.type)
    if isinstance(kind, sa.LargeBinary):
        return bytes([number, 255])
    if isinstance(kind, sa.JSON):
        return {"name": [number, "é"]}
    return {str: f"{column.name} {number} é", int: number, float: number + 0.25, bool: True}[kind.python_type]


def fill(engine: sa.Engine, of: sa.MetaData = metadata) -> dict[str, list[dict[str, Any]]]:
    """Two rows in every table."""
    with engine.begin() as connection:
        for table in (table for table in of.sorted_tables if table.name != "alembic_version"):
            rows = [{column.name: value_of(column, number) for column in table.columns} for number in (1, 2)]
            connection.execute(sa.insert(table), rows)
    return content(engine)


def _text(row: dict[str, Any]) -> str:
    return json.dumps(row, default=repr)


def content(engine: sa.Engine) -> dict[str, list[dict[str, Any]]]:
    """All rows of all tables, as the database knows them; but what the newest revision states is no content."""
    there = sa.MetaData()
    there.reflect(engine)
    with engine.connect() as connection:
        return {
            table.name: sorted((dict(row) for row in connection.execute(sa.select(table)).mappings()), key=_text)
            for table in there.sorted_tables
            if table.name != OLDEST_TABLE
        }


def test_the_migrations_make_exactly_the_tables_of_the_code(url: str) -> None:
    engine = open_ledger(url)
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection,
            opts={
                "compare_type": True,
                "compare_server_default": True,
                "include_name": lambda name, kind, _: (kind, name) != ("table", OLDEST_TABLE),
            },
        )
        assert compare_metadata(context, metadata) == []
    assert set(sa.inspect(engine).get_table_names()) == {*metadata.tables, "alembic_version", OLDEST_TABLE}
    engine.dispose()


def test_revisions_are_one_line_numbered_without_a_gap() -> None:
    config = Config()
    config.set_main_option("script_location", str(migrations.FOLDER))
    script = ScriptDirectory.from_config(config)
    numbers = [revision.revision for revision in reversed(list(script.walk_revisions()))]
    assert numbers == [f"{number:04d}" for number in range(1, len(numbers) + 1)]
    assert migrations.revisions() == numbers


def test_an_upgrade_keeps_the_rows_of_every_table(url: str, tomorrow: Any) -> None:
    engine = open_ledger(url)
    before = fill(engine)
    engine.dispose()
    tomorrow()
    engine = open_ledger(url)
    after = content(engine)
    assert after.pop("added") == []
    assert after.pop("alembic_version") == [{"version_num": TOMORROW}]
    before.pop("alembic_version")
    assert [row.pop("cost") for row in after["job"]] == [1.5, 1.5]
    for row in after["job"]:
        row["reason"] = row.pop("because")
    assert after == before
    assert all(len(rows) == 2 for rows in after.values())
    engine.dispose()


def first_version(tmp_path: Path) -> Path:
    """Folder with the migrations of version 1.0.0."""
    first = tmp_path / "first"
    shutil.copytree(migrations.FOLDER, first)
    for path in (first / "versions").glob("v*.py"):
        if not path.name.startswith("v0001"):
            path.unlink()
    return first


def test_a_ledger_of_version_1_0_0_is_upgraded_with_all_its_rows(url: str, tmp_path: Path, monkeypatch: Any) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(migrations, "FOLDER", first_version(tmp_path))
        engine = open_ledger(url)
        tables = sa.MetaData()
        tables.reflect(engine)
        before = fill(engine, tables)
        engine.dispose()
    assert before.pop("alembic_version") == [{"version_num": "0001"}]
    engine = open_ledger(url)
    after = content(engine)
    engine.dispose()
    assert after.pop("alembic_version") == [{"version_num": migrations.revisions()[-1]}]
    for table in ("procedure_step", "commitment"):
        assert [row.pop("named") for row in after[table]] == [0, 0]
    assert [row.pop("size") for row in after["series"]] == [1, 2]
    assert [row.pop("purged_images") for row in after["series"]] == [0, 0]
    assert [row.pop("packed_generation") for row in after["series"]] == [None, None]
    for column in ("results_purged_at", "after", "urgent"):
        assert [row.pop(column) for row in after["job"]] == [None, None]
    for column in ("version", "weights", "configuration"):
        assert [row.pop(column) for row in after["job_fact"]] == [None, None]
    for table in ("job", "job_fact"):
        assert [row.pop("shadow") for row in after[table]] == [None, None]
    for column in ("characteristics", "last_image_at"):
        assert [row.pop(column) for row in after["decision"]] == [None, None]
    before.pop("executor")  # heartbeats: every process writes its own again
    assert {name: after.pop(name) for name in before} == before
    new = (
        "acceptance",
        "claimed_workitem",
        "decision_record",
        "drained",
        "embedding_space",
        "excluded",
        "fetch_item",
        "fetch_list",
        "fetched_study",
        "holding",
        "imaging_order",
        "login_attempt",
        "lesion_embedding",
        "member",
        "missing_copy",
        "order_message",
        "pack",
        "packed",
        "patient_change",
        "pipeline_failure",
        "promotion",
        "published_rules",
        "taken_rules",
        "quality_stop",
        "reader_object",
        "reader_query",
        "series_request",
        "workitem",
        "workitem_subscriber",
        "workitem_watch",
        "worklist_query",
        "session",
        "store_outage",
        "verdict",
    )
    assert after == {table: [] for table in new}


def test_sentences_of_version_1_0_0_are_shown_as_they_were_written(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sentence = """matches "chest", 'lung' \\ 12 {rule} é; 100 %"""
    with monkeypatch.context() as patched:
        patched.setattr(migrations, "FOLDER", first_version(tmp_path))
        engine = open_ledger(url)
        series = {"study_instance_uid": "1.2", "series_instance_uid": "1.2.3", "generation": 1}
        reasons = {"reason": sentence, "incomplete": "12", "caveat": None}
        rows = {
            "series": {"modality": "CT", "instances": 1, "first_at": 1, "last_at": 2, "state": "COMPLETE"},
            "decision": {"outcome": "routed", "trace": '[{"rule": "r", "matched": true, "note": "not chosen", '
                         '"conditions": []}]', "decided_at": 3, **reasons},
            "job": {"id": "j", "pipeline": "p", "rule": "r", "destinations": "[]", "priority": 2, "state": "CANCELED",
                    "stage": "infer", "run": 0, "attempt": 0, "created_at": 4, "updated_at": 5, **reasons},
        }  # fmt: skip
        with engine.begin() as connection:
            for table, values in rows.items():
                row = series | values
                names = ", ".join(row)
                marks = ", ".join(f":{name}" for name in row)
                connection.execute(sa.text(f"INSERT INTO {table} ({names}) VALUES ({marks})"), row)  # noqa: S608
        engine.dispose()
    engine = open_ledger(url)
    shown = describe(explain(engine, "1.2"))
    with engine.connect() as connection:
        job = get_job(connection, "j")
    engine.dispose()
    assert (job.reason, job.incomplete, job.caveat) == (sentence, "12", None)
    for line in (f"routed: {sentence}", f"CANCELED: {sentence}", "INCOMPLETE: 12", "matches: not chosen"):
        assert line in shown


@pytest.mark.parametrize("failure", [RAISES, DIES])
def test_an_upgrade_that_is_interrupted_changes_nothing_and_can_be_repeated(
    url: str, tomorrow: Any, failure: str
) -> None:
    engine = open_ledger(url)
    before = fill(engine)
    engine.dispose()
    folder = tomorrow(failure)
    code = (
        "import sys; from pathlib import Path; from node.ledger import migrations\n"
        "from node.ledger.engine import open_ledger\n"
        "migrations.FOLDER = Path(sys.argv[2]); open_ledger(sys.argv[1])"
    )
    done = subprocess.run([sys.executable, "-c", code, url, folder], capture_output=True, text=True, check=False)
    assert done.returncode == (-signal.SIGKILL if failure == DIES else 1), done.stderr
    assert ("LedgerError" in done.stderr) == (failure == RAISES)
    engine = sa.create_engine(url)
    assert content(engine) == before
    engine.dispose()
    tomorrow()
    engine = open_ledger(url)
    assert "added" in content(engine)
    engine.dispose()


def test_a_ledger_of_a_newer_version_is_refused_with_status_7(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(f'[storage]\nfolder = "{tmp_path}"\n')
    engine = open_ledger(ledger_url("", tmp_path))
    before = content(engine)
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '0999'"))
        connection.execute(sa.text("UPDATE oldest_revision SET number = '0999'"))
    engine.dispose()
    told = CliRunner().invoke(main, ["status", "--config", str(config)])
    assert told.exit_code == LedgerError.exit_code == 7
    assert "newer version of the node" in told.output
    engine = sa.create_engine(ledger_url("", tmp_path))
    assert content(engine) == {**before, "alembic_version": [{"version_num": "0999"}]}
    engine.dispose()


def test_a_ledger_from_before_the_first_version_is_refused(url: str) -> None:
    engine = sa.create_engine(url)
    metadata.create_all(engine)
    with pytest.raises(LedgerError, match=r"before 1\.0\.0"):
        open_ledger(url)
    engine.dispose()


def test_a_ledger_that_is_up_to_date_is_opened_without_alembic(tmp_path: Path) -> None:
    open_ledger(ledger_url("", tmp_path)).dispose()
    code = (
        "import sys; from node.ledger.engine import open_ledger; open_ledger(sys.argv[1])\n"
        "assert 'alembic' not in sys.modules and 'mako' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, ledger_url("", tmp_path)], check=True, env=dict(os.environ))


def test_series_of_before_get_the_size_of_their_images_and_events_go_on_beyond_32_bits(
    url: str, tmp_path: Path, monkeypatch: Any
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(migrations, "FOLDER", first_version(tmp_path))
        engine = open_ledger(url)
        tables = sa.MetaData()
        tables.reflect(engine)
        fill(engine, tables)
        with engine.begin() as connection:
            connection.execute(sa.text("UPDATE instance SET study_instance_uid = 's', series_instance_uid = 't'"))
            connection.execute(
                sa.text("UPDATE series SET study_instance_uid = 's', series_instance_uid = 't' WHERE instances = 2")
            )
        engine.dispose()
    engine = open_ledger(url)
    assert sorted(row["size"] for row in content(engine)["series"]) == [0, 3]
    last = 2**31 - 1
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(sa.text("SELECT setval('event_id_seq', :last)"), {"last": last})
        else:
            connection.execute(sa.text("UPDATE event SET id = :last WHERE id = 2"), {"last": last})
        record_study_event(connection, EventKind.REROUTED, at=1.0, study_instance_uid="s", series_instance_uid="t")
    assert max(row["id"] for row in content(engine)["event"]) == last + 1
    engine.dispose()
