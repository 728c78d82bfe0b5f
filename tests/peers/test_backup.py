"""Backup of a node that runs, and restore on another machine."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import postgres
import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result
from dashboards import analysed

from node.__main__ import main
from node.errors import InputError, LedgerError, PlatformError
from node.ledger.copying import copy_ledger
from node.ledger.engine import begin_immediate, now, open_ledger
from node.ledger.events import EventKind, record_study_event
from node.ledger.tables import event, instance, job, metadata, series
from node.operate.audit.trail import Trail
from node.operate.audit.trail import verify as verify_trail


class Site:
    """A machine with a node that has analysed one study."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "config.toml"
        self.storage = folder / "data"
        self.engine: sa.Engine | None = None

    def set_up(self) -> str:
        self.storage.mkdir(parents=True)
        study, self.job = analysed(self.storage)
        (self.folder / "token").write_text("secret token")
        (self.folder / "token").chmod(0o600)
        Trail(self.storage / "audit.log").append(["one", "two"])
        self.config.write_text(self.text())
        return study

    def text(self, more: str = "") -> str:
        return (
            f'[storage]\nfolder = "{self.storage}"\nmin_free_gib = 0.0\n{more}'
            "[pipelines.nodule]\n[destinations.pacs]\n"
            f'url = "https://pacs.invalid"\ntoken_file = "{self.folder / "token"}"\n'
        )

    def run(self, *arguments: object) -> Result:
        return CliRunner().invoke(main, [*map(str, arguments), "--config", str(self.config)])


@pytest.fixture
def site(tmp_path: Path) -> Site:
    made = Site(tmp_path / "here")
    made.set_up()
    return made


@pytest.fixture
def elsewhere(tmp_path: Path) -> Site:
    return Site(tmp_path / "there")


def good(result: Result) -> str:
    assert result.exit_code == 0, result.output
    return result.output


def rows(engine: sa.Engine) -> dict[str, list[tuple[Any, ...]]]:
    with engine.connect() as connection:
        tables = {
            table.name: sorted((tuple(row) for row in connection.execute(sa.select(table))), key=repr)
            for table in metadata.sorted_tables
        }
    engine.dispose()
    return tables


def test_a_restored_node_passes_account_and_verify(site: Site, elsewhere: Site, tmp_path: Path):
    output = good(site.run("backup", tmp_path / "backup", "--files"))
    token = site.folder / "token"
    assert f"not included: {token}" in output
    assert "secret token" not in "".join(
        path.read_text(errors="replace") for path in (tmp_path / "backup").glob("*") if path.is_file()
    )
    site.folder.rename(tmp_path / "burnt")
    elsewhere.folder.mkdir()
    elsewhere.config.write_text(elsewhere.text())  # its own paths
    output = good(elsewhere.run("restore", tmp_path / "backup"))
    assert f"bring back yourself: {token}" in output
    good(elsewhere.run("verify"))
    good(elsewhere.run("account"))
    assert list(verify_trail(elsewhere.storage / "audit.log")) == []
    assert (elsewhere.storage / "web-users").read_text() == (tmp_path / "burnt/data/web-users").read_text()
    assert oct((elsewhere.storage / "web-users").stat().st_mode & 0o777) == "0o600"
    before = rows(open_ledger(f"sqlite:///{tmp_path / 'burnt/data/ledger.sqlite'}"))
    assert rows(open_ledger(f"sqlite:///{elsewhere.storage / 'ledger.sqlite'}")) == before


def test_keys_are_in_the_backup_when_asked_for(site: Site, tmp_path: Path):
    good(site.run("backup", tmp_path / "backup", "--keys"))
    (site.folder / "token").unlink()
    site.storage.rename(tmp_path / "burnt")
    site.config.unlink()
    good(site.run("restore", tmp_path / "backup"))
    assert (site.folder / "token").read_text() == "secret token"
    assert site.config.read_text() == site.text(), "the configuration of the backup"
    assert site.run("verify").exit_code != 0, "its files are in no backup without --files"


def test_a_backup_is_taken_while_processes_write(site: Site, tmp_path: Path):
    engine, ended = open_ledger(f"sqlite:///{site.storage / 'ledger.sqlite'}"), threading.Event()

    def write() -> None:
        number = 0
        while not ended.is_set():
            number += 1
            uid = f"1.2.{number}"
            of = {"study_instance_uid": uid, "series_instance_uid": uid}
            with begin_immediate(engine) as connection:
                connection.execute(
                    series.insert().values(
                        **of, modality="CT", instances=1, first_at=1, last_at=1, state="RECEIVING", generation=0
                    )
                )
                record_study_event(connection, EventKind.REROUTED, at=now(), **of)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for number in range(3):
            good(site.run("backup", tmp_path / f"backup-{number}"))
    finally:
        ended.set()
        writer.join()
    engine.dispose()
    sizes = []
    for number in range(3):
        tables = rows(open_ledger(f"sqlite:///{tmp_path / f'backup-{number}' / 'ledger.sqlite'}"))
        studies = {row[0] for row in tables["series"]}
        written = {row[2] for row in tables["event"] if row[5] == EventKind.REROUTED}
        assert written == {uid for uid in studies if uid.startswith("1.2.") and uid.count(".") == 2}
        sizes.append(len(written))
    assert sizes == sorted(sizes)
    assert sizes[-1] > 0


