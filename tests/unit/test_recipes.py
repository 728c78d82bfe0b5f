"""Recipes: each is a configuration that the node and its adapters accept, and says what it rests on."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from node.__main__ import main
from node.check import check
from node.cli.recipes import recipe_texts
from node.config import Config, ContainerImage, outside_factory, parse
from node.inference.run_pipeline import licensed, licensed_algorithm
from node.pipeline import Algorithm, Findings
from pipelines.container.options import ContainerOptions
from pipelines.monai_bundle.options import Options as BundleOptions
from pipelines.options import read_options
from pipelines.structures import PRIVATE_SCHEME, structure

RECIPES = recipe_texts()


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_a_configuration_of_its_adapter_with_its_licence_and_sources(name: str):
    text = RECIPES[name]
    ((key, table),) = parse(text).pipelines.items()
    assert key == name
    assert table.license
    assert "# Licence: " in text
    assert "# From: " in text
    assert "run" in text.partition("\n[")[0]
    is_container = isinstance(outside_factory(table.factory), ContainerImage)
    options = read_options(ContainerOptions if is_container else BundleOptions, table.options)
    assert set(options.structures) <= set(options.labels.values() if is_container else ())


def test_every_structure_of_totalsegmentator_has_a_code_of_snomed():
    options = read_options(ContainerOptions, parse(RECIPES["total"]).pipelines["total"].options)
    assert sorted(options.classes_of_labels) == list(range(1, 118))
    for name in options.labels.values():
        scheme = options.structures[name][1] if name in options.structures else structure(name)[1].scheme_designator
        assert scheme != PRIVATE_SCHEME, name


def test_recipes_are_listed_and_printed():
    listed = CliRunner().invoke(main, ["recipes"]).output
    assert "lungmask     lungmask, U-net(R231)" in listed
    assert CliRunner().invoke(main, ["recipes", "lungmask"]).output.strip() == RECIPES["lungmask"].strip()
    wrong = CliRunner().invoke(main, ["recipes", "lungmasks"])
    assert (wrong.exit_code, "did you mean 'lungmask'?" in wrong.output) == (8, True)


def test_a_licence_is_a_remark_and_in_the_identity_of_the_result():
    algorithm = Algorithm(name="A", version="1", parameters={"a": "b"})
    assert licensed(Findings(remarks=("One.",)), "non-commercial").remarks == (
        "One.",
        "Licence of the model: non-commercial.",
    )
    assert licensed_algorithm(algorithm, "non-commercial").parameters == {"a": "b", "license": "non-commercial"}
    assert licensed_algorithm(algorithm, "") is algorithm
    entry = {"name": "a", "algorithm": "A", "version": "1", "weights_sha256": "0" * 64, "license": "non-commercial"}
    (line,) = [result for result in check(Config(), [entry]) if result.name == "pipeline a"]
    assert line.found.endswith(", licence non-commercial")
