"""Bringing other people's models in."""

from __future__ import annotations

import functools
import http.server
import json
import shutil
import threading
import tomllib
from pathlib import Path

import pytest
from bundles import rewritten, write_bundle
from click.testing import CliRunner
from nnunet_models import write_results

from node.__main__ import main
from node.config import PipelineTable, parse
from node.errors import ConfigError, InputError, NotFoundError, WeightsError
from node.inference.model_store import add, card, verify
from node.inference.plugins import load_pipeline
from node.pipeline import content_digest


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "from" / "spleen_ct")


@pytest.fixture
def site(tmp_path: Path):
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path / "from")
    handler.log_message = lambda *_: None
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.thorough
def test_what_add_prints_is_a_configuration_that_loads_the_bundle(bundle, tmp_path):
    config = tmp_path / "config.toml"
    config.write_text(f'[storage]\nfolder = "{tmp_path / "node"}"\n')
    printed = CliRunner().invoke(main, ["models", "add", str(bundle), "--config", str(config)], catch_exceptions=False)
    lines = printed.output[printed.output.index("[pipelines") :]
    tables = parse(lines).pipelines
    assert load_pipeline("spleen_ct", tables["spleen_ct"], "cpu").algorithm.version == "1.2.3"
    assert tomllib.loads(lines)["pipelines"]["spleen_ct"]["weights"] == str(tmp_path / "node" / "models" / "spleen_ct")


def added(source: Path, tmp_path: Path, *options: str):
    """What `ainode models add` answers in a configuration whose storage is ``tmp_path / "node"``."""
    config = tmp_path / "config.toml"
    config.write_text(f'[storage]\nfolder = "{tmp_path / "node"}"\n')
    return CliRunner().invoke(main, ["models", "add", str(source), "--config", str(config), *options])


@pytest.mark.thorough
def test_add_loads_the_model_and_says_for_which_series_it_is(bundle, tmp_path):
    assert "It loads: organ segmentation of the tests 1.2.3, for series with Modality CT; at least 2 slices." in (
        added(bundle, tmp_path).output
    )


@pytest.mark.thorough
def test_a_model_that_cannot_be_run_is_refused_and_not_kept(tmp_path):
    def generative(metadata):
        metadata["network_data_format"]["inputs"] = {"latent": {"type": "noise"}}

    answer = added(rewritten(tmp_path, "metadata", generative), tmp_path)
    assert answer.exit_code == WeightsError.exit_code
    assert "was not added: bundle bundle: metadata.json says inputs.latent.type = noise" in answer.output
    assert not [path for path in tmp_path.glob("node/models/**/*") if path.name != ".drafts"]
    absent = rewritten(tmp_path / "absent", "metadata", lambda _: None)
    (absent / "models" / "model.pt").unlink()
    assert f"weights: {absent}/models/model.pt does not exist" in added(absent, tmp_path).output


@pytest.mark.thorough
def test_a_model_that_lacks_an_option_is_added_with_what_it_lacks(tmp_path):
    def without_modality(metadata):
        metadata["network_data_format"]["inputs"]["image"]["modality"] = "none"

    path = rewritten(tmp_path, "metadata", without_modality)
    answer = added(path, tmp_path)
    assert answer.exit_code == 0
    assert "It does not load yet: option modality is missing" in answer.output
    document = json.loads(added(path, tmp_path, "--json", "--name", "other").stdout)
    assert (document["description"], document["fault"][:26]) == (None, "option modality is missing")
    assert Path(document["path"]).is_dir()


def test_a_download_is_kept_only_with_the_digest_that_was_asked_for(bundle, site, tmp_path):
    archive = Path(shutil.make_archive(str(bundle), "zip", bundle.parent, bundle.name))
    with pytest.raises(ConfigError, match="--sha256"):
        add(f"{site}/spleen_ct.zip", tmp_path, sha256=None, name=None)
    with pytest.raises(WeightsError, match="nothing was added"):
        add(f"{site}/spleen_ct.zip", tmp_path, sha256="0" * 64, name=None)
    with pytest.raises(InputError, match="404"):
        add(f"{site}/gone.zip", tmp_path, sha256="0" * 64, name=None)
    assert not [path for path in tmp_path.glob("models/**/*") if path.name != ".drafts"]
    model = add(f"{site}/spleen_ct.zip", tmp_path, sha256=content_digest(archive), name="spleen")
    assert (model.path, model.factory) == (tmp_path / "models" / "spleen.zip", "pipelines.monai_bundle:create")
    assert model.path.read_bytes() == archive.read_bytes()


