"""Members: every process has a heartbeat that others read, by the clock of the ledger."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from click.testing import CliRunner
from ledgers import open_copy

from node import __version__
from node.__main__ import main
from node.config import Config, parse
from node.config.shared_keys import shared_digests
from node.errors import NotFoundError, PlatformError
from node.ledger.clock import ledger_clock
from node.ledger.engine import begin_immediate, ledger_url
from node.ledger.members import beats, remove_dead
from node.ledger.migrations import revisions
from node.membership import Membership, new_member
from node.operate.alerts import ledger_alerts
from node.operate.fleet import wait_until_idle
from node.process.presence import host_name
from node.spool.machine import machine_id


@pytest.fixture
def engine(tmp_path: Path) -> sa.Engine:
    return open_copy(ledger_url("", tmp_path))


def test_a_machine_has_one_id_whoever_asks_first(tmp_path: Path):
    with ThreadPoolExecutor(8) as pool:
        ids = set(pool.map(lambda _: machine_id(tmp_path), range(32)))
    assert len(ids) == 1
    assert machine_id(tmp_path) in ids
    assert [path.name for path in tmp_path.iterdir()] == ["machine-id"]


def test_fleet_lists_machine_role_version_pipelines_devices_beat_and_state(engine: sa.Engine, tmp_path: Path):
    config = tmp_path / "config.toml"
    config.write_text(f'[storage]\nfolder = "{tmp_path}"\n')
    assert "no process is running" in CliRunner().invoke(main, ["fleet", "--config", str(config)]).output
    worker = Membership(engine, new_member("worker", machine_id(tmp_path)))
    worker.begin()
    worker.offer(("nodule", "tumor"), ("cuda:0",))
    receiver = Membership(engine, new_member("receiver", machine_id(tmp_path)))
    receiver.begin()
    receiver.drain()
    shown = CliRunner().invoke(main, ["fleet", "--config", str(config)]).output
    for words in (
        "worker",
        machine_id(tmp_path)[:8],
        __version__,
        "nodule, tumor on cuda:0",
        "draining",
        "beat 0 s ago",
    ):
        assert words in shown
    listed = json.loads(CliRunner().invoke(main, ["fleet", "--config", str(config), "--json"]).output)
    assert [(member["role"], member["state"]) for member in listed] == [("receiver", "draining"), ("worker", "active")]
    assert {member["revision"] for member in listed} == {revisions()[-1]}
    for member in (worker, receiver):
        member.leave()
    with engine.connect() as connection:
        assert beats(connection) == []


def test_draining_waits_for_what_a_machine_has_begun_and_no_longer_than_allowed(engine: sa.Engine, tmp_path: Path):
    config = tmp_path / "config.toml"
    config.write_text(f'[storage]\nfolder = "{tmp_path}"\n')

    def drain(*words: str) -> tuple[int, str]:
        done = CliRunner().invoke(main, ["drain", host_name(), *words, "--config", str(config)])
        return done.exit_code, done.output + str(done.exception or "")

    worker = Membership(engine, new_member("worker", machine_id(tmp_path)))
    worker.begin()
    status, text = drain("--wait", "0")
    assert status == PlatformError.exit_code, "it may begin something yet: it does not know"
    assert "1 associations, attempts or processes are not finished" in text
    slept: list[float] = []

    def beats_later(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 2:
            worker.beat()

    assert wait_until_idle(engine, host_name(), 1.0, slept.append) == 1
    assert slept == [1.0]
    slept.clear()
    assert wait_until_idle(engine, host_name(), 60.0, beats_later) == 0
    assert slept == [1.0, 1.0]
    assert drain("--wait", "0") == (
        0,
        (
            f"{host_name()}: finishes its work and begins nothing; `ainode fleet` shows what "
            f"is left\n{host_name()}: has finished its work\n"
        ),
    )
    worker.leave()


_RULES = """
[[rules]]
name = "chest"
send = ["pacs"]
[destinations.pacs]
host = "pacs.example.org"
port = 104
title = "PACS"
[destinations.pacs.tls]
enabled = true
"""


def test_machines_that_have_read_different_rules_for_a_minute_are_named(
    engine: sa.Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    config = tmp_path / "config.toml"
    config.write_text(f'[storage]\nfolder = "{tmp_path}"\n')

    def reads(host: str, text: str) -> Membership:
        read = shared_digests(parse(text, "config.toml"))
        member = Membership(engine, replace(new_member("router"), host=f"{host}/1", configuration=read))
        member.beat()
        return member

    def said() -> tuple[str, str]:
        with engine.connect() as connection:
            alert = ledger_alerts(Config(), connection, ledger_clock(connection)).get("configuration", "")
        return alert, CliRunner().invoke(main, ["fleet", "--config", str(config)]).output

    monkeypatch.setattr("node.operate.fleet.SETTLED_SECONDS", 0.0)
    reads("ai1", _RULES + 'ca = "/etc/ai1.pem"\n')
    reads("ai2", _RULES + 'ca = "/etc/ai2.pem"\n[web]\nport = 8081\n')
    assert "not the same" not in "".join(said())
    monkeypatch.setattr("node.operate.fleet.SETTLED_SECONDS", 60.0)
    before = reads("ai3", _RULES.replace("chest", "thorax") + 'ca = "/etc/ai3.pem"\n')
    assert "not the same" not in "".join(said())
    monkeypatch.setattr("node.operate.fleet.SETTLED_SECONDS", 0.0)
    alert, listed = said()
    assert "rules (ai1, ai2 / ai3). " in alert
    assert "[rules] of config.toml is not the same on ai1, ai2 / ai3\n" in listed
    time.sleep(0.01)
    reads("ai3", _RULES + 'ca = "/etc/ai3.pem"\n')  # a reload; the old process works until the new one is ready
    alert, listed = said()
    assert (alert, "not the same" in listed) == ("", False)
    before.leave()


@pytest.mark.parametrize(
    ("table", "differs"),
    [
        ('[pipelines.own]\nfactory = "a.b:create"\nweights = "/elsewhere"\n', False),
        ('[pipelines.own]\nfactory = "a.b:create"\noptions = { key = "2" }\n', True),
        ("[jobs]\nmax_attempts = 3\n", False),  # the default
        ("[jobs]\nmax_attempts = 4\n", True),
        ('[destinations.folder]\nhost = "h"\nport = 104\ntitle = "T"\n', True),  # a name like that of a key
        ("[web]\nport = 9\n", False),
    ],
)
def test_shared_tables_differ_in_what_decides_about_studies(table: str, *, differs: bool):
    own = '[pipelines.own]\nfactory = "a.b:create"\n'
    text = table if table.startswith(own[:15]) else own + table
    assert (shared_digests(parse(own, "a")) != shared_digests(parse(text, "b"))) is differs


def test_a_receiver_that_died_is_lost_until_its_machine_is_given_up_and_another_member_is_just_gone(
    engine: sa.Engine, tmp_path: Path
):
    config = tmp_path / "config.toml"
    config.write_text(f'[storage]\nfolder = "{tmp_path}"\n')
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    for role in ("receiver", "worker"):
        Membership(engine, replace(new_member(role, "f00d"), pid=process.pid)).beat()
    ours = Membership(engine, new_member("receiver", "cafe"))
    assert ours.beat() == ours.alive() == {ours.id}
    verb = ["fleet", "--config", str(config)]
    listed = json.loads(CliRunner().invoke(main, [*verb, "--json"]).output)
    assert sorted((member["machine"], member["state"]) for member in listed) == [("cafe", "active"), ("f00d", "lost")]
    assert CliRunner().invoke(main, [*verb, "--abandon", "cafe"]).exit_code == NotFoundError.exit_code
    assert "1 lost receiver of" in CliRunner().invoke(main, [*verb, "--abandon", "f00d"]).output
    assert [member["machine"] for member in json.loads(CliRunner().invoke(main, [*verb, "--json"]).output)] == ["cafe"]


def test_a_lost_receiver_that_lives_after_all_is_active_again(engine: sa.Engine):
    theirs = Membership(engine, replace(new_member("receiver"), host="elsewhere"))
    theirs.beat()
    with begin_immediate(engine) as connection:
        remove_dead(connection, [theirs.id], "receiver")
    ours = Membership(engine, new_member("receiver"))
    assert ours.beat() == {ours.id}
    theirs.beat()
    assert ours.alive() == {ours.id, theirs.id}


def test_a_member_that_could_not_beat_itself_holds_nobody_for_dead(engine: sa.Engine):
    """After an outage of the ledger all beats are old, and the first to look again must not take over from the rest."""
    ours = Membership(engine, new_member("receiver"), dead_seconds=10.0)
    theirs = Membership(engine, replace(new_member("receiver"), host="elsewhere"), dead_seconds=10.0)
    theirs.beat()
    ours.beat()
    with begin_immediate(engine) as connection:
        connection.execute(sa.text("UPDATE member SET beat_at = beat_at - 60"))
    ours._steady_since, ours._last_beat = (ours._steady_since or 0.0) - 120, ours._last_beat - 60
    assert theirs.id in ours.alive()
    assert theirs.id in ours.beat()
