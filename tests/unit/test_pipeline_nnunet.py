"""The adapter for nnU-Net v2: its results folders, its own predictor, our geometry.

What needs nnU-Net itself is skipped where the extra is not installed.
"""

from __future__ import annotations

import importlib.util
import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
import torch
from nnunet_models import layers, write_results
from volume_series import VolumeSeries

from node.errors import PlatformError, WeightsError
from node.pipeline import Volume, content_digest
from pipelines.nnunet import create
from pipelines.nnunet.postprocessing import apply_postprocessing
from pipelines.nnunet.results_folder import ResultsFolder

INSTALLED = importlib.util.find_spec("nnunetv2") is not None
needs_nnunet = pytest.mark.skipif(not INSTALLED, reason="the extra nnunet is not installed")
pytestmark = pytest.mark.filterwarnings("default")  # nnU-Net's own deprecations
LABELS = {"background": 0, "liver": 1, "liver_tumor": 2}


class Surprise:
    """What a stranger's pickle may hold."""

    def __reduce__(self):
        return (print, ("code of the file runs",))


def read(path: Path, **options) -> ResultsFolder:
    settings = {"folds": [], "checkpoint": "checkpoint_final.pth", "unpickle": False, "sha256": content_digest(path)}
    return ResultsFolder(path, **settings | options)


def load(path: Path, **options):
    return create(weights=path, device="cpu", options={"sha256": content_digest(path), **options})


def plain(tmp_path: Path, **settings) -> Path:
    return write_results(tmp_path / "results", **{"weights": [{"w": torch.zeros(1)}], "labels": LABELS, **settings})


def test_labels_and_regions_say_which_values_of_the_answer_are_theirs(tmp_path):
    regions = {"background": 0, "whole tumor": [1, 2], "tumor core": [2], "ignore": 3}
    assert list(read(plain(tmp_path, labels=regions)).labels()) == [("whole tumor", (1, 2)), ("tumor core", (2,))]


def test_a_checkpoint_that_runs_code_is_refused_unless_the_operator_allows_it(tmp_path, capsys):
    path = plain(tmp_path, extra=Surprise())
    with pytest.raises(ValueError, match="unpickle = true"):
        read(path)
    assert "code of the file" not in capsys.readouterr().out
    assert read(path, unpickle=True).trainer == "nnUNetTrainer"
    assert "code of the file" in capsys.readouterr().out


@pytest.mark.parametrize(("key", "name"), [("network_class_name", "os.system"), ("conv_op", "builtins.eval")])
def test_plans_name_networks_and_layers_and_no_other_function(tmp_path, key, name):
    path = plain(tmp_path)
    plans = json.loads((path / "plans.json").read_text())
    network = plans["configurations"]["3d_fullres"]["architecture"]
    (network if key in network else network["arch_kwargs"])[key] = name
    (path / "plans.json").write_text(json.dumps(plans))
    with pytest.raises(WeightsError, match=name):
        read(path)


@pytest.mark.parametrize(
    ("name", "content", "fault"),
    [
        ("plans.json", "[]", "plans.json cannot be read"),
        ("plans.json", "[" * 100_000, "plans.json cannot be read"),
        ("plans.json", '{"configurations": {"3d_fullres": []}}', r"\(configurations.3d_fullres: "),
        ("dataset.json", "{}", r"\(labels: Field required\)"),
        ("dataset.json", '{"labels": {"liver": {}}}', r"\(labels.liver"),
        ("dataset.json", '{"labels": {}, "channel_names": {"CT": "CT"}}', r"\(channel_names.CT"),
    ],
)
def test_plans_and_labels_of_another_form_are_named_with_their_place(tmp_path, name, content, fault):
    path = plain(tmp_path)
    (path / name).write_text(content)
    with pytest.raises(WeightsError, match=fault):
        read(path)


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"sha256": "0" * 64}, "SHA-256"),
        ({"folds": ["4"]}, "folds"),
        ({"checkpoint": "checkpoint_best.pth"}, "option checkpoint"),
    ],
)
def test_what_is_not_there_is_named(tmp_path, options, fault):
    with pytest.raises(WeightsError, match=fault):
        read(plain(tmp_path), **options)


def test_an_option_that_is_wrong_is_named(tmp_path):
    path = plain(tmp_path, channels={"0": "T1", "1": "FLAIR"})
    with pytest.raises(ValueError, match="orientation"):
        load(path, orientation="HPP")
    with pytest.raises(ValueError, match="takes 2 images"):
        load(path)