def test_a_name_that_is_taken_replaces_nothing(bundle, tmp_path):
    add(str(bundle), tmp_path, sha256=None, name=None)
    with pytest.raises(ConfigError, match="exists"):
        add(str(bundle), tmp_path, sha256=None, name=None)


@pytest.mark.parametrize("name", ["notes.txt", "empty.zip"])
def test_what_is_no_model_is_refused_and_not_kept(tmp_path, name):
    (tmp_path / name).write_text("")
    with pytest.raises(InputError, match="neither a MONAI Bundle"):
        add(str(tmp_path / name), tmp_path, sha256=None, name=None)
    assert not [path for path in tmp_path.glob("models/**/*") if path.name != ".drafts"]


def test_verify_names_every_model_that_is_not_as_pinned(bundle, tmp_path):
    model = add(str(bundle), tmp_path, sha256=None, name=None)
    text = "".join(
        f'[pipelines.{name}]\nfactory = "{model.factory}"\nweights = "{path}"\n[pipelines.{name}.options]\n{options}\n'
        for name, path, options in (
            ("right", model.path, f'sha256 = "{model.sha256}"'),
            ("other", model.path, f'sha256 = "{"0" * 64}"'),
            ("unpinned", model.path, ""),
            ("gone", tmp_path / "gone", f'sha256 = "{model.sha256}"'),
        )
    )
    faults = {name: fault for name, _, fault in verify(parse(text))}
    assert faults["right"] == ""
    assert "pinned is 000" in faults["other"]
    assert "not pinned" in faults["unpinned"]
    assert faults["gone"] == "does not exist; `ainode models add SOURCE` puts a model in its place"
    config = tmp_path / "config.toml"
    config.write_text(text)
    answer = CliRunner().invoke(main, ["models", "verify", "--json", "--config", str(config)])
    assert answer.exit_code == WeightsError.exit_code
    assert len(json.loads(answer.stdout)) == 4


def test_a_card_is_the_bundles_readme_or_the_packages_model_card(bundle):
    tables = parse(
        f'[pipelines.spleen]\nfactory = "pipelines.monai_bundle:create"\nweights = "{bundle}"\n[pipelines.nodule]\n'
        '[pipelines.plain]\nfactory = "json:loads"\n'
    ).pipelines
    assert "A bundle of the tests" in card("spleen", tables["spleen"])
    assert "Not for diagnosis" in card("nodule", tables["nodule"])
    with pytest.raises(NotFoundError, match="no model card"):
        card("plain", tables["plain"])


@pytest.mark.parametrize("content", ["", "[1]", "[" * 100_000, "null"])
def test_a_card_of_a_bundle_whose_metadata_cannot_be_read_names_the_file(bundle, content):
    table = PipelineTable(factory="pipelines.monai_bundle:create", weights=bundle)
    (bundle / "configs" / "metadata.json").write_text(content)
    with pytest.raises(WeightsError, match=r"configs/metadata\.json: cannot be read"):
        card("spleen", table)


@pytest.mark.parametrize("packed", [False, True])
def test_a_results_folder_of_nnunet_is_known_by_its_plans(tmp_path, packed):
    path = write_results(tmp_path / "from" / "liver", weights=[], labels={"background": 0, "liver": 1})
    source = shutil.make_archive(str(path), "zip", path) if packed else str(path)
    assert add(source, tmp_path, sha256=None, name=None).factory == "pipelines.nnunet:create"


def test_the_list_names_what_is_configured_installed_and_unused(bundle, tmp_path):
    used = add(str(bundle), tmp_path / "node", sha256=None, name="used")
    add(str(bundle), tmp_path / "node", sha256=None, name="unused")
    config = tmp_path / "config.toml"
    config.write_text(
        f'[storage]\nfolder = "{tmp_path / "node"}"\n[pipelines.spleen]\nfactory = "{used.factory}"\n'
        f'weights = "{used.path}"\n'
    )
    command = ["models", "list", "--config", str(config)]
    printed = CliRunner().invoke(main, [*command, "--json"], catch_exceptions=False).stdout
    models = {model["name"]: (model["configured"], model["factory"], model["weights"]) for model in json.loads(printed)}
    assert models["spleen"] == (True, used.factory, str(used.path))
    assert models["nodule"] == (False, "pipelines.nodule:create", None)
    assert models["unused"] == (False, "", str(used.path.with_name("unused")))
    assert "used" not in models
    assert "packaged weights" in CliRunner().invoke(main, command, catch_exceptions=False).stdout
