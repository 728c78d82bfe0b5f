"""Catalogs of dashboard, commands and PDF reports: extracts their texts, and completes ``node/translation/*.po``.

    .venv/bin/python tests/support/catalogs.py > new.json
    .venv/bin/python tests/support/catalogs.py new.json

The first command adds new texts, removes those that are gone and prints what has no translation; the second one takes
over what was filled in. A text with a plural has a list of its forms: two in German, one in Chinese. The texts of click
have catalogs of their own (``node/translation/click``), which are compiled as well.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from io import BytesIO
from pathlib import Path

import click
from babel.messages.catalog import Catalog, Message
from babel.messages.extract import extract_from_dir
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po

from node.__main__ import main as ainode
from node.cli.help import help_texts
from node.ledger.order_keys import OrderState
from node.ledger.progress import DeliveryStep, Progress
from node.ledger.states import (
    AssociationEnding,
    ConflictKind,
    DecisionOutcome,
    DeliveryState,
    FetchState,
    JobStage,
    MemberState,
    ShadowCause,
    WithoutAnalysis,
)
from node.ledger.verdict import SourceKind, Verdict
from node.outcome import Outcome
from node.results.analysis import OPTIONAL
from node.studies.characteristics.characteristic import Certainty
from node.web.users import ROLES

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "node/translation"
LANGUAGES = ("de", "zh")
_HEADER = """\
# Texts of {whose}; tests/support/catalogs.py completes this file.
msgid ""
msgstr ""
"Language: {language}\\n"
"MIME-Version: 1.0\\n"
"Content-Type: text/plain; charset=UTF-8\\n"
"Content-Transfer-Encoding: 8bit\\n"
"Plural-Forms: {plurals}\\n"

