"""How reasons read that are about orders of the Modality Worklist."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from node.reasons.codes import ReasonCode, Text
from node.translation import gettext, marked, ngettext


def _not_taken(values: Mapping[str, Any]) -> str:
    patients, accessions, unrelated = values["patients"], values["accessions"], values["unrelated"]
    sentences = [
        patients
        and ngettext(
            "{number} entry of the worklist has its numbers and another patient",
            "{number} entries of the worklist have its numbers and another patient",
            patients,
        ),
        accessions
        and ngettext(
            "{number} entry of the worklist has another accession number",
            "{number} entries of the worklist have another accession number",
            accessions,
        ),
        values["ambiguous"]
        and gettext(
            "the worklist has {number} procedures of the patient on that day, and no number names one",
            number=values["ambiguous"],
        ),
        unrelated
        and ngettext(
            "the worklist answered with {number} entry of another study",
            "the worklist answered with {number} entries of other studies",
            unrelated,
        ),
    ]
    return "; ".join(filter(None, sentences))


TEXTS: Mapping[ReasonCode, Text] = {
    ReasonCode.WORKLIST_AWAITED: marked("the worklist has not answered whether there is an order"),
    ReasonCode.WORKLIST_SILENT: marked("the worklist did not answer ({explanation})"),
    ReasonCode.WORKLIST_EMPTY: marked("the worklist has none of this study"),
    ReasonCode.WORKLIST_NOT_TAKEN: _not_taken,
}
