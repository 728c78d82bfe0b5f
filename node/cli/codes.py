"""``ainode codes``: find codes of SNOMED CT, DICOM and UCUM by their words."""

from __future__ import annotations

from dataclasses import asdict

import click

from node.cli.options import echo, json_option, print_json
from node.errors import NotFoundError

_MOST = 30
"""Codes shown without ``--all``."""


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
    from node.pipeline.known_codes import matching_codes

    matches = matching_codes(words)
    if not matches:
        raise NotFoundError(
            f"no code for {' '.join(words)!r}; try fewer or other words, or write Code(value, scheme, meaning)"
        )
    shown = matches if show_all else matches[:_MOST]
    if as_json:
        print_json([asdict(code) for code in shown])
        return
    for code in shown:
        echo(f"{code.written:44} ({code.value}, {code.scheme}, {code.meaning!r})")
    if len(matches) > len(shown):
        echo(f"and {len(matches) - len(shown)} more: give more words, or --all")
