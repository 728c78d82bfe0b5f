"""`ainode config` on two machines that share a ledger: what an administrator sees, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from node.__main__ import main
from node.config import load
from node.errors import ConfigError, NotFoundError
from node.ledger.engine import open_ledger
from node.operate.fleet_rules import FleetRules, RulesWatch

TEXT = """\
[storage]
folder = "{folder}"
ledger_url = "{url}"
[series]
quiet_seconds = {seconds}   # of our scanners
[destinations.pacs]
title = "PACS"
host = "pacs"
port = 104
[[rules]]
name = "all"
send = ["pacs"]
[rules.match]
Modality = "CT"
"""


class Machine:
    def __init__(self, folder: Path, url: str, seconds: float) -> None:
        self.folder = folder
        folder.mkdir()
        self.path = folder / "config.toml"
        self.path.write_text(TEXT.format(folder=folder, url=url, seconds=seconds))

    def config(self, *arguments: str, typed: str = "") -> Result:
        verb, *more = arguments
        return CliRunner().invoke(main, ["config", verb, "--config", str(self.path), *more], input=typed)

    def look(self) -> None:
        """As a process of the node does."""
        config = load(self.path)
        engine = open_ledger(config.storage.ledger_url)
        RulesWatch(FleetRules.of(engine, self.path, self.folder), config).look()
        engine.dispose()

    def change(self, old: str, new: str) -> None:
        self.path.write_text(self.path.read_text().replace(old, new))


@pytest.fixture
def machines(tmp_path: Path) -> tuple[Machine, Machine]:
    url = f"sqlite:///{tmp_path}/ledger.sqlite"
    return Machine(tmp_path / "a", url, 30.0), Machine(tmp_path / "b", url, 12.0)


def test_publish_shows_and_asks_diff_names_values_and_take_confirms(machines: tuple[Machine, Machine]):
    a, b = machines
    assert "nothing has been published yet" in a.config("diff").output
    dry = a.config("publish", "--dry-run").output
    assert ('  rules.all.send: - -> ["pacs"]\n' in dry, "Reason" in dry) == (True, False)
    published = a.config("publish", typed="yes\nour standard\n").output
    assert "as version 1" in published
    differs = b.config("diff").output
    assert "version 1, published by" in differs
    assert "our standard" in differs
    assert "  series.quiet_seconds: 12.0, 30.0\n" in differs
    a.look()
    b.look()
    assert load(b.path).series.quiet_seconds == 30.0
    assert "# of our scanners" in b.path.read_text()
    b.change("30.0", "20.0")
    a.change("[series]", '[notify]\nsmtp_host = "mail.example"\n[series]')
    assert a.config("publish", "--yes", "--reason", "mail").exit_code == 0
    b.look()
    seen = json.loads(a.config("diff", "--json").output)
    (of_b,) = [machine for machine in seen["machines"] if machine["file"].endswith(str(b.path))]
    assert (of_b["number"], of_b["is_newest"], seen["published"], seen["differences"]) == (1, False, 2, {})
    assert of_b["differences"] == {
        "notify.smtp_host": ["-", '"mail.example"'],
        "series.quiet_seconds": ["20.0", "30.0"],
    }
    assert "cannot take over the newest: notify.smtp_host" in b.config("diff").output
    assert "has version" not in b.config("take", typed="no\n").output
    assert load(b.path).series.quiet_seconds == 20.0
    assert "has version 2" in b.config("take", typed="yes\n").output
    assert (load(b.path).notify.smtp_host, load(b.path).series.quiet_seconds) == ("mail.example", 30.0)


def test_versions_are_listed_shown_and_published_again(machines: tuple[Machine, Machine]):
    a, _ = machines
    a.config("publish", "--yes", "--reason", "first")
    a.change("30.0", "45.0")
    a.config("publish", "--yes", "--reason", "second")
    listed = a.config("versions").output.splitlines()
    assert [line.partition(",")[0] for line in listed] == ["version 2", "version 1"]
    shown = a.config("versions", "2").output
    assert ("quiet_seconds = 45.0" in shown, 'name = "all"' in shown) == (True, True)
    assert a.config("versions", "7").exit_code == NotFoundError.exit_code
    back = a.config("publish", "--version", "1", "--yes", "--reason", "back").output
    assert "series.quiet_seconds: 45.0 -> 30.0" in back
    a.look()
    assert load(a.path).series.quiet_seconds == 30.0


def test_who_removes_a_pipeline_hears_what_every_machine_loses(machines: tuple[Machine, Machine]):
    a, b = machines
    own = '[pipelines.own]\nfactory = "pipelines.nodule:create"\n'
    for machine in machines:
        machine.change("[series]", f"{own}[series]")
    b.change("[series]", "[pipelines.own.options.run]\ncpus = 4\n[series]")
    engine = open_ledger(load(a.path).storage.ledger_url)
    file = FleetRules.of(engine, a.path, a.folder)
    file.publish(file.proposal(), who="root", why="first")  # without loading it
    engine.dispose()
    b.look()
    a.change(own, "")
    result = a.config("publish", "--yes", "--reason", "a pause")
    assert "every machine loses its own values of these pipelines, too: own." in result.output
    b.look()
    assert "cpus" not in b.path.read_text()
    *_, kept = sorted((b.folder / "rules-versions").glob("*.toml"))
    assert load(kept).pipelines["own"].options["run"] == {"cpus": 4}


def test_an_address_that_is_a_secret_is_published_as_the_name_of_its_file_only(machines: tuple[Machine, Machine]):
    a, b = machines
    a.change("[series]", '[notify]\nwebhook = "https://chat.example/s3cret"\n[series]')
    refused = a.config("publish", "--yes", "--reason", "chat")
    assert refused.exit_code == ConfigError.exit_code
    assert "webhook_file" in f"{refused.exception}{refused.output}"
    assert "s3cret" not in f"{refused.exception}{refused.output}"
    a.change('webhook = "https://chat.example/s3cret"', 'webhook_file = "/etc/ainode/webhook"')
    assert a.config("publish", "--yes", "--reason", "chat").exit_code == 0
    b.look()
    assert 'notify.webhook_file = "/etc/ainode/webhook", here -' in b.config("diff").output
    b.change("[series]", '[notify]\nwebhook_file = "/etc/b/webhook"\n[series]')
    b.look()
    assert "has everything that was published" in b.config("diff").output
    assert load(b.path).notify.webhook_file == Path("/etc/b/webhook")


@pytest.mark.thorough
def test_a_pipeline_that_cannot_be_loaded_is_not_published(machines: tuple[Machine, Machine]):
    a, _ = machines
    a.change("[series]", '[pipelines.own]\nfactory = "no_such_module:create"\n[series]')
    result = a.config("publish", "--yes", "--reason", "a pipeline")
    assert isinstance(result.exception, ConfigError) or result.exit_code == ConfigError.exit_code
    assert "no_such_module" in f"{result.exception}{result.output}"
    assert "nothing has been published yet" in a.config("diff").output


def test_one_machine_with_sqlite_has_nobody_to_publish_to(tmp_path: Path):
    path = tmp_path / "config.toml"
    path.write_text(f'[storage]\nfolder = "{tmp_path}"\n')
    result = CliRunner().invoke(main, ["config", "diff", "--config", str(path)])
    assert result.exit_code == ConfigError.exit_code
    assert not (tmp_path / "ledger.sqlite").exists()
