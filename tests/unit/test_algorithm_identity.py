"""Results that can differ never share a UID: every option of every pipeline and adapter is part of the identity.

Driven by the definitions of the options: a new option without another value here fails the test.
"""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from analyses import NOTHING, analysis, source_of
from bundles import write_bundle
from dicom_files import ct_series
from nnunet_models import write_results

import pipelines.brain
import pipelines.denoise
import pipelines.denoise.pipeline
import pipelines.model_file
import pipelines.monai_bundle
import pipelines.monai_bundle.options
import pipelines.nnunet.pipeline
import pipelines.nodule
import pipelines.nodule.options
import pipelines.tumor
import pipelines.tumor.pipeline
from node.pipeline import Algorithm, content_digest
from node.results.uids import analysis_key
from pipelines.device import Portions
from pipelines.nnunet.results_folder import ResultsFolder
from pipelines.options import read_options

pytestmark = pytest.mark.filterwarnings("default")  # MONAI announces its own deprecations
DIGITS = "0123456789abcdef" * 4
SPLEEN = ["78961009", "SCT", "Spleen"]
BALL = {"channel": 1, "label": "Ball", "category": ["123037004", "SCT", "Anatomical Structure"], "type": SPLEEN}


@dataclasses.dataclass(frozen=True)
class Subject:
    """A pipeline, its options, and another valid value for each that has no other by its type."""

    identity: Callable[[Path, dict[str, Any]], Algorithm]
    names: tuple[str, ...]
    given: dict[str, Any] = dataclasses.field(default_factory=dict)
    others: dict[str, Any] = dataclasses.field(default_factory=dict)
    elsewhere: tuple[str, ...] = ()
    """Not in the parameters: the digest of the weights and, by the version, a configuration of nnU-Net."""


def built_in(package: Any, options: type, **others: Any) -> Subject:
    """Of a pipeline of this project, whose options have defaults."""
    own: dict[str, Any] = {f.name: f.default for f in dataclasses.fields(options)}
    changed = {
        name: not v if isinstance(v, bool) else v + 1 if isinstance(v, int) else v * 0.9 for name, v in own.items()
    }
    return Subject(
        identity=lambda _, table: package.create(weights=None, device="cpu", options=table).algorithm,
        names=tuple(own),
        others=changed | others,
    )


def of_model_file(folder: Path, table: dict[str, Any]) -> Algorithm:
    path = folder / "model.ts"
    torch.jit.script(torch.nn.Conv3d(1, 3, 1)).save(str(path))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return pipelines.model_file.create(weights=path, device="cpu", options={"sha256": digest, **table}).algorithm


def of_bundle(folder: Path, table: dict[str, Any]) -> Algorithm:
    path = write_bundle(folder / "bundle", inputs=len(table.get("inputs", "1")))
    shutil.copy(path / "configs" / "inference.json", path / "configs" / "other.json")
    if "classes" in table:  # which only a promptable bundle has
        script = "class Prompted:\n    def __call__(self, images, network, point_coords, point_labels, class_vector): 0"
        (path / "scripts" / "prompted.py").write_text(script)
        table = {**table, "overrides": {"inferer": {"_target_": "scripts.prompted.Prompted"}}}
    options = {"sha256": content_digest(path), **table}
    return pipelines.monai_bundle.create(weights=path, device="cpu", options=options).algorithm


def of_results_folder(folder: Path, table: dict[str, Any]) -> Algorithm:
    labels = {"background": 0, "liver": 1}
    weights = [{"w": torch.zeros(1)}, {"w": torch.ones(1)}]
    path = write_results(folder / "results", weights=weights, labels=labels)
    for fold in path.glob("fold_*"):
        shutil.copy(fold / "checkpoint_final.pth", fold / "checkpoint_best.pth")
    read = read_options(pipelines.nnunet.pipeline.Options, {"sha256": content_digest(path), **table})
    results = ResultsFolder(
        path, sha256=read.sha256, folds=read.folds, checkpoint=read.checkpoint, unpickle=read.unpickle
    )
    return pipelines.nnunet.pipeline.algorithm_of(results, read, mirroring=bool(read.mirroring), device="cpu")


