"""Whatever loads a model or names its package runs nothing of it outside of a confined process."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from bundles import write_bundle
from click.testing import CliRunner
from dicom_files import ct_series, write

from node.__main__ import main
from node.config import load
from node.isolation import abi
from node.pipeline import content_digest
from node.web.pipelines_page import _card

PACKAGE = """
import pathlib
try:
    pathlib.Path({mark!r}).touch()
except OSError:
    pass
"""
FACTORY = """
import os, sys, time
def create(*, weights, device, options):
    match options["does"]:
        case "raise": raise KeyError("missing")
        case "raise-escapes": raise ValueError("line\\n\\x1b[2Jnext")
        case "exit": sys.exit(0)
        case "end": os._exit(7)
        case "hang": time.sleep(600)
"""
ENDS = {
    "raise": "KeyError: 'missing'",
    "raise-escapes": r"cannot be loaded: line\n\x1b[2Jnext",
    "exit": "cannot be loaded: SystemExit: 0",
    "end": "ended with status 7",
}
pytestmark = pytest.mark.skipif(abi() < 1, reason="this kernel has no Landlock")


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    """A file that nobody makes but a hostile model."""
    return tmp_path / "mark"


@pytest.fixture
def config(tmp_path: Path, mark: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Pipelines of a hostile package, and a bundle whose configuration runs a command."""
    package = tmp_path / "site" / "hostile_package"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(PACKAGE.format(mark=str(mark)))
    (package / "inner.py").write_text(FACTORY)
    monkeypatch.syspath_prepend(str(package.parent))
    for name in ("hostile_package", "hostile_package.inner"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    bundle = write_bundle(tmp_path / "bundle")
    inference = bundle / "configs" / "inference.json"
    settings = json.loads(inference.read_text())
    settings["detector_ops"] = [f"$__import__('os').system('touch {mark}')"]
    inference.write_text(json.dumps(settings))
    tables = "".join(
        f'[pipelines.{does}]\nfactory = "hostile_package.inner:create"\noptions = {{ does = "{does}" }}\n'
        for does in ENDS
    )
    path = tmp_path / "config.toml"
    path.write_text(
        f'[ae]\naddress = "127.0.0.1"\nport = 1\n[storage]\nfolder = "{tmp_path / "node"}"\nmin_free_gib = 0.0\n'
        f'[devices]\nuse = ["cpu"]\ncpu_threads = 1\n[jobs]\nrun_timeout_seconds = 240\n{tables}'
        f'[pipelines.bundle]\nfactory = "pipelines.monai_bundle:create"\nweights = "{bundle}"\n'
        f'options = {{ sha256 = "{content_digest(bundle)}" }}\n'
    )
    return path


def ainode(*arguments: object) -> Any:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_check_loads_models_confined_and_says_how_each_fails(config: Path, mark: Path) -> None:
    done = ainode("check", "--json", "--config", config)
    assert isinstance(done.exception, SystemExit), done.exception
    lines = {line["name"].removeprefix("pipeline "): line for line in json.loads(done.stdout)}
    for does, words in ENDS.items():
        assert not lines[does]["good"]
        assert words in lines[does]["found"]
        assert lines[does]["found"].isprintable()
    assert lines["bundle"]["good"], lines["bundle"]["found"]
    assert not mark.exists()


def test_the_list_of_pipelines_loads_them_confined(config: Path, mark: Path) -> None:
    done = ainode("pipelines", "--json", "--config", config)
    entries = {entry["name"]: entry for entry in json.loads(done.stdout)}
    for does, words in ENDS.items():
        assert words in entries[does]["error"]
    assert entries["bundle"]["needs"] == {"modalities": ["CT"], "min_slices": 2}
    assert not mark.exists()


@pytest.mark.parametrize("command", ["check", "pipelines"])
def test_loading_has_a_time_limit(config: Path, command: str) -> None:
    beginning, _, _ = config.read_text().replace("seconds = 240", "seconds = 3").partition('"raise"')
    config.write_text(f'{beginning}"hang" }}\n')
    done = ainode(command, "--config", config)
    assert "is not loaded after 3 s and was killed" in done.output
    assert isinstance(done.exception, SystemExit | None), done.exception


@pytest.mark.parametrize("pipeline", ["bundle", "raise"])
def test_a_trial_runs_confined(config: Path, mark: Path, tmp_path: Path, pipeline: str) -> None:
    write(ct_series(n=4, size=16), tmp_path / "in")
    ainode("try", "--config", config, pipeline, tmp_path / "in")
    assert not mark.exists()


def test_a_model_card_is_read_without_importing_its_package(config: Path, mark: Path, tmp_path: Path) -> None:
    (tmp_path / "site" / "hostile_package" / "MODEL_CARD.md").write_text("Good for everything.")
    assert "Good for everything" in ainode("models", "card", "--config", config, "raise").output
    context: Any = SimpleNamespace(config=load(config))
    assert "Good for everything" in _card(context, "raise")
    assert not mark.exists()


def test_models_are_loaded_on_the_configured_device(config: Path) -> None:
    config.write_text(
        config.read_text().replace('use = ["cpu"]', 'use = ["cuda:63"]').partition("[pipelines")[0]
        + "[pipelines.nodule]\n"
    )
    done = ainode("pipelines", "--config", config)
    assert "cuda:63" in done.output