"""
_CLICK_MODULES = ("core", "decorators", "exceptions", "formatting", "parser", "termui", "types")
_OF_DEVELOPERS = (
    *("defined twice", "No options defined", "declaration", "Boolean option", "start character", "Unknown color"),
    *("Choice(", "ANSI"),
)
"""Texts of click that only the author of a verb can see."""
_KEYWORDS = {"gettext": None, "ngettext": (1, 2), "plural_form": (1, 2), "marked": None, "sentence": None, "_": None}
_ENUMERATIONS: tuple[type[StrEnum], ...] = (
    Progress, DeliveryStep, Outcome, WithoutAnalysis, DecisionOutcome, JobStage, ConflictKind, ShadowCause,
    AssociationEnding, Verdict, SourceKind, OrderState,
    MemberState, FetchState,
)  # fmt: skip
_WORDS = (
    *("worker", "workers", "sender", "senders", "receiver", "receivers", "router", "routers", "web", "webs"),
    *("axial", "coronal", "sagittal", "oblique", "present"),
    *("up", "down", "failing", "paused", "idle", "low", "medium", "high", "not compared yet", "absent"),
    *("cancelled", "retracted", "retried", "identity", "content", "total", "withdrawn", "other", "act", "ignored"),
    *("stored", "stored in addition to another file", "stored and excluded", "cut off", "refused", "tried in shadow"),
    *("without outcome", "in work", "processed", "sent on as they are", "kept here only", "canceled", "ended"),
    *("Query", "Begin Transferring DICOM Instances", "DICOM Instances Transferred", "Application Activity"),
    *("Security Alert", "Security Alert: Node Authentication", "User Authentication: Login"),
    *("User Authentication: Logout", "Application Activity: Application Start"),
    "Application Activity: Application Stop",
)
"""Values that are shown as they come: roles of processes, states of destinations, priorities, events, planes."""


def vocabulary() -> Iterator[str]:
    """Words of stored values, which pages translate where they show them."""
    for enumeration in _ENUMERATIONS:
        yield from map(str, enumeration)
    yield from (state.lower() for state in DeliveryState)
    yield from map(str, (*ROLES, *Certainty, *OPTIONAL, *_WORDS))


def extracted() -> Catalog:
    """Return every text: marked ones of Python and of templates, and the words of stored values."""
    catalog = Catalog(charset="utf-8")
    options = {"extensions": "jinja2.ext.i18n", "newstyle_gettext": "true", "trim_blocks": "true", "silent": "false"}
    for room in ("node", "pipelines"):
        messages = extract_from_dir(
            str(ROOT / room),
            method_map=[("**.py", "python"), ("**/templates/**.html", "jinja2.ext:babel_extract")],
            options_map={"**/templates/**.html": options},
            keywords=_KEYWORDS,
        )
        for path, line, text, _, _ in messages:
            if not path.startswith("translation/"):
                catalog.add(text, locations=[(f"{room}/{path}", line)])
    for word in (*vocabulary(), *help_texts(ainode)):
        if word:
            catalog.add(word)
    return catalog


def extracted_of_click() -> Catalog:
    """Return the texts of the installed click that users of verbs can see."""
    catalog = Catalog(charset="utf-8")
    folder = str(Path(click.__file__).parent)
    for path, _, text, _, _ in extract_from_dir(folder, [("**.py", "python")], keywords=_KEYWORDS):
        shown = text if isinstance(text, str) else text[0]
        if path.removesuffix(".py") in _CLICK_MODULES and not any(part in shown for part in _OF_DEVELOPERS):
            catalog.add(text)
    return catalog


def catalog_path(language: str, *, of_click: bool = False) -> Path:
    """Return the catalog of a language in the repository."""
    return FOLDER / "click" / language / "LC_MESSAGES/messages.po" if of_click else FOLDER / f"{language}.po"


def read_catalog(language: str, *, of_click: bool = False) -> Catalog:
    """Return the catalog of a language as it is in the repository."""
    with catalog_path(language, of_click=of_click).open("rb") as file:
        return read_po(file, locale=language)


def compiled(catalog: Catalog) -> bytes:
    """Return a catalog as the gettext of Python reads it."""
    catalog.creation_date = catalog.revision_date = datetime(2026, 1, 1, tzinfo=UTC)  # the same texts, the same file
    file = BytesIO()
    write_mo(file, catalog)
    return file.getvalue()


def main() -> None:
    """Complete the catalogs."""
    filled = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")) if len(sys.argv) > 1 else {}
    missing: dict[str, dict[str, str]] = {}
    for of_click, texts in ((False, extracted()), (True, extracted_of_click())):
        for language in LANGUAGES:
            for text in complete(texts, language, filled, of_click=of_click):
                missing.setdefault(text, {})[language] = ""
    for language in LANGUAGES:
        path = catalog_path(language, of_click=True)
        path.with_suffix(".mo").write_bytes(compiled(read_catalog(language, of_click=True)))
    sys.stdout.write(json.dumps(missing, indent=2, ensure_ascii=False) + "\n")


def complete(
    texts: Catalog, language: str, filled: Mapping[str, Mapping[str, str]], *, of_click: bool = False
) -> list[str]:
    """Add to a catalog what it lacks, remove what is gone, and return what is not translated."""
    path = catalog_path(language, of_click=of_click)
    before = read_catalog(language, of_click=of_click) if path.exists() else Catalog(locale=language)
    after = Catalog(locale=language, charset="utf-8", fuzzy=False)
    for message in texts:
        if message.id:
            text = message.id if isinstance(message.id, str) else message.id[0]
            known = before.get(text)
            is_kept = known is not None and known.pluralizable == message.pluralizable
            after.add(message.id, filled.get(text, {}).get(language) or (known.string if is_kept else None))
    path.parent.mkdir(parents=True, exist_ok=True)
    save(path, after, "click" if of_click else "dashboard, commands and PDF reports")
    unfinished = (message.id for message in after if message.id and not all(strings_of(message)))
    return [key if isinstance(key, str) else key[0] for key in unfinished]


def save(path: Path, catalog: Catalog, whose: str) -> None:
    """Write a catalog in an order and with a header that change with its texts alone."""
    text = BytesIO()
    write_po(text, catalog, width=0, omit_header=True, sort_output=True, no_location=True)
    header = _HEADER.format(whose=whose, language=catalog.locale, plurals=catalog.plural_forms).encode()
    path.write_bytes(header + text.getvalue())


def strings_of(message: Message) -> tuple[str, ...]:
    """Return the translation of a text, in each form of the plural."""
    return tuple(message.string) if isinstance(message.string, (tuple, list)) else (str(message.string or ""),)


if __name__ == "__main__":
    main()
