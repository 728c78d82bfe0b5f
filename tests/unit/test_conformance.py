"""The Conformance Statement says what the code does."""

from __future__ import annotations

from pathlib import Path

from node import conformance
from node.config import load
from node.receive import status_codes

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "conformance.md"


def test_the_page_is_what_the_verb_prints_for_the_shipped_configuration():
    assert PAGE.read_text() == conformance.statement(load(ROOT / "config.toml"))


def test_every_status_that_the_receiver_can_answer_is_told():
    codes = {value for name, value in vars(status_codes).items() if name.isupper()}
    told = {*conformance.STORE_STATUSES, *conformance.NORMALIZED_STATUSES}
    assert codes - told == {status_codes.NO_LONGER_UPDATED}  # an Error ID beside a status
    assert f"{status_codes.NO_LONGER_UPDATED:04X}" in PAGE.read_text()
