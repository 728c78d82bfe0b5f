"""What is proposed for a model: codes of its structures, series of its channels. Nothing is made up."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import pytest

from node.adopt.channel_series import channel_series
from node.adopt.metadata import ModelMetadata
from node.adopt.model_metadata import metadata_of, read_metadata
from node.adopt.structure_codes import structure_code
from node.adopt.table_lines import line_of
from node.errors import InputError
from node.pipeline.structure_names import PRIVATE_SCHEME


@pytest.mark.parametrize(
    ("label", "value"),
    [
        ("spleen", "78961009"),
        ("kidney_left", "64033007"),
        ("Right Kidney", "64033007"),
        ("IVC", "64131007"),
        ("left ventricle", "87878005"),
        ("optic_nerve_right", "18234004"),
        ("parotid_gland_left", "45289007"),
        ("vertebrae_L5", "49668003"),
    ],
)
def test_a_name_that_means_just_one_structure_gets_its_code_without_a_guess(label: str, value: str) -> None:
    proposed = structure_code(label)
    assert proposed.code is not None
    assert (proposed.code.value, proposed.code.scheme_designator, proposed.guess) == (value, "SCT", "")


@pytest.mark.parametrize(("label", "value"), [("lens", "78076003"), ("liver_tumor", "108369006")])
def test_the_best_match_is_marked_as_a_guess(label: str, value: str) -> None:
    proposed = structure_code(label)
    assert proposed.code is not None
    assert (proposed.code.value, bool(proposed.guess)) == (value, True)


@pytest.mark.parametrize("label", ["blorb", "pons", "1", "", "hip", "myocardium", "label_7", "or"])
def test_a_name_without_a_code_gets_none_and_never_a_private_or_a_wrong_one(label: str) -> None:
    proposed = structure_code(label)
    assert proposed.code is None
    assert all(code.scheme_designator != PRIVATE_SCHEME for code in proposed.candidates)


def test_every_meaning_fits_into_code_meaning() -> None:
    candidates = structure_code("myocardium").candidates
    assert candidates
    assert all(len(code.meaning) <= 64 and "(" not in code.meaning for code in candidates)


def test_the_code_of_the_user_wins() -> None:
    proposed = structure_code("spleen", ["1", "99LOCAL", "Mine"])
    assert proposed.code is not None
    assert (proposed.code.value, proposed.guess) == ("1", "")


def of(*channels: str, modality: str = "MR") -> ModelMetadata:
    return ModelMetadata(channels=channels, modality=modality)


def test_channels_that_name_their_sequences_become_companions_beside_flair() -> None:
    series = channel_series(of("T1", "t1gd", "T2w", "FLAIR"), None)
    assert series.inputs == ("t1", "t1gd", "t2w", "this")
    assert series.match == {"sequence_type": "FLAIR"}
    assert series.companions["t1gd"]["contrast_agent"] == "given"
    assert series.companions["t1"]["contrast_agent"] == ["not given", "unknown"]


@pytest.mark.parametrize("channels", [("image", "image"), ("T1", "noise"), ("T1", "t1")])
def test_channels_that_do_not_say_what_they_are_have_to_be_named(channels: tuple[str, ...]) -> None:
    series = channel_series(of(*channels), None)
    assert (series.inputs, series.companions) == ((), {})
    assert "do not say which series they are" in series.missing[0]


def test_inputs_of_the_user_are_the_companions() -> None:
    series = channel_series(of("image", "image", "image"), ["flair", "this", "organs:Liver"])
    assert series.companions == {"flair": {"sequence_type": "FLAIR"}}
    assert series.missing == ()


def test_a_ct_model_asks_for_no_sequence() -> None:
    assert channel_series(of("CT", modality="CT"), None).match == {}
    assert channel_series(of("T1"), None).match["sequence_type"] == "T1"


def test_text_of_a_model_stays_a_value() -> None:
    assert line_of('a "key"', 'x"\n[web]') == '"a \\"key\\"" = "x\\"\\n[web]"'


HOSTILE = {
    "deep": "[" * 100_000,
    "no object": "[]",
    "other types": '{"network_data_format": {"inputs": [1], "outputs": "x"}, "labels": 7, "name": {"a": 1}}',
    "no JSON": "\0",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_metadata_that_cannot_be_read_are_a_fault_and_no_crash(text: str, tmp_path: Path) -> None:
    (tmp_path / "configs").mkdir()
    for name in ("configs/metadata.json", "configs/inference.json", "plans.json", "dataset.json"):
        (tmp_path / name).write_text(text)
    for factory in ("pipelines.monai_bundle:create", "pipelines.nnunet:create"):
        with suppress(InputError):
            assert read_metadata(tmp_path, factory).labels == {}


def test_a_text_of_a_model_is_one_line_of_bounded_length(tmp_path: Path) -> None:
    (tmp_path / "configs").mkdir()
    answer = {"outputs": {"pred": {"channel_def": {"1": "a\nb" * 100}}}}
    document = {"name": "x\n[web]\x1b[31m" * 1000, "network_data_format": answer}
    (tmp_path / "configs" / "metadata.json").write_text(json.dumps(document))
    metadata = metadata_of(tmp_path, "pipelines.monai_bundle:create")
    assert metadata.name.isprintable()
    assert len(metadata.name) <= 700
    assert all(label.isprintable() and len(label) <= 100 for label in metadata.labels.values())