@pytest.mark.skipif(INSTALLED, reason="the extra nnunet is installed")
def test_without_the_extra_it_says_which_to_install(tmp_path):
    with pytest.raises(PlatformError, match=r"ainode\[nnunet\]"):
        load(plain(tmp_path))


def noisy_ball() -> Volume:
    affine = np.array([[0, 0, 1.1, -30], [0, 1.1, 0, -30], [2.5, 0, 0, -20], [0, 0, 0, 1]])
    index = np.stack(np.meshgrid(*(np.arange(n) for n in (18, 60, 56)), indexing="ij"), -1) * [2.5, 1.1, 1.1]
    ball = 150 * (np.linalg.norm(index - index.reshape(-1, 3).mean(axis=0), axis=-1) < 15)
    noise = np.random.default_rng(3).normal(0, 60, ball.shape)
    return Volume((ball + noise).astype(np.float32), affine, coordinate_system="PATIENT")


def random_weights(seed: int, outputs: int, inputs: int = 1, *, flat: bool = False) -> dict[str, torch.Tensor]:
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

    torch.manual_seed(seed)
    made = layers(flat=flat)
    return get_network_from_plans(
        made["network_class_name"], made["arch_kwargs"], made["_kw_requires_import"], inputs, outputs
    ).state_dict()


@needs_nnunet
@pytest.mark.parametrize("mirroring", [False, True])
def test_the_masks_equal_those_of_nnunets_own_chain_of_files(tmp_path, mirroring):
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    volume = noisy_ball()
    path = write_results(tmp_path / "results", weights=[random_weights(1, 3), random_weights(2, 3)], labels=LABELS)
    image = SimpleITK.GetImageFromArray(volume.array)
    image.SetSpacing([1.1, 1.1, 2.5])
    SimpleITK.WriteImage(image, tmp_path / "ball_0000.nii.gz")
    predictor = nnUNetPredictor(use_mirroring=mirroring, device=torch.device("cpu"), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(path), use_folds=None)
    predictor.predict_from_files_sequential([[str(tmp_path / "ball_0000.nii.gz")]], [str(tmp_path / "answer")])
    expected = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(tmp_path / "answer.nii.gz"))

    label_map = np.zeros_like(expected)
    for segment in load(path, mirroring=mirroring).run(VolumeSeries(volume)).all_segments:
        label_map[segment.voxels] = LABELS[segment.label.replace(" ", "_")]

    assert len(np.unique(expected)) > 1
    assert (label_map == expected).mean() >= 0.9999


NAMED = "nnUNetTrainer__nnUNetPlans__"
CASCADE = {"configuration": "3d_cascade_fullres"}


def cascade(tmp_path: Path, first: list, second: list, **settings) -> Path:
    folder = tmp_path / "Dataset900_Balls"
    for stage, weights in (("3d_lowres", first), ("3d_cascade_fullres", second)):
        place = folder / f"nnUNetTrainer__nnUNetPlans__{stage}"
        write_results(place, weights=weights, labels=LABELS, configuration=stage, cascade=True, **settings)
    return folder


@needs_nnunet
@pytest.mark.parametrize("folds", [1, 2])
def test_a_cascade_equals_nnunets_own_chain_of_files(tmp_path, folds):
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    volume = noisy_ball()
    first = [random_weights(seed, 3) for seed in range(1, 1 + folds)]
    second = [random_weights(seed, 3, inputs=3) for seed in range(5, 5 + folds)]
    folder = cascade(tmp_path, first, second)
    image = SimpleITK.GetImageFromArray(volume.array)
    image.SetSpacing([1.1, 1.1, 2.5])
    SimpleITK.WriteImage(image, tmp_path / "ball_0000.nii.gz")
    answers = {}
    for stage, before in (("3d_lowres", None), ("3d_cascade_fullres", "3d_lowres")):
        predictor = nnUNetPredictor(use_mirroring=False, device=torch.device("cpu"), allow_tqdm=False)
        (tmp_path / stage).mkdir()
        trained = folder / f"nnUNetTrainer__nnUNetPlans__{stage}"
        predictor.initialize_from_trained_model_folder(str(trained), use_folds=None)
        predictor.predict_from_files_sequential(
            [[str(tmp_path / "ball_0000.nii.gz")]],
            [str(tmp_path / stage / "ball")],
            folder_with_segs_from_prev_stage=None if before is None else str(tmp_path / before),
        )
        answers[stage] = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(tmp_path / stage / "ball.nii.gz"))
    expected = answers["3d_cascade_fullres"]

    pipeline = load(folder, **CASCADE, mirroring=False)
    label_map = np.zeros_like(expected)
    for segment in pipeline.run(VolumeSeries(volume)).all_segments:
        label_map[segment.voxels] = LABELS[segment.label.replace(" ", "_")]

    assert len(np.unique(answers["3d_lowres"])) > 1
    assert len(np.unique(expected)) > 1
    assert (expected != answers["3d_lowres"]).any()
    assert (label_map == expected).mean() >= 0.9999
    assert pipeline.algorithm.version == "nnUNetTrainer 3d_cascade_fullres"
    assert pipeline.algorithm.parameters["previous stage"] == f"3d_lowres folds {', '.join('01'[:folds])}"