MODEL_FILE = {
    "name": "Ball", "version": "1", "modality": "CT", "spacing_mm": [1.5, 1.5, 1.5], "roi": [16, 16, 16],
    "window": [0.0, 200.0], "segments": [BALL],
}  # fmt: skip
SUBJECTS = {
    "nodule": built_in(pipelines.nodule, pipelines.nodule.options.Options),
    "tumor": built_in(pipelines.tumor, pipelines.tumor.pipeline.Options),
    "denoise": built_in(pipelines.denoise, pipelines.denoise.pipeline.Options),
    "brain": Subject(
        identity=lambda _, table: pipelines.brain.create(weights=None, device="cpu", options=table).algorithm, names=()
    ),
    "model file": Subject(
        identity=of_model_file,
        names=tuple(f.name for f in dataclasses.fields(pipelines.model_file.options.Options)),
        given=MODEL_FILE,
        others={
            "name": "Other", "version": "2", "modality": "MR", "spacing_mm": [1.5, 1.5, 1.6], "roi": [16, 16, 24],
            "window": [0.0, 201.0], "segments": [BALL | {"channel": 2}], "orientation": "FPL", "activation": "sigmoid",
            "looked_for": ["Ball"],
            "crop": {"to": ["organs:Liver"], "margin_mm": 5.0},
        },
        elsewhere=("sha256",),
    ),
    "bundle": Subject(
        identity=of_bundle,
        names=tuple(pipelines.monai_bundle.options.Options.model_fields),
        others={
            "config": "other", "overrides": {"preprocessing#transforms#4#a_max": 201}, "min_score": 0.6,
            "inputs": ["t1", "this"], "structures": {"spleen": ["1", "99TEST", "My spleen"]}, "unpickle": True,
            "looked_for": ["spleen"], "modality": "MR", "classes": ["spleen"],
            "crop": {"to": ["organs:Liver"], "margin_mm": 5.0},
        },
        elsewhere=("sha256",),
    ),
    "nnunet": Subject(
        identity=of_results_folder,
        names=tuple(pipelines.nnunet.pipeline.Options.model_fields),
        others={
            "folds": ["1"], "checkpoint": "checkpoint_best.pth", "mirroring": True, "orientation": "FPL",
            "modality": "CT", "inputs": ["t1"], "structures": {"liver": SPLEEN}, "unpickle": True,
            "looked_for": ["liver"], "postprocessing": False,
            "crop": {"to": ["organs:Liver"], "margin_mm": 5.0},
        },
        elsewhere=("sha256", "configuration"),
    ),
}  # fmt: skip
EVERY = [
    (which, name) for which, subject in SUBJECTS.items() for name in subject.names if name not in subject.elsewhere
]


@pytest.fixture
def uid_of(tmp_path: Path) -> Callable[[Algorithm], str]:
    source = source_of(tmp_path / "scan", ct_series(3, 16))
    return lambda algorithm: analysis_key(analysis(NOTHING, algorithm=algorithm), source)


@pytest.mark.parametrize(("which", "name"), EVERY)
def test_every_option_changes_the_parameters_and_the_uids(
    tmp_path: Path, uid_of: Callable[[Algorithm], str], which: str, name: str
) -> None:
    subject = SUBJECTS[which]
    assert name in subject.others, f"{which} has the new option {name}: give it another value above"
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    before = subject.identity(tmp_path / "a", subject.given)
    after = subject.identity(tmp_path / "b", subject.given | {name: subject.others[name]})
    assert before.parameters != after.parameters
    alike = dataclasses.replace(after, name=before.name, version=before.version, weights_sha256=before.weights_sha256)
    assert uid_of(before) != uid_of(alike), "by the parameters alone"


@pytest.mark.parametrize("which", SUBJECTS)
def test_precision_device_and_versions_are_part_of_the_identity(tmp_path: Path, which: str) -> None:
    subject = SUBJECTS[which]
    algorithm = subject.identity(tmp_path, subject.given)
    assert algorithm.weights_sha256
    assert algorithm.version
    assert algorithm.parameters["device"] == "cpu"
    wanted = {"precision"} if which in ("nodule", "tumor", "denoise", "brain") else {"adapter", "library"}
    assert wanted <= algorithm.parameters.keys()


def test_the_device_that_work_fell_back_to_is_named() -> None:
    portions = Portions("cuda:1", (2, 1))
    assert portions.device == "cuda"

    def work(_: int, device: str) -> str:
        if device != "cpu":
            raise MemoryError
        return device

    portions.run(work)
    assert portions.device == "cpu"
