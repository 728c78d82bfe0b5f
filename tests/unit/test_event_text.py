"""Events are stored as data: every kind has its words, and each of them is one that something records."""

from __future__ import annotations

from pathlib import Path

from node.ledger.events import EventKind
from node.operate import event_text
from node.operate.explain import describe_deferrals

NODE = Path(event_text.__file__).parents[1]


def test_every_kind_has_words_and_is_recorded_somewhere():
    assert set(event_text._TEXTS) == set(EventKind)
    code = "\n".join(path.read_text() for path in NODE.rglob("*.py") if path.name != "event_text.py")
    assert [kind.name for kind in EventKind if f"EventKind.{kind.name}" not in code] == []


def test_braces_in_an_error_are_words_and_no_template():
    row = {"kind": "job canceled", "parameters": {"reason": "{kind} {"}, "stage": None}
    assert event_text.event_text(row) == ("job canceled", "{kind} {")


def test_events_of_version_1_0_0_are_shown_as_they_were_written():
    for kind, parameters, detail in (
        (
            "series waiting",
            {"awaited": "slices are missing; waiting 60 s for the missing slices"},
            "slices are missing",
        ),
        ("series complete", {"signal": "3 images, none for 10 s"}, "3 images, none for 10 s"),
        ("signal disregarded", {"signal": "the procedure step of CT1"}, "the procedure step of CT1"),
        (
            "rule waiting",
            {"rule": "chest", "awaited": "an association is open"},
            "rule 'chest': an association is open",
        ),
        ("late refusal", {"reason": "1 image refused"}, "an image of it was refused"),
    ):
        assert event_text.event_text({"kind": kind, "parameters": parameters})[1].startswith(detail)


def test_deferrals_of_version_1_0_0_are_shown_as_they_were_written():
    series = {"doubts": [{"about": "slices are missing", "until": None}], "last_at": 1.0}
    assert describe_deferrals(series) == ["waits until this ends: slices are missing"]
