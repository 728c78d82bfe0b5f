"""A mask of another pipeline that cannot come is named by ``ainode check``, before a job needs it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from bundles import write_bundle
from click.testing import CliRunner
from nnunet_models import write_results

from node.__main__ import main
from node.check.pipelines import masks
from node.config import Config, parse
from node.errors import ConfigError
from node.inference.pipeline_description import PipelineDescription
from node.inference.plugins import load_pipeline
from node.pipeline import content_digest
from pipelines.container.options import ContainerOptions
from pipelines.container.pipeline import ContainerPipeline
from pipelines.nnunet.results_folder import ResultsFolder

ORGANS = '[pipelines.organs]\nfactory = "pipelines.model_file:create"\n'
TUMOR = '[pipelines.tumor]\nfactory = "{factory}"\n{after}[pipelines.tumor.options]\n{options}\n'
CROP, CHANNEL = 'crop = { to = ["organs:Liver"] }', 'inputs = ["this", "organs:Liver"]'
CONTAINER = f"container:localhost/x@sha256:{'0' * 64}"
FACTORIES = [
    "pipelines.monai_bundle:create",
    "pipelines.nnunet:create",
    CONTAINER,
    "remote:http://127.0.0.1/v2/models/x",
    "remote:grpc://127.0.0.1:8001/v2/models/x",
]


def tumor(options: str, after: str = "", factory: str = "pipelines.nnunet:create") -> str:
    return TUMOR.format(factory=factory, after=f'after = "{after}"\n' if after else "", options=options)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            ORGANS + tumor('crop = { to = ["orgns:Liver"] }', "organs"),
            ("pipelines.tumor.options.crop.to names 'orgns:Liver', and there is no pipeline 'orgns' (did you mean "
            "'organs'?)" '; correct it, or add [pipelines.orgns] and after = "orgns"'),
        ),
        (
            ORGANS + tumor(CHANNEL),
            ("pipelines.tumor.options.inputs names 'organs:Liver', and 'organs' does not run before it; set after = "
            '"organs" in [pipelines.tumor]'),
        ),
        (
            ORGANS + '[pipelines.skull]\nfactory = "x:y"\n' + tumor(CHANNEL, "skull"),
            "'organs' does not run before it; set after = \"organs\" in [pipelines.skull]",
        ),
        (
            ORGANS + 'after = "skull"\n[pipelines.skull]\nfactory = "x:y"\n' + tumor(CROP, "skull"),
            "'organs' does not run before it; set after = \"organs\" in [pipelines.tumor]",
        ),
        (
            tumor('inputs = ["tumor:Lesion"]'),
            "pipelines.tumor.options.inputs names 'tumor:Lesion', a mask of its own result; name a pipeline that runs",
        ),
        (
            ORGANS + '[pipelines.organs.options]\ncrop = { to = ["tumor:Lesion"] }\n' + tumor(CROP, "organs"),
            "pipelines.organs.options.crop.to names 'tumor:Lesion', and 'tumor' itself runs after 'organs': a circle",
        ),
    ],
)  # fmt: skip
def test_a_mask_that_cannot_come_is_refused_with_field_value_and_remedy(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse(text)
    assert message in str(error.value)


@pytest.mark.parametrize("factory", FACTORIES)
def test_every_adapter_that_takes_masks_is_looked_at(factory: str) -> None:
    for options in (CROP, CHANNEL):
        with pytest.raises(ConfigError, match="does not run before it"):
            parse(ORGANS + tumor(options, factory=factory))
        parse(ORGANS + tumor(options, "organs", factory))


def test_masks_may_come_from_the_whole_chain_and_other_factories_mean_what_they_say() -> None:
    parse(ORGANS + '[pipelines.lobes]\nafter = "organs"\n' + tumor(CROP, "lobes"))
    parse(tumor('inputs = ["a:b"]\ncrop = { to = ["c:d"] }', factory="mine:create"))
    parse(tumor('inputs = "this"\ncrop = 3'))  # of a wrong form: its adapter says so


def described(config: Config, **labels: Any) -> list[str]:
    entries = [{"name": name, "segment_labels": of} for name, of in labels.items()]
    return [f"{result.name}: {result.found}; {result.remedy}" for result in masks(config, entries)]


def test_a_label_that_the_other_pipeline_does_not_outline_is_named_with_those_that_it_does() -> None:
    config = parse(ORGANS + tumor('crop = { to = ["organs:kidney_left", "organs:Liver"] }', "organs"))
    assert described(config, organs=["Liver", "kidney left"], tumor=None) == [
        (
            "pipeline tumor: crop.to names 'organs:kidney_left', and pipeline organs outlines no 'kidney_left' (did "
            "you mean 'kidney left'?); use one of its labels: Liver, kidney left"
        )
    ]
    many = [f"rib {number}" for number in range(30)]
    (line,) = described(config, organs=[*many, "Liver"])
    assert line.endswith("rib 18, rib 19, ...")
    assert described(config, organs=None) == [], "it states none"
    assert described(config) == [], "it cannot be loaded, which is said elsewhere"


def bright(folder: Path, **options: Any) -> dict[str, Any]:
    path = folder / "bright.pt"
    torch.jit.script(torch.nn.Identity()).save(str(path))
    kind = ["49755003", "SCT", "Morphologically Altered Structure"]
    return {
        "sha256": content_digest(path), "name": "Bright", "version": "1", "modality": "CT",
        "spacing_mm": [2.0, 1.0, 1.5], "roi": [16, 16, 16],
        "segments": [{"channel": 0, "label": "Spot", "category": kind, "type": kind}],
        **options,
    }  # fmt: skip


@pytest.mark.thorough
def test_check_loads_both_pipelines_and_compares_their_labels(tmp_path: Path) -> None:
    tables = [f'[storage]\nfolder = "{tmp_path / "node"}"\nmin_free_gib = 0.0\n[web]\nenabled = false\n']
    for name, more in (("organs", {}), ("tumor", {"crop": {"to": ["organs:Spott"]}})):
        options = "\n".join(f"{key} = {_toml(value)}" for key, value in bright(tmp_path, **more).items())
        after = 'after = "organs"\n' if more else ""
        tables.append(
            f'[pipelines.{name}]\nfactory = "pipelines.model_file:create"\nweights = "{tmp_path / "bright.pt"}"\n'
            f"{after}[pipelines.{name}.options]\n{options}\n"
        )
    path = tmp_path / "config.toml"
    path.write_text("".join(tables))
    result = CliRunner().invoke(main, ["check", "--config", str(path)])
    assert result.exit_code != 0
    said = " ".join(result.output.split())
    assert "crop.to names 'organs:Spott', and pipeline organs outlines no 'Spott' (did you mean 'Spot'?)" in said, said
    assert "use one of its labels: Spot" in said
    shown = CliRunner().invoke(main, ["pipelines", "--config", str(path)])
    assert "outlines: Spot" in shown.output, shown.output


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + " }"
    return "[" + ", ".join(map(_toml, value)) + "]" if isinstance(value, list) else repr(value).replace("'", '"')


@pytest.mark.filterwarnings("default")  # MONAI announces its own deprecations
def test_a_bundle_states_its_classes_as_its_segments_call_them(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "spleen")
    table = parse(
        f'[pipelines.x]\nfactory = "pipelines.monai_bundle:create"\nweights = "{folder}"\n'
        f'options = {{ sha256 = "{content_digest(folder)}" }}\n'
    ).pipelines["x"]
    pipeline = load_pipeline("x", table, "cpu")
    assert PipelineDescription.of(pipeline).segment_labels == ("spleen",)


def test_an_nnunet_folder_states_its_labels_and_no_background(tmp_path: Path) -> None:
    labels = {"background": 0, "liver": 1, "liver_tumor": 2, "ignore": 3}
    path = write_results(tmp_path / "results", weights=[{"w": torch.zeros(1)}], labels=labels)
    settings: Any = {"folds": [], "checkpoint": "checkpoint_final.pth", "unpickle": False}
    folder = ResultsFolder(path, sha256=content_digest(path), **settings)
    assert folder.segment_labels == ("liver", "liver tumor")


def test_a_container_states_its_labels_unless_it_may_return_a_segmentation() -> None:
    given = {"name": "x", "version": "1", "modality": "CT", "labels": {"1": "lung_left"}}
    for contract, wanted in (("plain", ("lung left",)), ("mercure", None)):
        options = ContainerOptions.model_validate({**given, "contract": contract})
        pipeline = ContainerPipeline(image="x:1", outside=None, device="cpu", options=options)  # type: ignore[arg-type]
        assert pipeline.segment_labels == wanted
