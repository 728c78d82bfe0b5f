"""``ainode codes``: find codes of SNOMED CT, DICOM and UCUM by their words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import click

from node.cli.options import echo, json_option, print_json
from node.errors import NotFoundError

_MOST = 30
"""Codes shown without ``--all``."""


@dataclass(frozen=True, kw_only=True)
class CodeMatch:
    """A code of the dictionaries that pydicom ships."""

    value: str
    scheme: str
    meaning: str
    written: str
    """As a pipeline writes it: ``codes.SCT.Nodule``."""


@click.group()
def codes() -> None:
    """Find codes for what a pipeline states."""


@codes.command()
@json_option
@click.option("--all", "show_all", is_flag=True, help=f"Show all codes instead of the first {_MOST}.")
@click.argument("words", nargs=-1, required=True)
def find(*, as_json: bool, show_all: bool, words: tuple[str, ...]) -> None:
    """Find codes whose meaning has all WORDS, or whose value is the word.

    Searches the SNOMED CT codes that DICOM names, DICOM's own codes (DCM) and units (UCUM); needs no network.
    """
    found = matching_codes(words)
    if not found:
        raise NotFoundError(
            f"no code for {' '.join(words)!r}; try fewer or other words, or write Code(value, scheme, meaning)"
        )
    shown = found if show_all else found[:_MOST]
    if as_json:
        print_json([asdict(code) for code in shown])
        return
    for code in shown:
        echo(f"{code.written:44} ({code.value}, {code.scheme}, {code.meaning!r})")
    if len(found) > len(shown):
        echo(f"and {len(found) - len(shown)} more: give more words, or --all")


def matching_codes(words: Sequence[str]) -> list[CodeMatch]:
    """Return the codes with all ``words`` in meaning or keyword, or with that value; the shortest meaning first."""
    sought = [word.casefold() for word in words]
    whole = " ".join(sought)
    matches = {
        (code.scheme, code.value): code
        for code in _known()
        if code.value.casefold() == whole or all(word in f"{code.meaning} {code.written}".casefold() for word in sought)
    }
    return sorted(
        matches.values(), key=lambda code: (code.meaning.casefold() != whole, len(code.meaning), code.written)
    )


def _known() -> Iterator[CodeMatch]:
    from pydicom.sr._concepts_dict import concepts

    known: dict[str, Any] = concepts
    for scheme in ("SCT", "DCM", "UCUM"):
        for keyword, values in known[scheme].items():
            for value, (meaning, _) in values.items():
                written = f"codes.{scheme}.{keyword}"
                if len(values) > 1:  # one keyword of several codes cannot be looked up
                    written = f"Code({value!r}, {scheme!r}, {meaning!r})"
                yield CodeMatch(value=value, scheme=scheme, meaning=meaning, written=written)
