"""Names are made of the words of the glossary and of DICOM; docs/development/glossary.md lists both kinds of word."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom.datadict import DicomDictionary
from pydicom.uid import UID_dictionary

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "development" / "glossary.md").read_text(encoding="utf-8")
TERMS, FORBIDDEN = PAGE.split("## Words that names do not contain")
FOREIGN = {"NotFoundError", "connection_made", "env"}
"""Names that HTTP, Python's own library and Alembic use."""


def words(name: str) -> list[str]:
    """``PduStream`` and ``pdu_stream`` are pdu and stream."""
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)]


def first_column(text: str) -> set[str]:
    rows = re.findall(r"^\| ([^|]+) \|", text, re.MULTILINE)
    return {word for row in rows for word in words(row)}


def listed(text: str) -> set[str]:
    """The words of the lists: everything behind the colon of an item."""
    items = re.findall(r"^- [^:]+:(.+?)(?=^- |^$)", text, re.MULTILINE | re.DOTALL)
    return {word for item in items for word in words(item)}


DENIED = first_column(FORBIDDEN) - {"word"}
DICOM = {word for entry in (*DicomDictionary.values(), *UID_dictionary.values()) for word in words(entry[4])}
KNOWN = (first_column(TERMS) | listed(TERMS) | DICOM) - DENIED


def is_known(word: str) -> bool:
    """Whether it may stand in a name: as listed, in the plural, or in the singular."""
    forms = {word, f"{word}s", word.removesuffix("s"), word.removesuffix("es"), word.removesuffix("ies") + "y"}
    return word not in DENIED and not KNOWN.isdisjoint(forms)


def modules() -> Iterator[tuple[Path, str]]:
    for package in ("node", "pipelines"):
        for path in sorted((ROOT / package).rglob("*.py")):
            yield path.relative_to(ROOT), path.parent.name if path.stem == "__init__" else path.stem


def definitions(kind: str) -> Iterator[tuple[Path, str]]:
    """File and name of every ``class`` or ``def``; reading lines takes a tenth of the time of parsing them."""
    for path, _ in modules():
        text = (ROOT / path).read_text(encoding="utf-8")
        yield from ((path, name) for name in re.findall(rf"^ *(?:async )?{kind} (\w+)", text, re.MULTILINE))


def test_classes_and_modules_are_named_with_words_of_the_glossary():
    names = [*modules(), *definitions("class")]
    strange = {f"{path}: {name}" for path, name in names if name not in FOREIGN and not all(map(is_known, words(name)))}
    assert strange == set()


def test_functions_are_not_named_with_the_words_that_the_glossary_replaces():
    named = definitions("def")
    folk = {f"{path}: {name}" for path, name in named if name not in FOREIGN and not DENIED.isdisjoint(words(name))}
    assert folk == set()


@pytest.mark.parametrize("word", ["tray", "seats", "books", "told", "heirs", "Door", "Ahead", "gossip"])
def test_a_folk_word_is_no_name(word: str):
    assert not all(map(is_known, words(word)))
