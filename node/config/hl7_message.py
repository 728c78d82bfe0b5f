"""``[destinations.NAME.message]``: how the HL7 messages of a site differ from what the node sends by default."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Literal

from pydantic import Field, field_validator

from node.config.table import Table

CHARACTER_SETS: Mapping[str, str] = MappingProxyType(
    {
        "UNICODE UTF-8": "utf-8",
        "ASCII": "ascii",
        **{f"8859/{part}": f"iso8859_{part}" for part in (1, 2, 5, 7, 9, 15)},
    }
)
"""Values of MSH-18 (table 0211), and how Python calls them."""
SEGMENTS = ("MSH", "PID", "PD1", "PV1", "PV2", "ORC", "OBR", "TQ1", "OBX")
"""Segments in the order of ORU^R01; those of a site (Z...) come last."""
PLACEHOLDER = re.compile(r"\{([A-Z][A-Z0-9]{2}-[1-9][0-9]?)(?:\.([1-9]))?\}")
"""A field of the message as it is by default, or a component of it."""
_FIELD = re.compile(r"([A-Z][A-Z0-9]{2})-([1-9][0-9]?)")
_MADE_BY_NODE = ("MSH-1", "MSH-2", "MSH-9", "MSH-10", "MSH-12", "MSH-18", *(f"OBX-{n}" for n in (1, 2, 3, 4, 5, 6, 11)))
"""They make the message, or say the result."""
_SAY_WHOSE = ("PID-3", "PID-5", "PID-7", "PID-8", "OBR-2", "OBR-3", "OBR-18", "OBR-25")
"""Of whom, for which order, and how certain: a site may add to them, not replace them."""
_CODE, _LOCAL = re.compile(r"[^|~\\&^]+\^[^|~\\&^]+"), re.compile(r"[^|~\\&^]+(\^[^|~\\&^]+){2}")


class Hl7Message(Table):
    """Character set, fields and codes of the messages to one destination."""

    charset: Literal["UNICODE UTF-8", "ASCII", "8859/1", "8859/2", "8859/5", "8859/7", "8859/9", "8859/15"] = (
        "UNICODE UTF-8"
    )
    """Character set of the message (MSH-18)."""
    fields: dict[str, str] = Field(default_factory=dict)
    """Content of fields by their name, such as ``OBR-24 = "CT"``; ``{OBR-3}`` is a field as it is by default,
    ``{PID-3.1}`` a component of it. A segment
    that a message does not have is added."""
    codes: dict[Annotated[str, Field(pattern=_CODE)], Annotated[str, Field(pattern=_LOCAL)]] = Field(
        default_factory=dict
    )
    """Codes of the site by those of the report: ``"39607008^SCT" = "LUNG^Lung^LOCAL"``; the latter become the
    alternative ones."""

    @field_validator("fields")
    @classmethod
    def _fields(cls, fields: dict[str, str]) -> dict[str, str]:
        for name, value in fields.items():
            match = _FIELD.fullmatch(name)
            if match is None or not (match[1] in SEGMENTS or name.startswith("Z")):
                known = ", ".join(SEGMENTS)
                raise ValueError(
                    f"{name!r} is no field; give one such as OBR-24, of {known} or a segment of your own (Z..)"
                )
            if name in _MADE_BY_NODE:
                raise ValueError(f"{name} is made by the node; remove it (charset sets MSH-18, codes those of OBX)")
            placeholders = [f"{{{name}}}", *([] if name == "PID-5" else [f"{{{name}.1}}"])]
            if name in _SAY_WHOSE and not any(placeholder in value for placeholder in placeholders):
                raise ValueError(
                    f"{name} = {value!r}: it says whose result this is, so its content must remain: {{{name}}}"
                )
            if not value.isprintable() or "|" in value:
                raise ValueError(f"{name} = {value!r}: give one field, without | and control characters")
        return fields
