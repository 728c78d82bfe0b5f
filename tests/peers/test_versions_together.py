"""Two versions of the node with one ledger: who may go on when a newer one has changed the tables, and who may not."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import postgres
import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from next_version import ADDS, NEWEST, NEXT, RENAMES, revision_text

from node.errors import LedgerError
from node.ledger import migrations
from node.ledger.clock import clock_of
from node.ledger.engine import begin_immediate, ledger_url, open_ledger
from node.ledger.members import Member, renew_beat

AFTER_NEXT = f"{int(NEXT) + 1:04d}"
Write = Callable[..., None]


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of an empty database."""
    if request.param == "sqlite":
        return ledger_url("", tmp_path)
    return postgres.new_database(request.getfixturevalue("postgres_server"), "versions" + tmp_path.name[-40:].lower())


@pytest.fixture
def newer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Make this process a newer version, with revisions that it is given; ``older`` makes it the present one again."""
    present, folder = migrations.FOLDER, tmp_path / "migrations"
    shutil.copytree(present, folder)

    def write(*texts: str) -> None:
        for number, text in enumerate(texts):
            (folder / "versions" / f"v{int(NEXT) + number:04d}_tomorrow.py").write_text(text)
        monkeypatch.setattr(migrations, "FOLDER", folder)

    return write


def older(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrations, "FOLDER", Path(migrations.__file__).parent)


def begin(url: str) -> None:
    open_ledger(url).dispose()


def live(url: str, seconds_ago: float = 0.0) -> None:
    """Record a process of the present version."""
    engine = open_ledger(url)
    member = Member(id="worker-1", role="worker", host="ai1", pid=1, version="1.0.0", revision=NEWEST)
    at = clock_of(engine) - seconds_ago
    with begin_immediate(engine) as connection:
        renew_beat(connection, member, at)
    engine.dispose()


def columns(url: str, table: str) -> set[str]:
    engine = sa.create_engine(url)
    try:
        return {column["name"] for column in sa.inspect(engine).get_columns(table)}
    finally:
        engine.dispose()


def test_a_version_works_on_with_tables_to_which_a_newer_one_has_only_added(
    url: str, newer: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(url)
    live(url)  # it goes on meanwhile
    newer(revision_text(ADDS, oldest=NEWEST))
    begin(url)
    assert {"cost"} <= columns(url, "job")
    older(monkeypatch)
    live(url)
    assert {"cost"} <= columns(url, "job")  # nothing was taken back
    newer(revision_text(ADDS, oldest=NEWEST))
    begin(url)


@pytest.mark.parametrize("changes", [(RENAMES,), (ADDS, RENAMES)])
def test_a_version_refuses_tables_that_a_newer_one_has_changed(
    url: str, newer: Write, monkeypatch: pytest.MonkeyPatch, changes: tuple[str, ...]
) -> None:
    begin(url)
    stated = [revision_text(ADDS, oldest=NEWEST)] if len(changes) == 2 else []
    newer(*stated)
    begin(url)
    newer(*stated, revision_text(RENAMES, f"{int(NEXT) + len(stated):04d}"))
    begin(url)
    older(monkeypatch)
    with pytest.raises(LedgerError, match="newer version of the node"):
        begin(url)


def test_tables_are_not_changed_under_processes_that_could_not_work_with_them(
    url: str, newer: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(url)
    live(url)
    newer(revision_text(RENAMES))
    with pytest.raises(LedgerError, match=r"while processes of version 1\.0\.0 run, .*; stop the node on every"):
        begin(url)
    assert "because" not in columns(url, "job")
    older(monkeypatch)
    live(url, seconds_ago=60.0)  # it has died
    newer(revision_text(RENAMES))
    begin(url)
    assert "because" in columns(url, "job")


def unsuitable(of: Path, oldest: str, url: str) -> set[str]:
    """What a version whose newest revision is ``oldest`` would miss in the tables of the newest one, or not fill."""
    number = len(list((of / "versions").glob("v*.py")))
    before, after = sa.MetaData(), sa.MetaData()
    for metadata, last in ((before, oldest), (after, f"{number:04d}")):
        engine = sa.create_engine(f"{url}-{last}")
        config = Config()
        config.set_main_option("script_location", str(of))
        with engine.begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, last)
        metadata.reflect(engine)
        engine.dispose()
    faults = set()
    for name, table in before.tables.items():
        now = after.tables.get(name)
        for column in table.columns:
            if now is None or column.name not in now.columns:
                faults.add(f"{name}.{column.name} is gone")
            elif str(now.columns[column.name].type) != str(column.type):
                faults.add(f"{name}.{column.name} has another type")
        for column in now.columns if now is not None else ():
            if column.name not in table.columns and not column.nullable and column.server_default is None:
                faults.add(f"{name}.{column.name} needs a value")
    return faults


def stated(folder: Path) -> dict[str, str]:
    """Each revision that states an older one than itself."""
    config = Config()
    config.set_main_option("script_location", str(folder))
    revisions = ScriptDirectory.from_config(config).walk_revisions()
    return {of.revision: of.module.OLDEST for of in revisions if hasattr(of.module, "OLDEST")}


def test_every_revision_that_lets_older_versions_go_on_only_adds(tmp_path: Path, newer: Write) -> None:
    assert all(
        not unsuitable(migrations.FOLDER, oldest, f"sqlite:///{tmp_path / revision}")
        for revision, oldest in stated(migrations.FOLDER).items()
    )
    no_default = '    op.add_column("job", sa.Column("price", sa.Double(), nullable=False))\n'
    faults = {ADDS: set(), RENAMES: {"job.reason is gone"}, no_default: {"job.price needs a value"}}
    for number, (change, fault) in enumerate(faults.items()):
        newer(revision_text(change, oldest=NEWEST))
        assert stated(migrations.FOLDER)[NEXT] == NEWEST
        reasons = unsuitable(migrations.FOLDER, NEWEST, f"sqlite:///{tmp_path / str(number)}")
        assert reasons == fault
