"""``ainode adopt``: from the folder of a model to a rule that tries it in shadow."""

from __future__ import annotations

import importlib.util
import json
import tomllib
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from bundles import rewritten, write_bundle
from click.testing import CliRunner, Result
from dicom_files import ct_series, mr_series, write
from nnunet_models import write_results
from reader_edits import cube, workstation_seg

from node.__main__ import main
from node.config import load
from node.errors import ConfigError, InputError, NotFoundError, PipelineError
from node.ledger.acceptances import acceptances
from node.operate.rules_file import FOLDER as VERSIONS
from node.operate.rules_file import RulesFile
from node.service import open_storage
from node.studies.source import SourceSeries

pytestmark = [pytest.mark.thorough, pytest.mark.usefixtures("standing_models")]

HAS_NNUNET = importlib.util.find_spec("nnunetv2") is not None
CONFIG = """\
[storage]
folder = "{folder}"

[pipelines.nodule]
factory = "pipelines.nodule:create"   # the champion

[destinations.disk]
folder = "{folder}/out"

# Chests.
[[rules]]
name = "chest CT"
pipelines = ["nodule"]
destinations = ["disk"]
[rules.match]
Modality = "CT"
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(CONFIG.format(folder=tmp_path / "node"))
    return path


def adopt(config: Path, source: Path, *options: str, answer: str = "") -> Result:
    arguments = ["adopt", str(source), "--config", str(config), *map(str, options)]
    return CliRunner().invoke(main, arguments, input=answer)


def proposal_of(config: Path, name: str) -> str:
    return (config.parent / "node" / "adopted" / name / "proposal.toml").read_text()


def card_of(config: Path, name: str) -> str:
    return (config.parent / "node" / "adopted" / name / "MODEL_CARD.md").read_text()


def bright_series(folder: Path) -> Path:
    """A CT series with a cube of 300 HU in a volume of 0 HU: what the bundle of the tests calls a spleen."""
    volume = np.zeros((10, 32, 32), np.int16)
    volume[3:7, 10:20, 10:20] = 300
    write(ct_series(volume=volume), folder)
    return folder


def write_onnx(path: Path, metadata: dict[str, str]) -> Path:
    """A model of two channels, below and above half of the window, with properties."""
    weight, bias = np.array([[[[[-50.0]]]], [[[[50.0]]]]], np.float32), np.array([25.0, -25.0], np.float32)
    tensors = [onnx.numpy_helper.from_array(weight, "w"), onnx.numpy_helper.from_array(bias, "b")]
    image = onnx.helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, ["n", 1, "z", "y", "x"])
    logits = onnx.helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, ["n", 2, "z", "y", "x"])
    node = onnx.helper.make_node("Conv", ["image", "w", "b"], ["logits"])
    graph = onnx.helper.make_graph([node], "bright", [image], [logits], tensors)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)
    onnx.helper.set_model_props(model, metadata)
    onnx.save(model, path)
    return path


STATED = {
    "name": "Bright spleen",
    "modality": "CT",
    "spacing_mm": "[2.5, 1.0, 1.0]",
    "roi": "[16, 16, 16]",
    "window": "[0, 300]",
    "labels": '["background", "spleen"]',
    "license": "MIT",
}


@pytest.mark.thorough
def test_a_bundle_goes_from_its_folder_to_shadow_with_one_command(config: Path, tmp_path: Path) -> None:
    bundle, images = write_bundle(tmp_path / "from" / "spleen"), bright_series(tmp_path / "ct")
    result = adopt(config, bundle, "--series", str(images), "--yes")
    assert result.exit_code == 0, result.output
    assert "CT, 10 images: measured" in result.output
    assert "CPU seconds, peak memory" in result.output
    assert "passed the gate" in result.output
    changed = load(config)
    (rule,) = (rule for rule in changed.rules if rule.shadow)
    assert (rule.shadow, rule.pipelines, rule.destinations) == (("spleen",), (), ())
    assert rule.match["Modality"] == "CT"
    assert changed.pipelines["spleen"].options["structures"] == {"spleen": ["78961009", "SCT", "Spleen"]}
    checked = CliRunner().invoke(main, ["check", "--config", str(config)], env={"LANG": "C"})
    assert "ok   configuration: 2 rules, 2 pipelines" in checked.output
    assert "ok   pipeline spleen: organ segmentation of the tests 1.2.3" in checked.output
    decided = CliRunner().invoke(main, ["rules", "test", "--config", str(config), "--json", str(images)])
    (answer,) = json.loads(decided.stdout)
    shadows = [(route["pipeline"], route["destinations"]) for route in answer["routes"] if route["shadow"]]
    assert shadows == [("spleen", [])]


def test_the_change_is_a_version_of_the_rules_that_can_be_left_again(config: Path, tmp_path: Path) -> None:
    result = adopt(config, write_bundle(tmp_path / "from" / "spleen"), "--champion", "nodule", "--yes")
    assert result.exit_code == 0, result.output
    text = config.read_text()
    assert "# Chests.\n" in text
    assert "# the champion\n" in text
    assert load(config).rules[0].shadow == ("spleen",)
    file = RulesFile(path=config, folder=tmp_path / "node" / VERSIONS, reload=lambda: None)
    newest, first = file.versions()
    assert (newest.number, newest.why) == (2, "adopted model spleen in shadow")
    file.apply(first.text, instead_of=newest.text, who="somebody", why="back")
    assert load(config).rules[0].shadow == ()


@pytest.mark.thorough
def test_nothing_is_changed_unless_somebody_agrees(config: Path, tmp_path: Path) -> None:
    before, bundle = config.read_text(), write_bundle(tmp_path / "from" / "spleen")
    for answer in ("", "\n", "n\n"):
        result = adopt(config, bundle, answer=answer)
        assert (result.exit_code, config.read_text()) == (0, before)
        assert "was not changed; paste the proposal" in result.output
    assert tomllib.loads(before + proposal_of(config, "spleen"))["rules"][1]["shadow"] == ["spleen"]
    assert adopt(config, bundle, answer="y\n").exit_code == 0
    assert load(config).rules[1].shadow == ("spleen",)


@pytest.mark.thorough
def test_a_result_that_does_not_come_about_is_not_configured(config: Path, tmp_path: Path) -> None:
    before = config.read_text()
    write(mr_series(n=4, size=16), tmp_path / "mr")
    result = adopt(config, write_bundle(tmp_path / "from" / "spleen"), "--series", str(tmp_path / "mr"), "--yes")
    assert (result.exit_code, config.read_text()) == (InputError.exit_code, before)
    assert "analysed none of the 1 series (Modality is MR, needed is CT)" in result.output


@pytest.mark.thorough
def test_the_acceptance_test_runs_where_truth_is_given_and_its_figures_are_on_the_card(
    config: Path, tmp_path: Path
) -> None:
    images = bright_series(tmp_path / "ct")
    source = SourceSeries.read(sorted(images.iterdir()))
    truth = workstation_seg(source, {"spleen": cube((10, 32, 32), (3, 10, 10), (7, 20, 20))})
    (tmp_path / "truth").mkdir()
    truth.save_as(tmp_path / "truth" / "seg.dcm", enforce_file_format=True)
    bundle = write_bundle(tmp_path / "from" / "spleen")
    result = adopt(config, bundle, "--series", str(images), "--truth", str(tmp_path / "truth"), "--yes")
    assert result.exit_code == 0, result.output
    engine, _ = open_storage(load(config))
    with engine.connect() as connection:
        (report,) = acceptances(connection)
    assert f"acceptance report {report.id}" in result.output
    card = card_of(config, "spleen")
    assert "1 series (1 measured)" in card
    assert "whether the model was trained on any of them is not stated by the model" in card


def test_the_card_has_the_headings_of_the_shipped_ones_and_says_what_is_not_known(config: Path, tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "from" / "spleen")
    (bundle / "LICENSE").write_text("Apache License\n   Version 2.0, January 2004\n")
    adopt(config, bundle)
    card = card_of(config, "spleen")
    headings = {line for line in card.splitlines() if line.startswith("## ")}
    shipped = {
        line
        for path in Path(__file__).parents[2].glob("pipelines/*/MODEL_CARD.md")
        for line in path.read_text().splitlines()
    }
    assert headings - shipped == {"## On this machine"}
    assert "**Research use only. Not for diagnosis.**" in card
    assert "- Licence: Apache-2.0" in card
    assert "## Data\nnot stated by the model." in card
    assert "| spleen | 78961009 SCT Spleen |  |" in card
    assert "- Grid: 1.5 x 1.5 x 2 mm (pixdim" in card
    assert "## Network\nscripts.network.Brighter." in card
    assert 'license = "Apache-2.0"   # guess' in proposal_of(config, "spleen")
    shown = CliRunner().invoke(main, ["models", "card", "spleen", "--config", str(config)])
    assert "## Held-out figures" in shown.output


@pytest.mark.thorough
def test_a_card_that_somebody_completed_is_not_overwritten(config: Path, tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "from" / "spleen")
    adopt(config, bundle)
    adopt(config, bundle)
    folder = tmp_path / "node" / "adopted" / "spleen"
    assert sorted(path.name for path in folder.iterdir()) == ["MODEL_CARD.md", "proposal.toml"]
    completed = card_of(config, "spleen").replace("## Data\nnot stated by the model", "## Data\n60 studies")
    (folder / "MODEL_CARD.md").write_text(completed)
    assert "MODEL_CARD.new.md" in adopt(config, bundle).output
    assert card_of(config, "spleen") == completed


@pytest.mark.thorough
def test_an_onnx_file_that_states_its_options_is_tried_and_configured(config: Path, tmp_path: Path) -> None:
    model, images = write_onnx(tmp_path / "bright.onnx", STATED), bright_series(tmp_path / "ct")
    result = adopt(config, model, "--series", str(images), "--yes")
    assert result.exit_code == 0, result.output
    options = load(config).pipelines["bright"].options
    assert (options["modality"], options["roi"], options["window"]) == ("CT", [16, 16, 16], [0, 300])
    assert options["segments"][0]["type"] == ["78961009", "SCT", "Spleen"]
    assert "measured" in result.output


@pytest.mark.thorough
def test_what_an_onnx_file_does_not_state_is_asked_for_and_never_invented(config: Path, tmp_path: Path) -> None:
    model, before = write_onnx(tmp_path / "bright.onnx", {}), config.read_text()
    result = adopt(config, model, "--yes")
    assert (result.exit_code, config.read_text()) == (ConfigError.exit_code, before)
    for name in ("modality", "spacing_mm", "segments"):
        assert f"missing: {name}: the file does not" in result.output
        assert f"\n{name} =" not in result.output
    assert "each of the 2 channels of its answer" in result.output
    assert "roi = [96, 96, 96]   # guess: a usual size" in result.output
    spleen = '[{ channel = 1, label = "Spleen", category = ["123037004", "SCT", "Anatomical Structure"], '
    spleen += 'type = ["78961009", "SCT", "Spleen"] }]'
    given = ['modality="CT"', "spacing_mm=[2.5, 1.0, 1.0]", "window=[0, 300]", f"segments={spleen}"]
    result = adopt(config, model, *(part for option in given for part in ("--option", option)), "--yes")
    assert result.exit_code == 0, result.output
    assert load(config).pipelines["bright"].options["segments"][0]["label"] == "Spleen"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_torchscript_file_states_its_options_in_an_extra_file(config: Path, tmp_path: Path) -> None:
    class Bright(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.cat([0.5 - x, x - 0.5], 1) * 50

    stated = {"modality": "CT", "spacing_mm": [2.5, 1.0, 1.0], "window": [0, 300], "labels": {"1": "kidney_left"}}
    path = tmp_path / "kidney.ts"
    torch.jit.script(Bright()).save(str(path), _extra_files={"metadata.json": json.dumps(stated)})
    result = adopt(config, path, "--yes")
    assert result.exit_code == 0, result.output
    (segment,) = load(config).pipelines["kidney"].options["segments"]
    assert (segment["label"], segment["type"]) == ("kidney_left", ["64033007", "SCT", "Kidney"])


LABELS = {"background": 0, "kidney_left": 1, "liver_tumor": 2, "lens": 3, "blorb": 4, "myocardium": 5}


@pytest.mark.thorough
def test_names_of_an_nnunet_model_get_codes_or_a_comment(config: Path, tmp_path: Path) -> None:
    folder = tmp_path / "from" / "nnUNetTrainer__nnUNetPlans__3d_fullres"
    write_results(folder, weights=[{}], labels=LABELS)
    result = adopt(config, folder, "--name", "organs")
    text = proposal_of(config, "organs")
    assert tomllib.loads(text)["pipelines"]["organs"]["options"]["structures"] == {
        "kidney_left": ["64033007", "SCT", "Kidney"],
        "liver_tumor": ["108369006", "SCT", "Neoplasm"],
        "lens": ["78076003", "SCT", "Structure of lens of eye"],
    }
    assert '"Kidney"]\n' in text
    assert '"Neoplasm"]   # guess: the general code' in text
    assert '"Structure of lens of eye"]   # guess: the only code' in text
    assert "# blorb: no code was found; fill in [value, scheme, meaning]" in text
    assert "# myocardium: several codes have its words, choose one: [" in text
    card = card_of(config, "organs")
    assert "- Grid: 2 x 1.3 x 1.3 mm" in card
    assert "3 training cases" in card
    assert "`fold_0/checkpoint_final.pth`: `" in card
    if not HAS_NNUNET:
        assert "does not load yet" in result.output
        assert "ainode[nnunet]" in result.output
        assert adopt(config, folder, "--name", "organs", "--yes").exit_code == PipelineError.exit_code


@pytest.mark.thorough
def test_channels_become_companions_with_the_series_that_their_names_mean(config: Path, tmp_path: Path) -> None:
    channels = {"0": "T1", "1": "T1ce", "2": "T2", "3": "FLAIR"}
    folder = write_results(
        tmp_path / "from" / "brats", weights=[{}], labels={"background": 0, "edema": 1}, channels=channels
    )
    adopt(config, folder)
    proposed = tomllib.loads(proposal_of(config, "brats"))
    assert proposed["pipelines"]["brats"]["options"]["inputs"] == ["t1", "t1ce", "t2", "this"]
    (rule,) = proposed["rules"]
    assert (rule["match"]["Modality"], rule["match"]["sequence_type"]) == ("MR", "FLAIR")
    assert rule["companions"]["t1ce"]["match"] == {"sequence_type": "T1", "contrast_agent": "given"}
    result = adopt(config, folder, "--champion", "nodule")
    assert "missing: companions.t1: rule 'chest CT' lacks it" in result.output


@pytest.mark.thorough
def test_faults_are_one_sentence_with_the_exit_status_of_their_kind(config: Path, tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "from" / "spleen")
    other = adopt(config, bundle, "--champion", "nodul")
    assert (other.exit_code, "did you mean 'nodule'" in other.output) == (NotFoundError.exit_code, True)
    taken = adopt(config, bundle, "--name", "nodule")
    assert (taken.exit_code, "exists already; give another --name" in taken.output) == (ConfigError.exit_code, True)
    assert adopt(config, tmp_path / "absent").exit_code == InputError.exit_code
    wrong = adopt(config, bundle, "--option", "modality=CT")
    assert (wrong.exit_code, "such as 'modality=\"CT\"'" in wrong.output) == (ConfigError.exit_code, True)
    assert not (tmp_path / "node" / "models").exists()

    def without_modality(metadata: dict) -> None:
        metadata["network_data_format"]["inputs"]["image"]["modality"] = "none"

    lacking = rewritten(tmp_path, "metadata", without_modality)
    result = adopt(config, lacking, "--yes")
    assert (result.exit_code, "option modality is missing" in result.output) == (PipelineError.exit_code, True)
    assert adopt(config, lacking, "--option", 'modality="MR"', "--yes").exit_code == 0


@pytest.mark.thorough
def test_programs_get_everything_as_json(config: Path, tmp_path: Path) -> None:
    images = bright_series(tmp_path / "ct")
    result = adopt(config, write_bundle(tmp_path / "from" / "spleen"), "--series", str(images), "--json")
    document = json.loads(result.stdout)
    (series,) = document["trial"]["series"]
    assert series["cpu_seconds"] > 0
    assert (document["version"], document["missing"], document["fault"]) == (None, [], "")
    assert tomllib.loads(document["proposal"])["pipelines"]["spleen"]["weights"] == document["model"]["path"]