def test_a_cascade_has_its_first_stage_next_to_it(tmp_path):
    weights = [{"w": torch.zeros(1)}]
    folder = cascade(tmp_path, weights, weights)
    assert read(folder, **CASCADE).previous.configuration == "3d_lowres"
    assert read(folder, configuration="3d_lowres").previous is None
    alone = folder / "nnUNetTrainer__nnUNetPlans__3d_cascade_fullres"
    with pytest.raises(WeightsError, match=r"needs nnUNetTrainer__nnUNetPlans__3d_lowres .* give the folder that hold"):
        read(alone)


def test_the_stages_of_a_cascade_are_those_of_one_training(tmp_path):
    weights = [{"w": torch.zeros(1)}]
    folder = cascade(tmp_path, weights, weights)
    first = folder / "nnUNetTrainer__nnUNetPlans__3d_lowres"
    dataset = json.loads((first / "dataset.json").read_text())
    (first / "dataset.json").write_text(json.dumps({**dataset, "labels": {"background": 0, "spleen": 1}}))
    with pytest.raises(WeightsError, match="other channels or labels"):
        read(folder, **CASCADE)


def test_a_cascade_whose_stages_name_one_another_is_refused(tmp_path):
    weights = [{"w": torch.zeros(1)}]
    folder = cascade(tmp_path, weights, weights)
    for file in folder.rglob("plans.json"):
        plans = json.loads(file.read_text())
        plans["configurations"]["3d_lowres"]["previous_stage"] = "3d_cascade_fullres"
        file.write_text(json.dumps(plans))
    with pytest.raises(WeightsError, match="cannot be the first stage"):
        read(folder, **CASCADE)


@needs_nnunet
def test_regions_become_overlapping_segments_and_channels_are_companions(tmp_path):
    regions = {"background": 0, "whole tumor": [1, 2], "tumor core": [2]}
    channels = {"0": "FLAIR", "1": "T1"}
    path = write_results(
        tmp_path / "results", weights=[random_weights(5, 2, inputs=2)], labels=regions, channels=channels
    )
    pipeline = load(path, inputs=["this", "t1"])
    assert pipeline.needs.modalities == {"MR"}
    series = VolumeSeries(noisy_ball(), modality="MR", companions={"t1": VolumeSeries(noisy_ball())})
    masks = {s.label: s.voxels for s in pipeline.run(series).all_segments}
    assert masks["whole tumor"].any()
    assert not (masks.get("tumor core", np.zeros(1, bool)) & ~masks["whole tumor"]).any()


def two_configurations(tmp_path: Path) -> Path:
    folder = tmp_path / "Dataset900_Balls"
    for configuration in ("2d", "3d_fullres"):
        place = folder / f"nnUNetTrainer__nnUNetPlans__{configuration}"
        write_results(place, weights=[{"w": torch.zeros(1)}], labels=LABELS, configuration=configuration)
    return folder


def test_of_several_configurations_one_is_named_by_the_operator(tmp_path):
    folder = two_configurations(tmp_path)
    with pytest.raises(ValueError, match=r"option configuration is missing: .* holds 2d, 3d_fullres; name one of them"):
        read(folder)
    assert read(folder, configuration="3d_fullres").configuration == "3d_fullres"
    assert read(folder, configuration="2d").configuration == "2d"
    with pytest.raises(ValueError, match=r"configuration = '3d_lowres': .* holds 2d, 3d_fullres"):
        read(folder, configuration="3d_lowres")


def test_a_single_configuration_must_be_the_one_that_the_operator_names(tmp_path):
    with pytest.raises(ValueError, match=r"configuration = '2d': .* holds '3d_fullres'"):
        read(plain(tmp_path), configuration="2d")


