"""Reasons are stored as codes with parameters, and become sentences when they are shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from ledgers import open_copy

import node
from node import reasons
from node.errors import not_analysed
from node.ledger.engine import ledger_url
from node.ledger.tables import decision
from node.reasons import ReasonCode, deferrals_text, reason, reason_text

CODE = Path(node.__file__).parent


def test_every_code_has_words_and_is_made_somewhere() -> None:
    assert set(reasons._TEXTS) == set(ReasonCode)
    code = "\n".join(path.read_text() for path in CODE.rglob("*.py") if path.parent.name != "reasons")
    code += (CODE / "reasons" / "outcomes.py").read_text()
    assert [reason.name for reason in ReasonCode if f"ReasonCode.{reason.name}" not in code] == []


@pytest.mark.parametrize(
    ("stored", "sentence"),
    [
        (None, ""),
        ("a sentence of version 1.0.0 with {braces}", "a sentence of version 1.0.0 with {braces}"),
        (reason(ReasonCode.MATCHES, rules=["chest", "lung"]), "matches 'chest', 'lung'"),
        (
            reason(
                ReasonCode.SENT_ON_ONLY,
                routed=reason(ReasonCode.MATCHES, rules=["all"]),
                why=reason(ReasonCode.LOCALIZER),
            ),
            "matches 'all'; not analysed: it is a localizer (ImageType)",
        ),
        (
            reason(ReasonCode.ONLY_COMPANION, companions=[["t1c", "brain"], ["t2", "brain"]]),
            "only looked at with others: 't1c' of 'brain', 't2' of 'brain'",
        ),
        (
            reason(
                ReasonCode.WORSE,
                best="1.2",
                better=reason(ReasonCode.SLICE_THICKNESS, mm=1.0),
                worse=reason(ReasonCode.SLICE_THICKNESS, mm=None),
            ),
            "not chosen: series 1.2 has 1 mm slices, this one no slice thickness",
        ),
        (
            reason(
                ReasonCode.CHOSEN,
                series=3,
                because=reason(ReasonCode.STUDY_QUIET, seconds=60.0, although=None),
                before=[],
                companions={"code": "1.4", "t2": None},
                seconds=9.0,
            ),
            "the best of 3 series (no image of the study for 60 s); 'code' is series 1.4; 't2' did not come within 9 s",
        ),
        (
            reason(
                ReasonCode.STUDY_QUIET,
                seconds=90.0,
                although=reason(ReasonCode.STUDY_STEP, calling_ae="CT1"),
            ),
            "no image of the study for 90 s, although the procedure step of CT1 is IN PROGRESS",
        ),
        (
            reason(ReasonCode.DELIVERIES_REFUSED, deliveries={"a": "not {configured}", "b": "refused"}),
            "delivery to a: not {configured}; delivery to b: refused",
        ),
        (
            reason(ReasonCode.NO_REPORT, why=reason(ReasonCode.NOT_ANALYSED, error_code="input", job="7")),
            f"No report could be made. {not_analysed('input', '7')}",
        ),
        (reason(ReasonCode.CANCELLED, operator=""), "cancelled by the operator"),
        (
            reason(
                ReasonCode.TOGETHER,
                parts=[reason(ReasonCode.STATED, text="Half of it."), reason(ReasonCode.STATED, text="and {more}")],
            ),
            "Half of it; and {more}",
        ),
    ],
)
def test_a_reason_reads_as_a_sentence(stored: Any, sentence: str) -> None:
    assert reason_text(stored) == sentence


@pytest.mark.parametrize(
    "stored",
    [{}, {"code": "of tomorrow"}, {"code": ["matches"]}, {"code": "matches"}, {"code": "matches", "rules": 7}],
)
def test_a_reason_of_another_form_is_shown_as_it_is_and_stops_nobody(stored: Any) -> None:
    assert reason_text(stored).startswith("{")
    assert deferrals_text([{"about": {"code": "gap", "explanation": "{x}"}, "until": None}]) == "{x}"


def test_no_sentence_is_written_where_a_reason_belongs(tmp_path: Path) -> None:
    engine = open_copy(ledger_url("", tmp_path))
    row = {"study_instance_uid": "1", "series_instance_uid": "1.1", "generation": 1, "outcome": "routed"}
    with engine.begin() as connection, pytest.raises(sa.exc.StatementError, match="is a sentence"):
        connection.execute(sa.insert(decision).values(**row, reason="no rule matches", trace=[], decided_at=1.0))
    engine.dispose()
