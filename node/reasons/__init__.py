"""Reasons as data, and the sentences that show them.

Why a series is complete or not yet, why it was routed or ignored, why a job ended: the ledger keeps codes with
parameters, and ``reason_text`` puts them into words when they are shown. ``node.translation`` has them in
other languages. A ledger of version 1.0.0 holds sentences, which are shown as they were written.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from node.reasons import completeness, feedback, outcomes, routing, worklist
from node.reasons.codes import Reason, ReasonCode, reason
from node.reasons.outcomes import failed
from node.translation import gettext, marked

__all__ = ["Reason", "ReasonCode", "deferrals_text", "failed", "reason", "reason_text", "trace_in_words"]

_TEXTS = {**completeness.TEXTS, **routing.TEXTS, **outcomes.TEXTS, **feedback.TEXTS, **worklist.TEXTS}
_AWAITED = {
    ReasonCode.LAST_IMAGE: marked("more images"),
    ReasonCode.PROCEDURE_STEP: marked("its end"),
    ReasonCode.UNREAD_HEADERS: marked("the next attempt"),
    ReasonCode.BODY_REGION_AWAITED: marked("its pixels"),
    ReasonCode.WORKLIST_AWAITED: marked("its answer"),
    ReasonCode.RETURNED_AWAITED: marked("them"),
    ReasonCode.ASSOCIATION_ENDED: marked("the sender"),
    ReasonCode.ASSOCIATION_REJECTED: marked("the sender"),
}


def reason_text(of: Reason | str | None) -> str:
    """Return the sentence, or the part of one, that shows a reason; empty when there is none.

    One of another form, which only a process that reads hostile files could have made, is shown as it is.
    """
    if of is None or isinstance(of, str):
        return of or ""
    try:
        text = _TEXTS[ReasonCode(of["code"])]
        values = {name: _shown(value) for name, value in of.items()}
        return gettext(text).format_map(values) if isinstance(text, str) else text(values)
    except (LookupError, TypeError, ValueError):
        return json.dumps(of, default=str)


def _shown(value: Any) -> Any:
    """A parameter with every reason in it as text."""
    if isinstance(value, Mapping):
        return (
            reason_text(value)
            if value.get("code") in _TEXTS
            else {name: _shown(entry) for name, entry in value.items()}
        )
    return [_shown(entry) for entry in value] if isinstance(value, (list, tuple)) else value


def deferrals_text(deferrals: Sequence[Mapping[str, Any]]) -> str:
    """Return what a series waits for: ``deferrals`` as ``series.doubts`` has them, those that wait alike together."""
    groups: dict[str, list[str]] = {}
    for deferral in deferrals:
        awaited = gettext(_AWAITED.get(deferral["about"]["code"], marked("the missing images")))
        how = (
            ""
            if deferral["until"] is None
            else gettext("; waiting {seconds:g} s for {awaited}", seconds=deferral["seconds"], awaited=awaited)
        )
        groups.setdefault(how, []).append(reason_text(deferral["about"]))
    return "; ".join("; ".join(texts) + how for how, texts in groups.items())


def trace_in_words(trace: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return a trace with its notes as sentences."""
    return [{**entry, "note": reason_text(entry["note"])} if "note" in entry else dict(entry) for entry in trace]
