"""Text from outside is shown in one line, printable and bounded, wherever it is shown."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import literal

import node
from node.ledger.tables import metadata
from node.ledger.tables.columns import EscapedJson, EscapedText
from node.peer_text import LONGEST, escaped

HOSTILE = "a\nb\r\x1b[2Jc\x9b\u2028d\u202ee\u2066f\ud800g\x00h\u200bi\x85j\U000e0041"


def is_safe(text: str) -> bool:
    text.encode()  # no lone surrogate
    return all(character.isprintable() or character in "\u00a0\u3000" for character in text)


def test_controls_line_separators_overrides_and_surrogates_are_escaped() -> None:
    assert escaped(HOSTILE) == ("a\\nb\\r\\x1b[2Jc\\x9b\\u2028d\\u202ee\\u2066f\\ud800g\\x00h\\u200bi\\x85j\\U000e0041")
    for untouched in ("", "Müller^Jörg", "山田^太郎\u3000胸部", "C:\\images", "5 mm\u00b3", "\u00a012"):
        assert escaped(untouched) == untouched


@given(st.text())
def test_any_text_becomes_one_printable_line_of_bounded_length(text: str) -> None:
    made = escaped(text * 40, 100)
    assert is_safe(made.replace("\u2009", "").replace("\u2003", "")) or not is_safe_separators(made)
    assert len(made.splitlines()) <= 1
    assert len(made) <= 100 + len(" ... (99999 characters more)")


def is_safe_separators(text: str) -> bool:
    """Spaces of other widths stay as they are."""
    import unicodedata

    return not all(c.isprintable() or unicodedata.category(c) == "Zs" for c in text)


def test_what_is_cut_off_is_counted() -> None:
    assert escaped("x" * 60_000, 10) == "xxxxxxxxxx ... (59990 characters more)"
    assert escaped("\n" * 10**6, 10) == "\\n" * 5 + " ... (999995 characters more)"


def test_every_column_of_the_ledger_that_may_hold_peers_text_escapes_it() -> None:
    plain = {
        f"{table.name}.{column.name}"
        for table in metadata.sorted_tables
        for column in table.columns
        if isinstance(column.type, (sa.Text, sa.JSON))
    }
    of_others = {"notice.detail"}  # holds a query as JSON; the audit message escapes what it shows
    of_the_ledger = {"decision_record.record"}  # JSON in ASCII of values that are escaped already
    # of a configuration file: TOML has no control characters
    of_operators = {"published_rules.text", "published_rules.settings"}
    assert plain == of_others | of_the_ledger | of_operators


def test_text_and_json_are_escaped_on_the_way_into_the_ledger() -> None:
    engine = sa.create_engine("sqlite://")
    with engine.connect() as connection:
        assert connection.scalar(sa.select(literal(HOSTILE, EscapedText()))) == escaped(HOSTILE)
        assert connection.scalar(sa.select(literal(None, EscapedText()))) is None
        long = connection.scalar(sa.select(literal("x" * 60_000, EscapedText())))
        assert long is not None
        assert len(long) < LONGEST + 50
        value = {"reason" + HOSTILE: [HOSTILE, 1.5, None, {"deep": "x" * 60_000}]}
        stored = connection.scalar(sa.select(literal(value, EscapedJson())))
    assert is_safe(json.dumps(stored, ensure_ascii=False))
    assert stored[f"reason{escaped(HOSTILE)}"][:3] == [escaped(HOSTILE), 1.5, None]
    assert len(json.dumps(stored)) < LONGEST + 1000


def test_every_verb_prints_through_the_escape() -> None:
    folder = Path(node.__file__).parent
    for path in (*sorted((folder / "cli").glob("*.py")), folder / "__main__.py"):
        calls = [
            ast.unparse(call.func)
            for call in ast.walk(ast.parse(path.read_text()))
            if isinstance(call, ast.Call) and ast.unparse(call.func) in {"click.echo", "print", "click.secho"}
        ]
        assert calls == ([] if path.name != "options.py" else ["click.echo"]), path


@pytest.mark.parametrize("text", [HOSTILE, "x" * 60_000])
def test_a_mail_has_no_header_but_its_own(text: str) -> None:
    from email.message import EmailMessage

    message = EmailMessage()
    message["Subject"] = escaped(f"x\nBcc: all@example.org {text}", 80)
    assert message.as_bytes().count(b"\nBcc") == 0
