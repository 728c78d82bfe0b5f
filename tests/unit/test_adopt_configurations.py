"""What is proposed of a data set of nnU-Net with several trainings: what nnU-Net chose, or a question."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from nnunet_models import write_results

from node.adopt.metadata import ModelMetadata
from node.adopt.model_card import CardFigures, card_text
from node.adopt.nnunet_metadata import nnunet_metadata
from node.adopt.packed_model import PackedModel
from node.adopt.proposal import Proposal, proposal_for
from node.adopt.tables_text import tables_text
from node.inference.model_store import Model


def cross_validated(folder: Path, chosen: tuple[str, ...]) -> Path:
    """Two configurations as a cross-validation leaves them, with what ``nnUNetv2_find_best_configuration`` adds."""
    for configuration in ("2d", "3d_fullres"):
        place = folder / f"nnUNetTrainer__nnUNetPlans__{configuration}"
        write_results(place, weights=[{}], labels={"background": 0, "spleen": 1}, configuration=configuration)
    # As in real folders, plans and predictions also lie where nothing was trained, and come first by name.
    for place in (
        folder / "ensembles" / "ensemble___a",
        folder / "nnUNetTrainer__nnUNetPlans__2d" / "crossval_results",
    ):
        place.mkdir(parents=True)
        (place / "plans.json").write_text("{}")
        (place / "case_1.nii.gz").write_bytes(b"patient")
    if chosen:
        models = [
            {"configuration": name, "trainer": "nnUNetTrainer", "plans_identifier": "nnUNetPlans"} for name in chosen
        ]
        document = {"best_model_or_ensemble": {"selected_model_or_models": models}}
        (folder / "inference_information.json").write_text(json.dumps(document))
    return folder


def proposed(folder: Path, **given: object) -> tuple[ModelMetadata, Proposal]:
    metadata = nnunet_metadata(PackedModel(folder))
    model = Model(name="balls", path=folder, factory="pipelines.nnunet:create", sha256="0" * 64)
    return metadata, proposal_for(model, metadata, given)


@pytest.mark.parametrize(
    ("chosen", "written"),
    [(("2d", "3d_fullres"), 'configuration = ["2d", "3d_fullres"]'), (("3d_fullres",), 'configuration = "3d_fullres"')],
)
def test_what_nnunet_found_to_be_best_is_proposed_an_ensemble_too(
    tmp_path: Path, chosen: tuple[str, ...], written: str
) -> None:
    metadata, proposal = proposed(cross_validated(tmp_path / "Dataset900_Balls", chosen))
    assert f"{written}\n" in tables_text(proposal), "without a guess"
    assert proposal.missing == ()
    assert [structure.label for structure in proposal.structures] == ["spleen"]
    assert (metadata.version, metadata.grid.split(" (")[0]) == (" + ".join(chosen), "2 x 1.3 x 1.3 mm")


def test_configurations_of_which_nnunet_chose_none_are_asked_for(tmp_path: Path) -> None:
    folder = cross_validated(tmp_path / "Dataset900_Balls", ())
    (missing,) = proposed(folder)[1].missing
    assert missing.startswith("configuration: the folder holds 2d, 3d_fullres,")
    assert "--option 'configuration=\"2d\"'" in missing
    proposal = proposed(folder, configuration="2d")[1]
    assert proposal.missing == ()
    assert 'configuration = "2d"' in tables_text(proposal)


def test_one_configuration_needs_no_option(tmp_path: Path) -> None:
    folder = cross_validated(tmp_path / "Dataset900_Balls", ()) / "nnUNetTrainer__nnUNetPlans__3d_fullres"
    assert "configuration" not in proposed(folder)[1].options


def test_the_card_lists_no_prediction_of_a_cross_validation(tmp_path: Path) -> None:
    folder = cross_validated(tmp_path / "Dataset900_Balls", ("2d",))
    metadata, proposal = proposed(folder)
    figures = CardFigures(algorithm="", needs="", fault="", runs=(), acceptance="")
    card = card_text(proposal, metadata, figures, folder)
    assert "2d/fold_0/checkpoint_final.pth" in card
    assert ".nii.gz" not in card
