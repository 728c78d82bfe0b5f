"""Adapts an HL7 message to a site: its character set, fields and codes (``[destinations.NAME.message]``). Pure.

What identifies the patient and what the report says stays: the configuration cannot replace it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from node.config.hl7_message import CHARACTER_SETS, PLACEHOLDER, SEGMENTS, Hl7Message
from node.errors import EncodeError

_Segments = list[list[str]]
_CODED = {"OBR": (4,), "OBX": (3, 5, 6)}
"""Fields with a code of the report; the fifth of OBX where its type (OBX-2) says so."""


def adapted(segments: Sequence[str], to: Hl7Message) -> list[str]:
    """Return the segments of a message, fields separated by ``|``, as a site wants them.

    Raises ``EncodeError`` when a character is not in its character set.
    """
    split_segments = [segment.split("|") for segment in segments]
    for segment in split_segments:
        _replace_codes(segment, to.codes)
    adapted_segments = _with_fields(split_segments, to.fields)
    adapted_segments[0][17] = to.charset
    codec = CHARACTER_SETS[to.charset]
    if codec != "utf-8":
        for segment in adapted_segments:
            _fit(segment, codec, to.charset)
    return ["|".join(segment) for segment in adapted_segments]


def _replace_codes(segment: list[str], codes: Mapping[str, str]) -> None:
    for number in _CODED.get(segment[0], ()):
        if segment[0] == "OBX" and number == 5 and segment[2] != "CWE":
            continue
        value, _, rest = segment[number].partition("^")
        meaning, _, scheme = rest.rpartition("^")
        if local := codes.get(f"{value}^{scheme}"):
            segment[number] = f"{local}^{value}^{meaning}^{scheme}"


def _with_fields(segments: _Segments, fields: Mapping[str, str]) -> _Segments:
    before = [list(segment) for segment in segments]
    new_segments = [list(segment) for segment in segments]
    present = {segment[0] for segment in new_segments}
    for name in dict.fromkeys(name.partition("-")[0] for name in fields):
        if name not in present:
            _insert(new_segments, before, name)
    for segment, own in zip(new_segments, before, strict=True):
        for name, content in fields.items():
            of, _, number = name.partition("-")
            if of == segment[0]:
                index = int(number) - (of == "MSH")
                segment.extend([""] * (index + 1 - len(segment)))
                segment[index] = _filled(content, own, segments)
    return new_segments


def _insert(made: _Segments, before: _Segments, name: str) -> None:
    """Add a segment at its place among those of ORU^R01."""
    order = {segment: index for index, segment in enumerate(SEGMENTS)}
    last = len(SEGMENTS)
    later = (index for index, segment in enumerate(made) if order.get(segment[0], last) > order.get(name, last))
    at = next(later, len(made))
    made.insert(at, [name])
    before.insert(at, [name])


def _filled(content: str, own: Sequence[str], segments: _Segments) -> str:
    """Replace the placeholders of a content by what they name."""
    return PLACEHOLDER.sub(lambda match: _default(match[1], match[2], own, segments), content)


def _default(name: str, component: str | None, own: Sequence[str], segments: _Segments) -> str:
    """A field of the message as it is by default, or a component: of this segment, else of the first of its name."""
    of, _, number = name.partition("-")
    index = int(number) - (of == "MSH")
    segment = own if own[0] == of else next((segment for segment in segments if segment[0] == of), [])
    field = segment[index] if index < len(segment) else ""
    if component is None:
        return field
    return [*field.partition("~")[0].split("^"), *[""] * 9][int(component) - 1]


def _fit(segment: list[str], codec: str, charset: str) -> None:
    """Leave out writings of a name that a character set lacks; refuse anything else that it lacks."""
    for index, field in enumerate(segment):
        if segment[0] == "PID" and index == 5:
            writings = field.split("~")
            segment[index] = "~".join([writing for writing in writings if _is_in(writing, codec)] or writings)
        if strange := next((char for char in segment[index] if not _is_in(char, codec)), ""):
            name = f"{segment[0]}-{index + (segment[0] == 'MSH')}"
            raise EncodeError(
                f"{name} has {strange!r}, which {charset} lacks; give the destination charset UNICODE UTF-8"
            )


def _is_in(text: str, codec: str) -> bool:
    try:
        text.encode(codec)
    except UnicodeEncodeError:
        return False
    return True
