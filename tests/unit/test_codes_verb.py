"""``ainode codes find``: what a pipeline author writes for a word."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner
from pydicom.sr.codedict import codes as dictionary

from node.__main__ import main
from node.errors import NotFoundError
from node.pipeline import Code
from node.pipeline.known_codes import matching_codes


def run(*arguments: str) -> str:
    result = CliRunner().invoke(main, ["codes", "find", *arguments])
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize(
    ("words", "written"),
    [
        (["nodule"], "codes.SCT.Nodule"),
        (["Certainty", "finding"], "codes.DCM.CertaintyOfFinding"),
        (["27925004"], "codes.SCT.Nodule"),
        (["millimeter"], "codes.UCUM.Millimeter"),
    ],
)
def test_the_likeliest_code_comes_first_as_a_pipeline_writes_it(words: list[str], written: str) -> None:
    first = matching_codes(words)[0]
    assert first.written == written
    assert eval(written, {"codes": dictionary}) == Code(first.value, first.scheme, first.meaning)  # noqa: S307


def test_a_unit_that_the_dictionaries_lack_is_written_out_and_one_that_they_have_is_named() -> None:
    assert run("ml").splitlines()[0].startswith('Code("ml", "UCUM", "ml")')
    assert run("mm").splitlines()[0].startswith("codes.UCUM.Millimeter ")
    assert "UCUM" not in run("nodule").splitlines()[0]


def test_every_code_is_what_it_is_written_as() -> None:
    for code in matching_codes(["lobe"]):
        assert eval(code.written, {"codes": dictionary, "Code": Code}) == Code(code.value, code.scheme, code.meaning)  # noqa: S307


def test_the_verb_prints_lines_or_json_and_says_how_many_more_there_are() -> None:
    assert "(27925004, SCT, 'Nodule')" in run("nodule").splitlines()[0]
    assert "more: give more words, or --all" in run("artery").splitlines()[-1]
    assert len(run("artery", "--all").splitlines()) > 30
    assert json.loads(run("nodule", "--json"))[0]["value"] == "27925004"


def test_an_unknown_word_says_what_to_do() -> None:
    result = CliRunner().invoke(main, ["codes", "find", "blorb"])
    assert result.exit_code == NotFoundError.exit_code
    assert "no code for 'blorb'; try fewer" in result.output
