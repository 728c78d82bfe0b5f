"""What machines have of the published configuration, in words."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from node.ledger.published_rules import FileState
from node.translation import gettext, ngettext


def state_lines(state: FileState) -> list[str]:
    """Return what a configuration file has: a line, then why it has no more and how it differs, indented."""
    of = {"file": state.file, "number": state.number}
    first = gettext("{file}: version {number}", **of)
    lines = [first if state.is_newest else gettext("{file}: only version {number}", **of)]
    if number := len(state.differences):
        lines[0] += ngettext(", {number} shared value differs", ", {number} shared values differ", number)
    if state.fault:
        lines.append("  " + gettext("cannot take over the newest: {reason}", reason=state.fault))
    return [*lines, *difference_lines(state.differences)]


def difference_lines(differences: Mapping[str, Collection[str]], between: str = ", ") -> list[str]:
    """Return a line for each shared key with its two values."""
    return [f"  {key}: {between.join(values)}" for key, values in differences.items()]