@pytest.mark.parametrize("best", [["3d_fullres"], ["2d", "3d_fullres"]])
def test_nnunets_own_choice_is_the_default_an_ensemble_too(tmp_path, best):
    folder = two_configurations(tmp_path)
    models = [{"configuration": name, "trainer": "nnUNetTrainer", "plans_identifier": "nnUNetPlans"} for name in best]
    document = {"best_model_or_ensemble": {"selected_model_or_models": models}}
    (folder / "inference_information.json").write_text(json.dumps(document))
    assert [member.configuration for member in read(folder).members] == best
    assert [member.configuration for member in read(folder, configuration=["3d_fullres"]).members] == ["3d_fullres"]


def test_plans_that_nnunet_copies_beside_its_results_are_no_configuration(tmp_path):
    folder = two_configurations(tmp_path)
    shutil.rmtree(folder / f"{NAMED}2d")
    for copied in (folder / f"{NAMED}3d_fullres" / "crossval_results_folds_0", ensemble_results(folder)):
        copied.mkdir(parents=True, exist_ok=True)
        for name in ("plans.json", "dataset.json"):
            shutil.copyfile(folder / f"{NAMED}3d_fullres" / name, copied / name)
    assert read(folder).configuration == "3d_fullres"


def test_configurations_of_two_trainers_are_told_apart_by_their_folder(tmp_path):
    folder = two_configurations(tmp_path)
    other = folder / "nnUNetTrainerOther__nnUNetPlans__2d"
    shutil.copytree(folder / f"{NAMED}2d", other)
    with pytest.raises(ValueError, match=r"'2d': it is that of .*; give the name of the folder"):
        read(folder, configuration="2d")
    assert read(folder, configuration=other.name).root == other
    both = read(folder, configuration=[f"{NAMED}2d", other.name])
    assert [member.root.name for member in both.members] == [f"{NAMED}2d", other.name]


def test_an_ensemble_is_of_different_trainings_of_one_data_set(tmp_path):
    folder = two_configurations(tmp_path)
    with pytest.raises(ValueError, match="names one of them twice"):
        read(folder, configuration=["2d", f"{NAMED}2d"])
    dataset = json.loads((folder / f"{NAMED}2d" / "dataset.json").read_text())
    labels = {"background": 0, "spleen": 1}
    (folder / f"{NAMED}2d" / "dataset.json").write_text(json.dumps({**dataset, "labels": labels}))
    with pytest.raises(WeightsError, match="other channels or labels"):
        read(folder, configuration=["2d", "3d_fullres"])
    with pytest.raises(ValueError, match="holds 3d_fullres; name one of them"):
        read(folder / f"{NAMED}3d_fullres", configuration=["2d", "3d_fullres"])


def ensemble_results(folder: Path) -> Path:
    return folder / "ensembles" / f"ensemble___{NAMED}2d___{NAMED}3d_fullres___0"


def test_the_postprocessing_of_an_ensemble_is_that_of_these_configurations(tmp_path):
    folder = two_configurations(tmp_path)
    for place, label in ((ensemble_results(folder), 2), (folder / f"{NAMED}2d" / "crossval_results_folds_0", 1)):
        place.mkdir(parents=True)
        (place / "postprocessing.json").write_text(json.dumps(largest(label)))
    assert read(folder, configuration=["2d", "3d_fullres"]).postprocessing == (((2,),),)
    assert read(folder, configuration=["3d_fullres", "2d"]).postprocessing == (((2,),),)
    assert read(folder, configuration="2d").postprocessing == (((1,),),)
    assert read(folder, configuration="3d_fullres").postprocessing == ()


def answer(folder: Path) -> np.ndarray:
    return SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(folder / "ball.nii.gz"))


