"""Rules that one machine of a fleet publishes are those of all, and nobody's change is lost in silence."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import postgres
import pytest
import sqlalchemy as sa

from node.config import load
from node.config.rules_text import rules_text, with_rules_text
from node.errors import ConfigError, NotFoundError, PlatformError
from node.ledger.engine import begin_immediate
from node.ledger.published_rules import FileState, PublishedRules, file_states, newest_rules, published_versions
from node.operate.alerts import _configuration
from node.operate.fleet_rules import FleetRules, RulesWatch

TEXT = """\
[pipelines.own]
factory = "pipelines.nodule:create"

# Chest.
[[rules]]
name = "chest"
pipelines = ["own"]

[web]
port = {port}   # of this machine
"""
Make = Callable[[str], FleetRules]
pytestmark = postgres.BOTH


@pytest.fixture
def machine(engine: sa.Engine, tmp_path: Path) -> Make:
    def make(name: str) -> FleetRules:
        path = tmp_path / name / "config.toml"
        path.parent.mkdir()
        path.write_text(TEXT.format(port=8000 + len(list(tmp_path.iterdir()))))
        made = FleetRules(path=path, folder=tmp_path / "versions", reload=lambda: None, engine=engine)
        made.take_over()
        return made

    return make


def rule_names(of: FleetRules) -> list[str]:
    return [rule.name for rule in load(of.path).rules]


def apply(of: FleetRules, name: str, *, opened_with: str = "") -> None:
    before = rules_text(of.whole())
    of.apply(before.replace("chest", name), instead_of=opened_with or before, who="anna", why="a trial")


def test_rules_that_one_machine_applies_are_taken_over_by_all_with_who_and_why(machine: Make):
    a, b = machine("a"), machine("b")  # with one storage folder, which machines may share
    own = b.whole().partition("[web]")[2]
    apply(a, "thorax")
    assert (rule_names(a), rule_names(b)) == (["thorax"], ["chest"])
    assert b.take_over().number == a.take_over().number == 1
    assert rule_names(b) == ["thorax"]
    assert b.whole().partition("[web]")[2] == own
    newest = b.versions()[0]
    assert (newest.who, newest.why, rules_text(b.whole())) == ("anna", "a trial", newest.text)


def test_rules_edited_in_one_file_stay_until_the_next_publication_and_can_be_published(machine: Make):
    a, b = machine("a"), machine("b")
    apply(a, "thorax")
    b.take_over()
    b.path.write_text(b.whole().replace("thorax", "lungs"))
    b.take_over()
    assert rule_names(b) == ["lungs"]
    later = machine("later")  # whatever file it was made from, it has what was published
    assert rule_names(later) == ["thorax"]
    assert b.publish(b.proposal(), who="root", why="as edited") == 2
    for node in (a, later):
        node.take_over()
    assert (rule_names(a), rule_names(later)) == (["lungs"], ["lungs"])
    with pytest.raises(ConfigError, match="version 2 already"):
        a.publish(a.proposal(), who="root", why="nothing new")


def test_what_another_machine_published_is_not_replaced_unseen(machine: Make):
    a, b = machine("a"), machine("b")
    apply(a, "thorax")
    with pytest.raises(ConfigError, match="anna has published version 1"):
        apply(b, "lungs")
    with pytest.raises(ConfigError, match="--replace 1"):
        b.publish(b.proposal(), who="root", why="not seen")
    assert rule_names(b) == ["chest"]
    opened_with = rules_text(b.whole())
    b.take_over()
    with pytest.raises(ConfigError, match="changed meanwhile"):
        apply(b, "lungs", opened_with=opened_with)
    assert rule_names(b) == ["thorax"]


def test_of_two_that_publish_in_the_same_instant_one_is_told_of_the_other(
    machine: Make, monkeypatch: pytest.MonkeyPatch
):
    machines, both = {"thorax": machine("a"), "lungs": machine("b")}, threading.Barrier(2)

    def newest(connection: sa.Connection) -> PublishedRules | None:
        with suppress(threading.BrokenBarrierError):
            both.wait(0.5)  # until the other one has come as far, unless it is kept from that
        return newest_rules(connection)

    monkeypatch.setattr("node.operate.fleet_rules.newest_rules", newest)

    def publish(name: str) -> str:
        of = machines[name]
        of.path.write_text(of.whole().replace("chest", name))
        try:
            return str(of.publish(of.proposal(), who=name, why=""))
        except ConfigError as error:
            return str(error).partition(", which")[0]

    with ThreadPoolExecutor(2) as threads:
        told = list(threads.map(publish, machines))
    assert told in (["1", "thorax has published version 1"], ["lungs has published version 1", "1"])


def test_a_machine_that_cannot_take_rules_over_keeps_its_own_and_tries_again(
    machine: Make, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    a, b = machine("a"), machine("b")
    b.path.write_text(b.whole().replace(".own]", ".other]").replace('"own"', '"other"'))
    before, watch = b.whole(), RulesWatch(b, load(b.path))
    apply(a, "thorax")
    monkeypatch.setattr("node.operate.fleet_rules.AGAIN_SECONDS", 0.0)
    for _ in range(3):
        watch.look()
    assert b.whole() == before
    (said,) = [record.message for record in caplog.records if "not taken over" in record.message]
    assert "pipelines names 'own', which is not defined" in said
    with pytest.raises(ConfigError, match="says why it cannot"):
        apply(b, "lungs")
    b.path.write_text(b.whole() + '[pipelines.own]\nfactory = "pipelines.nodule:create"\n')
    watch.look()
    assert rule_names(b) == ["thorax"]


def test_processes_have_their_supervisor_read_the_file_again_once(machine: Make, monkeypatch: pytest.MonkeyPatch):
    told: list[str] = []
    monkeypatch.setattr("node.operate.fleet_rules.notify", told.append)
    a, b = machine("a"), machine("b")
    of_a, of_b = RulesWatch(a, load(a.path)), RulesWatch(b, load(b.path))
    for watch in (of_a, of_b):
        watch.look()
    apply(a, "thorax")
    for watch in (of_a, of_b, of_a, of_b):
        watch.look()
    assert [message.split()[0] for message in told] == ["RULES=1", "RULES=1"]
    RulesWatch(a, load(a.path)).look()  # of the process that was started with the new rules
    assert len(told) == 2
    old = load(a.path).model_copy(update={"rules": ()})  # of one that was given the configuration a moment before
    RulesWatch(a, old).look()
    assert told[2] == told[0]


def test_a_file_that_may_not_be_written_is_neither_changed_nor_given_a_version(
    machine: Make, monkeypatch: pytest.MonkeyPatch
):
    a = machine("a")
    monkeypatch.setattr(FleetRules, "is_writable", False)
    with pytest.raises(PlatformError, match="may not write"):
        apply(a, "thorax")
    assert (rule_names(a), a.versions(), a.take_over().number) == (["chest"], [], 0)


def change(of: FleetRules, old: str, new: str) -> None:
    assert old in of.whole()
    of.path.write_text(of.whole().replace(old, new))


def state(of: FleetRules) -> FileState:
    with of.engine.connect() as connection:
        (file_state,) = [row for row in file_states(connection) if row.file.endswith(str(of.path))]
    return file_state


SERIES = "[series]\nquiet_seconds = {seconds}   # as the scanners need\n\n[web]"


def test_all_shared_values_are_published_and_what_is_of_a_machine_stays(machine: Make):
    a, b = machine("a"), machine("b")
    change(b, "[web]", SERIES.format(seconds=12.0))
    own = b.whole().partition("[web]")[2]
    change(a, "[web]", SERIES.format(seconds=45.0) + "\nhosts = ['a']")
    change(a, "# Chest", "[pipelines.own.options]\nthreshold = 0.7\n[retention]\ndays = 3.0\n# Chest")
    proposal = a.proposal()
    assert proposal.differences["series.quiet_seconds"] == ("-", "45.0")
    assert a.publish(proposal, who="root", why="slow scanners") == 1
    before = b.whole()
    assert b.take_over().settings_number == 1
    config = load(b.path)
    assert (config.series.quiet_seconds, config.retention.days) == (45.0, 3.0)
    assert config.pipelines["own"].options == {"threshold": 0.7}
    assert "45.0   # as the scanners need" in b.whole()
    assert b.whole().partition("[web]")[2].startswith(own.rstrip("\n"))
    assert a.untaken(a.published()) == b.untaken(b.published()) == {}
    assert [path.read_text() for path in b.folder.glob("*.toml")] == [before]


def test_rules_that_an_editor_applies_leave_the_other_shared_values_as_they_were_published(machine: Make):
    a, b = machine("a"), machine("b")
    change(a, "[web]", SERIES.format(seconds=45.0))
    a.publish(a.proposal(), who="root", why="slow scanners")
    b.take_over()
    change(b, "45.0", "99.0")  # in the file alone, and reported
    apply(b, "thorax")
    a.take_over()
    assert (rule_names(a), load(a.path).series.quiet_seconds) == (["thorax"], 45.0)
    assert b.untaken(b.published()) == {"series.quiet_seconds": ("99.0", "45.0")}
    later = machine("later")
    assert (rule_names(later), load(later.path).series.quiet_seconds) == (["thorax"], 45.0)


def test_a_machine_with_another_model_refuses_and_says_which_value_until_its_administrator_confirms(
    machine: Make, monkeypatch: pytest.MonkeyPatch
):
    a, b = machine("a"), machine("b")
    monkeypatch.setattr("node.operate.fleet_rules.AGAIN_SECONDS", 0.0)
    change(a, ':create"', ':create"\nweights = "/opt/new"\n[pipelines.own.options]\nsha256 = "00ff"')
    a.publish(a.proposal(), who="root", why="a new model")
    before, watch = b.whole(), RulesWatch(b, load(b.path))
    watch.look()
    assert (b.whole(), state(b).is_newest) == (before, False)
    assert 'pipelines.own.options.sha256 = "00ff", here -' in state(b).fault
    assert state(b).differences["pipelines.own.weights"] == ["-", '"/opt/new"']
    with b.engine.connect() as connection:
        (text,) = [text for key, text in _configuration(connection).items() if str(b.path) in key]
    assert "pipelines.own.weights" in text
    assert b.take_over(confirmed_by="root", seen=1).is_newest
    watch.look()
    assert (load(b.path).pipelines["own"].weights, state(b).fault, state(b).differences) == (Path("/opt/new"), "", {})


def test_what_a_machine_alone_has_of_a_removed_pipeline_is_named_and_kept(
    machine: Make, caplog: pytest.LogCaptureFixture
):
    a, b = machine("a"), machine("b")
    a.publish(a.proposal(), who="root", why="all")
    b.take_over()
    change(b, "[web]", '[pipelines.own.options.run]\ncpus = 4\nengine = "podman"\n\n[web]')
    change(a, "[pipelines.own]", "[pipelines.other]")
    change(a, 'pipelines = ["own"]', 'pipelines = ["other"]')
    a.publish(a.proposal(), who="root", why="a pause")
    before = b.whole()
    b.take_over()
    assert "cpus" not in b.whole()
    assert f"{b.path} has no ['pipelines.own.options.run'] any more" in caplog.text
    assert before in [path.read_text() for path in b.folder.glob("*.toml")]


def test_a_file_that_would_not_be_valid_is_not_changed_and_the_key_and_the_reason_are_reported(machine: Make):
    a, b = machine("a"), machine("b")
    change(b, "[web]", "[ae]\nmax_associations = 4\n\n[web]")
    change(a, "[web]", '[ae]\ncallers = [{ title = "CT1", reserved_associations = 4 }]\n\n[web]')
    a.publish(a.proposal(), who="root", why="a scanner")
    before = b.whole()
    RulesWatch(b, load(b.path)).look()
    assert b.whole() == before
    assert "4 associations are reserved; max_associations must be greater" in state(b).fault


def test_an_earlier_version_is_published_again(machine: Make):
    a, b = machine("a"), machine("b")
    for old, new in (("[web]", SERIES.format(seconds=45.0)), ("45.0", "60.0")):
        change(a, old, new)
        a.publish(a.proposal(), who="root", why="slow scanners")
    b.take_over()
    assert load(b.path).series.quiet_seconds == 60.0
    with a.engine.connect() as connection:
        listed = [(version.number, version.why) for version in published_versions(connection, 9)]
    assert listed == [(2, "slow scanners"), (1, "slow scanners")]
    with pytest.raises(NotFoundError, match="no version 9"):
        a.proposal(9)
    back = b.proposal(1)
    assert back.differences == {"series.quiet_seconds": ("60.0", "45.0")}
    assert b.publish(back, who="root", why="back") == 3
    for node in (a, b):
        assert node.take_over().is_newest
        assert load(node.path).series.quiet_seconds == 45.0


def test_a_model_can_be_taken_back_and_waits_for_each_administrator_again(machine: Make):
    a, b = machine("a"), machine("b")
    for old, new in ((':create"', ':create"\n[pipelines.own.options]\nsha256 = "01"'), ('"01"', '"02"')):
        change(a, old, new)
        a.publish(a.proposal(), who="root", why="a model")
    assert a.publish(a.proposal(1), who="root", why="back") == 3
    for node in (a, b):
        with pytest.raises(ConfigError, match=r'(?s)sha256 = "01".*`ainode config take`'):
            node.take_over()
        node.take_over(confirmed_by="root", seen=3)
        assert load(node.path).pipelines["own"].options == {"sha256": "01"}


def test_what_was_published_after_somebody_looked_is_neither_confirmed_nor_replaced(machine: Make):
    a, b = machine("a"), machine("b")
    change(a, "[web]", SERIES.format(seconds=45.0))
    seen = a.proposal()
    apply(b, "thorax")
    a.take_over()  # by a process of the node, while the question is open
    with pytest.raises(ConfigError, match="anna has published version 1 meanwhile"):
        a.publish(seen, who="root", why="slow scanners")
    change(a, ':create"', '_2:create"')
    a.publish(a.proposal(), who="root", why="a program")
    with pytest.raises(ConfigError, match="published version 2 meanwhile"):
        b.take_over(confirmed_by="root", seen=1)
    assert load(b.path).pipelines["own"].factory == "pipelines.nodule:create"


def test_files_of_a_destination_have_a_name_on_each_machine_and_only_that_one(machine: Make):
    a, b = machine("a"), machine("b")
    cloud = '[destinations.cloud]   # ours\nurl = "https://cloud.example"\ntoken_file = "/{0}/token"   # secret\n\n'
    for node, name in ((a, "a"), (b, "b")):
        change(node, "[web]", f"{cloud.format(name)}[web]")
    change(a, '"chest"', '"thorax"')
    a.publish(a.proposal(), who="root", why="a name")
    b.take_over()
    assert (rule_names(b), cloud.format("b") in b.whole()) == (["thorax"], True)
    change(a, "/a/token", "/etc/shadow")
    change(a, "cloud.example", "evil.example")
    a.publish(a.proposal(), who="root", why="an attack")
    with pytest.raises(ConfigError, match="addresses of one with a token"):
        b.take_over()
    b.take_over(confirmed_by="root", seen=2)  # who was shown the address
    assert (load(b.path).destinations["cloud"].token_file, b.untaken(b.published())) == ("/b/token", {})


def test_an_older_version_of_the_node_takes_over_and_publishes_rules_and_nothing_else(machine: Make):
    a, old = machine("a"), machine("old")
    change(a, "[web]", SERIES.format(seconds=45.0))
    a.publish(a.proposal(), who="root", why="slow scanners")
    with begin_immediate(a.engine) as connection:  # as version 27 of the tables knows them
        text = connection.scalar(sa.text("SELECT text FROM published_rules ORDER BY number DESC LIMIT 1"))
        old.path.write_text(with_rules_text(old.whole(), text))
        connection.execute(sa.text("UPDATE taken_rules SET number = 1 WHERE file LIKE '%old%'"))
        statement = "INSERT INTO published_rules (number, at, who, why, text) VALUES (2, 0, 'old', '', :text)"
        connection.execute(sa.text(statement), {"text": text.replace("chest", "thorax")})
    a.take_over()
    assert (rule_names(a), load(a.path).series.quiet_seconds) == (["thorax"], 45.0)
    old.take_over()  # after its upgrade
    assert (rule_names(old), load(old.path).series.quiet_seconds) == (["thorax"], 45.0)


def test_a_machine_that_has_gone_is_not_shown(machine: Make):
    a = machine("a")
    a.publish(a.proposal(), who="root", why="first")
    RulesWatch(a, load(a.path)).look()
    assert state(a).is_as_published
    with begin_immediate(a.engine) as connection:
        connection.execute(sa.text("UPDATE taken_rules SET reported_at = reported_at - 3600"))
        assert file_states(connection) == []
