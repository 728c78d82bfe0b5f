"""The verbs: help, errors with their exit status, words and JSON."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner
from dicom_files import ct_series, write
from lesion_studies import with_lesion
from pydicom import dcmread

from node import errors
from node.__main__ import main
from node.ledger.destination_circuits import record_failure
from node.ledger.engine import begin_immediate, ledger_url, open_ledger
from node.ledger.operator_switches import pause_destination
from node.wording import NOTICE


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "config.toml"
    path.write_text(
        f'[storage]\nfolder = "{tmp_path / "data"}"\nmin_free_gib = 0.0\n[pipelines.bright]\n'
        'factory = "bright_pipeline:create"\n'
    )
    return str(path)


@pytest.mark.parametrize("verb", sorted(main.commands))
def test_every_verb_says_what_it_does(verb: str):
    told = CliRunner().invoke(main, [verb, "--help"])
    assert told.exit_code == 0
    assert verb in CliRunner().invoke(main, ["--help"]).output
    assert len(told.output.splitlines()) > 4


@pytest.fixture
def in_folder(config: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The folder of a series is the working directory."""
    write(ct_series(), tmp_path)
    monkeypatch.setenv("AINODE_CONFIG", config)
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("in_folder")
@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        (["status", "--config", "absent.toml"], errors.ConfigError, "absent.toml does not exist; run `ainode init`"),
        (["explain", "1.2.3"], errors.NotFoundError, "study 1.2.3: not in the ledger"),
        (["retry", "abc"], errors.NotFoundError, "job 'abc' is not in the ledger"),
        (["prioritize", "abc", "high"], errors.NotFoundError, "job 'abc' is not in the ledger"),
        (["cancel", "abc"], errors.NotFoundError, "job 'abc' is not in the ledger"),
        (["run", "--only", "reciever"], errors.ConfigError, "--only 'reciever': unknown role"),
        (["try", "nodul", "."], errors.NotFoundError, "(did you mean 'nodule'?)"),
    ],
)
def test_an_error_is_one_message_with_the_exit_status_of_its_class(
    arguments: list[str], kind: type[errors.NodeError], message: str
):
    done = CliRunner().invoke(main, arguments)
    assert isinstance(done.exception, SystemExit), done.exception
    assert done.exit_code == kind.exit_code
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.thorough
def test_a_process_that_fails_ends_with_the_message_and_the_exit_status(config: str, tmp_path: Path):
    done = run_with(tmp_path, "explain", "1.2.3", "--config", config)
    assert done.returncode == errors.NotFoundError.exit_code
    assert done.stderr.startswith("ainode: study 1.2.3: not in the ledger")
    assert (done.stdout, done.stderr.count("\n")) == ("", 1)


def test_the_list_of_verbs_of_every_group_cuts_no_line():
    def look(group: click.Group, path: list[str]) -> None:
        lines = CliRunner().invoke(main, [*path, "--help"], terminal_width=80).output.splitlines()
        assert [line for line in lines if line.endswith("...") and "Usage:" not in line] == []
        for name, verb in group.commands.items():
            if isinstance(verb, click.Group):
                look(verb, [*path, name])

    look(main, [])