def test_what_was_purged_or_came_during_the_backup_leaves_no_difference(site: Site, elsewhere: Site, tmp_path: Path):
    late = site.storage / "incoming/1.2/1.3/1.4.dcm"
    late.parent.mkdir(parents=True)
    late.write_bytes(b"its row comes later")
    good(site.run("backup", tmp_path / "backup", "--files"))
    assert not (tmp_path / "backup/files/incoming/1.2").exists()
    assert late.exists()


def test_an_altered_or_partial_backup_is_refused(site: Site, elsewhere: Site, tmp_path: Path):
    good(site.run("backup", tmp_path / "backup"))
    users = tmp_path / "backup/web-users"
    users.write_text(users.read_text().replace("view", "operate"))
    refused = elsewhere.run("restore", tmp_path / "backup")
    assert refused.exit_code == InputError.exit_code
    assert "web-users: missing or altered" in refused.output
    assert not elsewhere.config.exists()
    assert elsewhere.run("restore", tmp_path).exit_code == InputError.exit_code
    assert site.run("backup", tmp_path / "backup").exit_code == InputError.exit_code


def test_a_node_in_use_is_never_overwritten(site: Site, tmp_path: Path):
    good(site.run("backup", tmp_path / "backup"))
    assert site.run("restore", tmp_path / "backup").exit_code == PlatformError.exit_code
    (site.storage / "web-users").unlink()
    (site.storage / "audit.log").unlink()
    before = rows(open_ledger(f"sqlite:///{site.storage / 'ledger.sqlite'}"))
    refused = site.run("restore", tmp_path / "backup")
    assert refused.exit_code == LedgerError.exit_code
    assert "is in use" in refused.output
    assert not (site.storage / "web-users").exists()
    assert rows(open_ledger(f"sqlite:///{site.storage / 'ledger.sqlite'}")) == before


def test_a_job_between_inference_and_encoding_begins_again(site: Site, elsewhere: Site, tmp_path: Path):
    engine = open_ledger(f"sqlite:///{site.storage / 'ledger.sqlite'}")
    with begin_immediate(engine) as connection:
        connection.execute(job.update().values(state="IN PROGRESS", stage="encode"))
    engine.dispose()
    good(site.run("backup", tmp_path / "backup"))
    elsewhere.folder.mkdir()
    elsewhere.config.write_text(elsewhere.text())
    good(elsewhere.run("restore", tmp_path / "backup"))
    (row,) = rows(open_ledger(f"sqlite:///{elsewhere.storage / 'ledger.sqlite'}"))["job"]
    assert {"SCHEDULED", "infer"} <= set(map(str, row))


def test_a_ledger_of_postgresql_is_backed_up_and_restored(site: Site, postgres_server: str, tmp_path: Path):
    sqlite = open_ledger(f"sqlite:///{site.storage / 'ledger.sqlite'}")
    before = rows(sqlite)
    servers = [postgres.new_database(postgres_server, f"backup_{n}") for n in range(2)]
    server = open_ledger(servers[0].replace("postgresql://", "postgresql+psycopg://", 1))
    copy_ledger(sqlite, server)
    site.config.write_text(site.text(f'ledger_url = "{servers[0]}"\n'))
    good(site.run("backup", tmp_path / "backup"))
    other = Site(tmp_path / "there")
    other.folder.mkdir()
    other.config.write_text(other.text(f'ledger_url = "{servers[1]}"\n'))
    good(other.run("restore", tmp_path / "backup"))
    restored = open_ledger(servers[1].replace("postgresql://", "postgresql+psycopg://", 1))
    assert rows(restored) == before
    with begin_immediate(restored) as connection:  # numbers of new rows go on after those of the old ones
        record_study_event(connection, EventKind.REROUTED, at=now(), study_instance_uid="1.2", series_instance_uid="1")
        assert connection.scalar(sa.select(sa.func.count()).select_from(event)) == len(before["event"]) + 1
        assert connection.scalar(sa.select(sa.func.count()).select_from(instance)) == len(before["instance"])
    for engine in (sqlite, server, restored):
        engine.dispose()
