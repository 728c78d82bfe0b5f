"""The reason that an operator states for an act."""

from __future__ import annotations

from node.errors import NodeError

_LONGEST = 500


def stated_reason(text: str) -> str:
    """Return a reason as it is recorded. Raises ``NodeError`` when there is none."""
    if not text.strip():
        raise NodeError("give a reason: it is kept in the audit trail")
    return text.strip()[:_LONGEST]