def run_with(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ``ainode`` with modules of ``folder`` before all others."""
    return subprocess.run(
        [sys.executable, "-m", "node", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])},
        cwd=Path(__file__).parents[2],
        timeout=120,
        check=False,
    )


def test_a_node_without_a_required_package_names_it_once_and_starts_no_process(config: str, tmp_path: Path):
    metadata = tmp_path / "ainode-9.dist-info" / "METADATA"
    metadata.parent.mkdir()
    requirements = ("click>=1", "no-such-package<2,>=1.0", 'not-wanted; extra == "gpu"')
    requires = [f"Requires-Dist: {requirement}" for requirement in requirements]
    metadata.write_text("\n".join(["Metadata-Version: 2.1", "Name: ainode", "Version: 9", *requires]))
    done = run_with(tmp_path, "run", "--config", config)
    assert done.returncode == errors.PlatformError.exit_code
    assert done.stderr == "ainode: not installed: no-such-package; install ainode again with its dependencies\n"


def test_a_verb_whose_package_is_missing_says_so_in_one_line(config: str, tmp_path: Path):
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['sqlalchemy'] = None\n")
    done = run_with(tmp_path, "status", "--config", config)
    assert done.returncode == errors.PlatformError.exit_code
    assert done.stderr.startswith("ainode: ")
    assert "sqlalchemy" in done.stderr
    assert done.stderr.count("\n") == 1


def test_each_error_class_has_the_exit_status_that_the_tree_shows():
    tree = errors.__doc__ or ""
    for name, kind in vars(errors).items():
        if isinstance(kind, type) and issubclass(kind, errors.NodeError):
            line = next(line for line in tree.splitlines() if f"{name} " in line)
            assert f" {kind.exit_code} " in line, name


def test_status_tells_a_paused_destination_from_one_that_is_down(config: str, tmp_path: Path):
    CliRunner().invoke(main, ["status", "--config", config])  # makes the ledger
    engine = open_ledger(ledger_url("", tmp_path / "data"))
    with begin_immediate(engine) as connection:
        pause_destination(connection, "archive", "anna")
        for _ in range(3):
            record_failure(connection, "pacs", "does not answer", at=0.0, probe_at=60.0)
    engine.dispose()
    told = CliRunner().invoke(main, ["status", "--config", config]).output
    assert re.search(r"^PAUSED since .*: archive, until it is resumed\n  paused by anna$", told, re.MULTILINE)
    assert re.search(r"^DOWN since .*: pacs, next probe .*\n  does not answer$", told, re.MULTILINE)


def test_status_of_a_new_node_is_empty_in_words_and_json(config: str):
    output = CliRunner().invoke(main, ["status", "--config", config]).output
    assert ["jobs", "none"] in [line.split() for line in output.splitlines()]
    status = json.loads(CliRunner().invoke(main, ["status", "--json", "--config", config]).output)
    assert status["images"] == 0
    assert status["studies"] == []


@pytest.mark.thorough
def test_pipelines_lists_what_is_configured_and_what_keeps_one_away(config: str):
    with Path(config).open("a") as file:
        file.write('[pipelines.absent]\nfactory = "no_such_module:create"\n')
    entries = json.loads(CliRunner().invoke(main, ["pipelines", "--json", "--config", config]).output)
    assert entries[0]["algorithm"] == "Bright"
    assert entries[0]["needs"]["modalities"] == ["CT", "MR"]
    assert "no module 'no_such_module'" in entries[1]["error"]
    words = CliRunner().invoke(main, ["pipelines", "--config", config]).output
    assert "  needs: Modality CT or MR" in words
    assert not set("{}[]'") & set(words.partition("absent")[0]), "no Python"


def test_check_names_what_fails_and_the_remedy(config: str, free_port: int):
    with Path(config).open("a") as file:
        file.write(f'[destinations.pacs]\ntitle = "PACS"\nhost = "127.0.0.1"\nport = {free_port}\n')
    checked = CliRunner().invoke(main, ["check", "--json", "--config", config])
    assert checked.exit_code == 1
    answers = {entry["name"]: entry for entry in json.loads(checked.output)}
    assert answers["storage"]["good"]
    assert answers["pipeline bright"]["good"]
    assert not answers["destination pacs"]["good"]
    assert f"127.0.0.1:{free_port}" in answers["destination pacs"]["found"]


@pytest.mark.thorough
def test_try_runs_a_pipeline_on_a_folder_and_writes_its_objects(tmp_path: Path):
    write(ct_series(volume=with_lesion()), tmp_path / "study")
    write(ct_series(volume=np.full((2, 32, 32), -800)), tmp_path / "study")
    arguments = ["try", "bright_pipeline:create", str(tmp_path / "study"), "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(main, [*arguments, "--json"])
    assert done.exit_code == 0, done.output
    findings, unsuitable = json.loads(done.output)["series"]
    assert (findings["outcome"], findings["segments"]) == ("findings", ["Bright 1"])
    assert unsuitable["reason"] == "the series has 2 images, at least 3 are needed"
    written = [dcmread(path).Modality for path in (tmp_path / "out").rglob("*.dcm")]
    assert sorted(written) == ["CT"] * 6 + ["DOC", "OT", "SEG", "SR"]
    assert [path.read_bytes()[1:4] for path in (tmp_path / "out").rglob("*.png")] == [b"PNG"]
    told = CliRunner().invoke(main, arguments).output
    assert NOTICE in told
    assert "Outcome: findings." in told
    assert re.search(r"Bright 1: .*; Image \d+\n +Long axis \d+ mm; Short axis \d+ mm; Volume [\d.]+ m", told), told
