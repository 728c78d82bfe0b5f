"""The impression as content items of a report, each with its language (PS3.16, TID 1204)."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator

from highdicom.sr import CodeContentItem, CodedConcept, ContentSequence, TextContentItem
from highdicom.sr import RelationshipTypeValues as Relationship
from pydicom.charset import convert_encodings, decode_bytes, default_encoding, encode_string
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.valuerep import TEXT_VR_DELIMS

from node.config import Language
from node.results.identity import plain
from node.results.impression.sentences import impression_of
from node.results.impression.translation import LANGUAGES

_RAISED = str.maketrans("²³", "23")
"""Raised digits of units, which GBK does not have."""


def impression_items(report: Dataset, languages: Iterable[Language], character_set: object) -> list[TextContentItem]:
    """Return the impression of a report in each language, as far as its character set can hold it.

    Where it cannot, the impression is in English and plain letters. ``character_set``: Specific Character Set of the
    source, which is that of every object made of it.
    """
    texts: dict[Language, str] = {}
    for language in languages:
        text = impression_of(report, language).replace("\n", "\r\n")
        if not text:  # such as a map alone: an item without text is invalid
            continue
        written = next(
            (writing for writing in (text, text.translate(_RAISED)) if _can_hold(character_set, writing)), None
        )
        if written is not None:
            texts[language] = written
        else:
            lines = impression_of(report, "en").splitlines()
            texts["en"] = "\r\n".join(plain(line, len(line) * 2) for line in lines)
    return list(_items(texts))


def _items(texts: dict[Language, str]) -> Iterator[TextContentItem]:
    for language, text in texts.items():
        item = TextContentItem(codes.DCM.Impression, text, Relationship.CONTAINS)
        stated = CodedConcept(language, "RFC5646", LANGUAGES[language])
        modifier = CodeContentItem(codes.DCM.LanguageOfContentItemAndDescendants, stated, Relationship.HAS_CONCEPT_MOD)
        item.ContentSequence = ContentSequence([modifier])
        yield item


def _can_hold(character_set: object, text: str) -> bool:
    """Whether text is read as it was written; a character set may be unknown."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            encodings = convert_encodings(character_set or "ISO_IR 6")  # type: ignore[arg-type]
            strict = ["ascii" if encoding == default_encoding else encoding for encoding in encodings]
            return decode_bytes(encode_string(text, strict), encodings, TEXT_VR_DELIMS) == text
        except (ValueError, LookupError, UserWarning):
            return False
