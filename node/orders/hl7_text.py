"""HL7 version 2 messages as segments, fields and components (HL7 2.5.1 chapter 2). Pure; messages are hostile ground.

Only the segments that the node reads are split, and everything is bounded: bytes by the listener, the rest here. The
libraries for this (hl7, hl7apy) take 3 ms and 100 ms for an order and minutes for a megabyte of delimiters.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from types import MappingProxyType

from node.errors import InputError

MOST_SEGMENTS = 10_000
_MOST_FIELDS = 200
_LONGEST_FIELD = 1 << 16
_READ = frozenset({"MSH", "PID", "MRG", "ORC", "TQ1", "OBR", "IPC", "ZDS"})
_CHARACTER_SETS = MappingProxyType({
    "ASCII": "ascii", "ISO IR6": "ascii", "UNICODE UTF-8": "utf-8", "UTF-8": "utf-8",
    **{f"8859/{part}": f"iso8859_{part}" for part in (*range(1, 10), 15)},
    "ISO IR13": "shift_jis", "ISO IR14": "shift_jis", "ISO IR87": "iso2022_jp", "ISO IR159": "iso2022_jp_2",
    "GB 18030-2000": "gb18030", "KS X 1001": "euc_kr", "BIG-5": "big5",
})  # fmt: skip
"""Python's codec for each name of table 0211 that it has one for."""


class Hl7Error(InputError):
    """A message that is not taken, and why; the sentence has nothing of its values."""

    def __init__(self, reason: str, *, answer: str = "AE") -> None:
        """``answer``: acknowledgment code (table 0008)."""
        super().__init__(reason)
        self.answer = answer


@dataclass(frozen=True)
class Segment:
    """One segment; fields and components are counted from 1, as in the standard."""

    name: str
    _fields: tuple[str, ...]
    _delimiters: str
    """Component, repetition, escape character and subcomponent."""

    def field(self, number: int) -> str:
        """Return a field as it is encoded; empty where there is none."""
        return self._fields[number] if number < len(self._fields) else ""

    def repetitions(self, number: int) -> list[list[str]]:
        """Return the components of each repetition of a field, still escaped; no empty repetitions."""
        parts = self.field(number).split(self._delimiters[1], _MOST_FIELDS)
        return [part.split(self._delimiters[0], _MOST_FIELDS) for part in parts if part and part != '""']

    def text(self, number: int, component: int = 1) -> str:
        """Return a component of the first repetition, unescaped."""
        repetitions = self.repetitions(number)
        return self.plain(repetitions[0], component) if repetitions else ""

    def plain(self, components: list[str], number: int) -> str:
        """Return one of the components, unescaped: one line without control characters. HL7's null is empty."""
        encoded = components[number - 1] if number <= len(components) else ""
        return "" if encoded == '""' else _unescaped(encoded, self._delimiters)

    def subcomponents(self, components: list[str], number: int) -> list[str]:
        """Return the subcomponents of one of the components, unescaped."""
        encoded = components[number - 1] if number <= len(components) else ""
        return [_unescaped(part, self._delimiters) for part in encoded.split(self._delimiters[3], 8)]


@dataclass(frozen=True)
class Hl7Text:
    """A message."""

    header: Segment
    segments: tuple[Segment, ...]
    """Those that the node reads, in their order, MSH first."""

    def first(self, name: str) -> Segment | None:
        """Return the first segment of this name."""
        return next((segment for segment in self.segments if segment.name == name), None)


def header_of(content: bytes) -> Segment | None:
    """Return the MSH segment as far as it can be read, for the answer to a message that cannot; ``None`` without it."""
    line = re.split(rb"[\r\n]", content[:_LONGEST_FIELD].lstrip(b"\r\n "), maxsplit=1)[0]
    try:
        return _segment(line.decode("latin-1"), _separators(line))
    except Hl7Error:
        return None


