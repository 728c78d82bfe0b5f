"""Events are stored as data: every kind has its words, and each of them is one that something records."""

from __future__ import annotations

from pathlib import Path

from node.ledger.events import EventKind
from node.operate import event_text

NODE = Path(event_text.__file__).parents[1]


def test_every_kind_has_words_and_is_recorded_somewhere():
    assert set(event_text._TEXTS) == set(EventKind)
    code = "\n".join(path.read_text() for path in NODE.rglob("*.py") if path.name != "event_text.py")
    assert [kind.name for kind in EventKind if f"EventKind.{kind.name}" not in code] == []


def test_braces_in_an_error_are_words_and_no_template():
    row = {"kind": "job canceled", "parameters": {"reason": "{kind} {"}, "stage": None}
    assert event_text.event_text(row) == ("job canceled", "{kind} {")
