"""Lists of studies as people have them: a number on each line, or a table with a column of such numbers (CSV)."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from types import MappingProxyType

from node.errors import ConfigError

_SEPARATORS = ",;\t"
_COLUMNS: Mapping[str, str] = MappingProxyType(
    {
        name: keyword
        for keyword, names in {
            "StudyInstanceUID": ("studyinstanceuid", "studyuid"),
            "AccessionNumber": ("accessionnumber", "accession", "accessionno"),
        }.items()
        for name in names
    }
)
"""Titles of columns, without what is no letter, and the attribute that is matched; the first one is preferred."""


def listed_studies(text: str) -> list[tuple[str, str]]:
    """Return keyword and value of each study that a list names; empty lines count for nothing.

    Several columns need a line of titles, of which one is ``AccessionNumber`` or ``StudyInstanceUID``. Raises
    ``ConfigError`` for what names no study, or could name others as well.
    """
    lines = [line.strip() for line in text.lstrip("\ufeff").splitlines() if line.strip()]
    if not lines:
        return []
    separator = next((character for character in _SEPARATORS if character in lines[0]), ",")
    rows = list(csv.reader(lines, delimiter=separator))
    titles = [_COLUMNS.get("".join(filter(str.isalpha, title)).lower(), "") for title in rows[0]]
    column = next((titles.index(keyword) for keyword in dict.fromkeys(_COLUMNS.values()) if keyword in titles), None)
    if column is None:
        several = next((number for number, row in enumerate(rows, 1) if len(row) > 1), None)
        if several is not None:
            raise ConfigError(
                f"line {several} has several columns; give a first line of titles, one of them AccessionNumber or "
                "StudyInstanceUID"
            )
        return [key_of(row[0].strip()) for row in rows]
    values = (row[column].strip() for row in rows[1:] if len(row) > column)
    return [_checked(titles[column], value) for value in values if value]


def key_of(text: str) -> tuple[str, str]:
    """Return keyword and value by which a text names a study: a Study Instance UID or an accession number.

    Raises ``ConfigError`` for one that could name others as well.
    """
    is_uid = text.count(".") > 1 and text.replace(".", "").isdecimal()
    return _checked("StudyInstanceUID" if is_uid else "AccessionNumber", text)


def _checked(keyword: str, text: str) -> tuple[str, str]:
    if wild := next((char for char in "*?\\" if char in text), ""):
        raise ConfigError(f"{text!r} names more than one study: {wild} stands for others; name each study")
    return keyword, text