def parse_hl7(content: bytes) -> Hl7Text:
    """Decode and split a message, without its frame. Raises ``Hl7Error``."""
    separators = _separators(content.lstrip(b"\r\n "))
    if content.count(b"\r") + content.count(b"\n") > MOST_SEGMENTS:
        raise Hl7Error(f"more than {MOST_SEGMENTS} segments", answer="AR")
    header = header_of(content)
    declared = header.repetitions(18) if header is not None else []
    lines = _decoded(content, [parts[0].strip().upper() for parts in declared]).replace("\n", "\r").split("\r")
    named = [line.strip(" ") for line in lines]
    segments = [_segment(line, separators) for line in named if line[:3] in _READ and line[3:4] in (separators[0], "")]
    if not segments or segments[0].name != "MSH" or sum(segment.name == "MSH" for segment in segments) > 1:
        raise Hl7Error("no message with one segment MSH at its beginning", answer="AR")
    return Hl7Text(segments[0], tuple(segments))


def _separators(content: bytes) -> str:
    """Field separator and the four delimiters of MSH-2; the fifth, of truncation (2.7), is not needed."""
    if not content.startswith(b"MSH"):
        raise Hl7Error("no segment MSH at the beginning", answer="AR")
    head = content[3:8].decode("latin-1")
    delimiters = head[1:].split(head[0])[0] if head else ""
    # MSH-2 may be shorter where a sender uses neither subcomponents nor escapes (2.14.9.2)
    delimiters += r"^~\&"[len(delimiters) :] if delimiters else ""
    separators = head[:1] + delimiters
    if len(set(separators)) != 5 or any(mark.isalnum() or mark.isspace() or ord(mark) > 126 for mark in separators):
        raise Hl7Error("MSH-1 and MSH-2 are not five different delimiters", answer="AR")
    return separators


def _segment(line: str, separators: str) -> Segment:
    fields = line.split(separators[0], _MOST_FIELDS)
    if fields[0] == "MSH":
        fields.insert(1, separators[0])  # MSH-1 is the separator itself
    return Segment(fields[0], tuple(field[:_LONGEST_FIELD] for field in fields), separators[1:])


def _decoded(content: bytes, declared: list[str]) -> str:
    """Decode by MSH-18; a message that states none is UTF-8 where it can be, which ASCII is, and else Latin-1."""
    if not declared or not declared[0]:
        # several sets without a first one: ASCII until an escape sequence, as ISO 2022 has it
        others = [character_set for character_set in declared if character_set]
        if others:
            return _by_codec(content, "iso2022_jp_2", others[0])
        try:
            return content.decode("utf-8")
        except UnicodeDecodeError:
            return content.decode("latin-1")
    codec = _CHARACTER_SETS.get(declared[0])
    if codec is None:
        raise Hl7Error("MSH-18 names a character set that the node cannot read", answer="AR")
    if codec in ("ascii", "shift_jis") and len(declared) > 1:
        codec = "iso2022_jp_2"
    return _by_codec(content, codec, declared[0])


def _by_codec(content: bytes, codec: str, name: str) -> str:
    try:
        return content.decode(codec)
    except UnicodeDecodeError as error:
        known = name if name in _CHARACTER_SETS else "the character set"
        raise Hl7Error(f"its bytes are not {known}, which MSH-18 states") from error


def _unescaped(text: str, delimiters: str) -> str:
    component, repetition, escape, subcomponent = (*delimiters,)
    if escape in text:
        plain = {"S": component, "R": repetition, "E": escape, "T": subcomponent, "F": "|", ".br": " ", ".sp": " "}
        mark = re.escape(escape)

        def replaced(match: re.Match[str]) -> str:
            return plain.get(match[1], _hexadecimal(match[1]))

        text = re.sub(f"{mark}([^{mark}]{{1,64}}){mark}", replaced, text)
    return " ".join("".join(character if character.isprintable() else " " for character in text).split())


def _hexadecimal(sequence: str) -> str:
    """Characters of ``Xdd..``; other sequences, such as for highlighting, are left out."""
    if not re.fullmatch(r"X([0-9A-Fa-f]{2})+", sequence):
        return ""
    return bytes.fromhex(sequence[1:]).decode("latin-1")
