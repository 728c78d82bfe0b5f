"""Catalogs of the dashboard: extracts every text that it shows, and completes ``node/translation/LANGUAGE.po``.

    .venv/bin/python tests/support/catalogs.py

adds new texts, without a translation, and removes those that are gone.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from enum import StrEnum
from io import BytesIO
from pathlib import Path

from babel.messages.catalog import Catalog, Message
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import read_po, write_po

from node.ledger.progress import DeliveryStep, Progress
from node.ledger.states import (
    AssociationEnding,
    ConflictKind,
    DecisionOutcome,
    DeliveryState,
    JobStage,
    ShadowCause,
    WithoutAnalysis,
)
from node.ledger.verdict import SourceKind, Verdict
from node.outcome import Outcome
from node.studies.characteristics.characteristic import Certainty
from node.web.users import ROLES

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "node/translation"
LANGUAGES = ("de", "zh")
_HEADER = """\
# Texts of the dashboard; tests/support/catalogs.py completes this file.
msgid ""
msgstr ""
"Language: {language}\\n"
"MIME-Version: 1.0\\n"
"Content-Type: text/plain; charset=UTF-8\\n"
"Content-Transfer-Encoding: 8bit\\n"
"Plural-Forms: {plurals}\\n"

"""
_KEYWORDS = {"gettext": None, "ngettext": (1, 2), "plural_form": (1, 2), "marked": None, "_": None}
_ENUMERATIONS: tuple[type[StrEnum], ...] = (
    Progress, DeliveryStep, Outcome, WithoutAnalysis, DecisionOutcome, JobStage, ConflictKind, ShadowCause,
    AssociationEnding, Verdict, SourceKind,
)  # fmt: skip
_WORDS = (
    *("worker", "workers", "sender", "senders", "receiver", "receivers", "router", "routers", "web", "webs"),
    *("up", "down", "failing", "paused", "idle", "low", "medium", "high", "not compared yet", "absent"),
    *("cancelled", "retried", "identity", "content", "total", "withdrawn", "other", "act", "ignored"),
    *("stored", "stored in addition to another file", "stored and excluded", "cut off", "refused", "tried in shadow"),
    *("without outcome", "in work", "processed", "sent on as they are", "kept here only", "canceled", "ended"),
    *("Query", "Begin Transferring DICOM Instances", "DICOM Instances Transferred", "Application Activity"),
    *("Security Alert", "Security Alert: Node Authentication", "User Authentication: Login"),
    *("User Authentication: Logout", "Application Activity: Application Start"),
    "Application Activity: Application Stop",
)
"""Values that pages show as they come: roles of processes, states of destinations, priorities, kinds of event."""


def vocabulary() -> Iterator[str]:
    """Words of stored values, which pages translate where they show them."""
    for enumeration in _ENUMERATIONS:
        yield from map(str, enumeration)
    yield from (state.lower() for state in DeliveryState)
    yield from map(str, (*ROLES, *Certainty, *_WORDS))


def extracted() -> Catalog:
    """Return every text: marked ones of Python and of templates, and the words of stored values."""
    catalog = Catalog(charset="utf-8")
    options = {"extensions": "jinja2.ext.i18n", "newstyle_gettext": "true", "trim_blocks": "true", "silent": "false"}
    found = extract_from_dir(
        str(ROOT / "node"),
        method_map=[("**.py", "python"), ("**/templates/**.html", "jinja2.ext:babel_extract")],
        options_map={"**/templates/**.html": options},
        keywords=_KEYWORDS,
    )
    for path, line, text, _, _ in found:
        if not path.startswith("translation/"):
            catalog.add(text, locations=[(f"node/{path}", line)])
    for word in vocabulary():
        if word:
            catalog.add(word)
    return catalog


def read_catalog(language: str) -> Catalog:
    """Return the catalog of a language as it is in the repository."""
    with (FOLDER / f"{language}.po").open("rb") as file:
        return read_po(file, locale=language)


def main() -> None:
    """Complete the catalogs."""
    texts = extracted()
    for language in LANGUAGES:
        path = FOLDER / f"{language}.po"
        before = read_catalog(language) if path.exists() else Catalog(locale=language)
        after = Catalog(locale=language, charset="utf-8", fuzzy=False)
        for message in texts:
            if message.id:
                known = before.get(message.id if isinstance(message.id, str) else message.id[0])
                is_kept = known is not None and known.pluralizable == message.pluralizable
                after.add(message.id, known.string if is_kept else None)
        save(language, after)
        missing = sum(not all(strings_of(one)) for one in after if one.id)
        sys.stdout.write(f"{path.name}: {missing} of {len(after)} texts are not translated\n")


def save(language: str, catalog: Catalog) -> None:
    """Write a catalog in an order and with a header that change with its texts alone."""
    text = BytesIO()
    write_po(text, catalog, width=0, omit_header=True, sort_output=True, no_location=True)
    header = _HEADER.format(language=language, plurals=catalog.plural_forms).encode()
    (FOLDER / f"{language}.po").write_bytes(header + text.getvalue())


def strings_of(message: Message) -> tuple[str, ...]:
    """Return the translation of a text, in each form of the plural."""
    return tuple(message.string) if isinstance(message.string, (tuple, list)) else (str(message.string or ""),)


if __name__ == "__main__":
    main()