@needs_nnunet
@pytest.mark.parametrize("labels", [LABELS, {"background": 0, "whole": [1, 2], "core": [2]}], ids=["labels", "regions"])
def test_an_ensemble_equals_nnunets_own_chain_of_files(tmp_path, labels):
    from nnunetv2.ensembling.ensemble import ensemble_folders
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
    from nnunetv2.postprocessing.remove_connected_components import apply_postprocessing_to_folder
    from nnunetv2.postprocessing.remove_connected_components import (
        remove_all_but_largest_component_from_segmentation as keep_largest,
    )

    volume, outputs = noisy_ball(), 3 if labels is LABELS else 2
    folder = tmp_path / "Dataset900_Balls"
    image = SimpleITK.GetImageFromArray(volume.array)
    image.SetSpacing([1.1, 1.1, 2.5])
    SimpleITK.WriteImage(image, tmp_path / "ball_0000.nii.gz")
    for name, seed in (("2d", 1), ("3d_fullres", 7)):
        weights = [random_weights(seed, outputs, flat=name == "2d")]
        write_results(folder / f"{NAMED}{name}", weights=weights, labels=labels, configuration=name, flat=True)
        predictor = nnUNetPredictor(use_mirroring=False, device=torch.device("cpu"), allow_tqdm=False)
        predictor.initialize_from_trained_model_folder(str(folder / f"{NAMED}{name}"), use_folds=None)
        (tmp_path / name).mkdir()
        files = [[str(tmp_path / "ball_0000.nii.gz")]], [str(tmp_path / name / "ball")]
        predictor.predict_from_files_sequential(*files, save_probabilities=True)
    alone = [
        SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(tmp_path / n / "ball.nii.gz")) for n in ("2d", "3d_fullres")
    ]
    ensemble_folders([str(tmp_path / name) for name in ("2d", "3d_fullres")], str(tmp_path / "mean"), num_processes=1)
    (ensemble_results(folder)).mkdir(parents=True)
    (ensemble_results(folder) / "postprocessing.json").write_text(json.dumps(largest(2)))
    given = largest(2)["postprocessing_kwargs"]
    own = (str(tmp_path / "2d" / "plans.json"), str(tmp_path / "2d" / "dataset.json"))
    apply_postprocessing_to_folder(str(tmp_path / "mean"), str(tmp_path / "done"), [keep_largest], given, *own, 1)
    mean, expected = (
        SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(tmp_path / n / "ball.nii.gz")) for n in ("mean", "done")
    )
    assert all((mean != label_map).any() for label_map in alone), "the mean is another answer than each of the two"
    assert (mean != expected).any(), "the postprocessing changes something"

    for wanted, postprocessing in ((mean, False), (expected, True)):
        options = {"configuration": ["2d", "3d_fullres"], "mirroring": False, "postprocessing": postprocessing}
        pipeline = load(folder, **options)
        findings = pipeline.run(VolumeSeries(volume))
        for segment in findings.all_segments:
            values = labels[segment.label.replace(" ", "_")]
            assert (segment.voxels == np.isin(wanted, values)).mean() >= 0.9999
    assert pipeline.algorithm.version == "nnUNetTrainer 2d + 3d_fullres"
    assert pipeline.algorithm.parameters["averaged with"] == f"{NAMED}3d_fullres folds 0"


def postprocessed(tmp_path: Path, document: object | None) -> Path:
    path = plain(tmp_path)
    folder = path / "crossval_results_folds_0"
    folder.mkdir()
    (folder / "postprocessing.pkl").write_bytes(pickle.dumps(Surprise()))
    if document is not None:
        (folder / "postprocessing.json").write_text(json.dumps(document))
    return path


def largest(*labels_or_regions) -> dict[str, object]:
    return {
        "postprocessing_fns": ["remove_all_but_largest_component_from_segmentation"] * len(labels_or_regions),
        "postprocessing_kwargs": [{"labels_or_regions": label} for label in labels_or_regions],
    }


def test_a_pickled_postprocessing_is_refused_and_never_read(tmp_path, capsys):
    path = postprocessed(tmp_path, None)
    with pytest.raises(WeightsError, match=r"postprocessing.pkl is a pickle, .* postprocessing = false"):
        read(path)
    assert read(path, postprocessing=False).postprocessing == ()
    assert "code of the file" not in capsys.readouterr().out


def test_postprocessing_is_read_from_json_and_removes_smaller_components(tmp_path):
    steps = read(postprocessed(tmp_path, largest([1, 2], [[1, 2]], 2))).postprocessing
    assert steps == (((1,), (2,)), ((1, 2),), ((2,),))
    labels = np.zeros((4, 8, 8), np.uint8)
    labels[0:3, 0:3, 0:3] = 1
    labels[2, 2, 3] = 2  # touches the block
    labels[3, 6:8, 6:8] = 2  # lies apart, and is larger than the other 2
    together = apply_postprocessing(labels, steps[:1])
    assert (together == 2).sum() == 1
    assert (together == 1).sum() == 27
    alone = apply_postprocessing(labels, steps[2:])
    assert (alone[3] == 2).sum() == 4
    assert (alone == 2).sum() == 4


@pytest.mark.parametrize(
    "document",
    [
        {},
        [],
        {"postprocessing_fns": ["os.system"], "postprocessing_kwargs": [{"command": "true"}]},
        {**largest([1]), "postprocessing_kwargs": []},
        {**largest([1]), "postprocessing_kwargs": [{"labels_or_regions": [1], "background_label": 3}]},
        largest("one"),
    ],
)
def test_postprocessing_that_is_not_understood_is_refused(tmp_path, document):
    with pytest.raises(WeightsError, match="postprocessing = false"):
        read(postprocessed(tmp_path, document))
