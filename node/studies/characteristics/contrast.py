"""Contrast agent and phase of a series, as far as its headers show them."""

from __future__ import annotations

import re
from collections.abc import Mapping

from node.studies.characteristics.characteristic import Characteristic, Evidence, certain, likely, unknown
from node.wording import written

_AGENT, _ROUTE, _START = "ContrastBolusAgent", "ContrastBolusRoute", "ContrastBolusStartTime"
_USAGE = "ContrastBolusUsageSequence"
_ADMINISTERED = f"{_USAGE}.ContrastBolusAgentAdministered"
_PHASE = f"{_USAGE}.ContrastBolusAgentPhase"
_CODE = "ContrastBolusAgentSequence.CodeMeaning"
_AMOUNTS = ("ContrastBolusVolume", "ContrastBolusTotalDose")
_NONE = re.compile(
    r"NO|NON|NONE|N|NEIN|OHNE|KEIN|NATIVE?|NATIV|WITHOUT|W O|NOT GIVEN|UNKNOWN|NO CONTRAST|NO IV CONTRAST"
)
_NOT_INTRAVENOUS = re.compile(r"(?<![A-Z])(ORAL|PO|RECTAL|P O)(?![A-Z])")
_INTRAVENOUS = re.compile(r"(?<![A-Z])(IV|I V|INTRAVENOUS|INTRA ARTERIAL)(?![A-Z])")
_PHASES: Mapping[str, str] = {
    "PRE_CONTRAST": "native", "ARTERIAL": "arterial", "PORTAL_VENOUS": "portal venous", "VENOUS": "venous",
    "DELAYED": "delayed",
}  # fmt: skip
"""Contrast/Bolus Agent Phase (0018,9344, PS3.3 C.7.6.16.2.12)."""
_DELAYS = (("arterial", 15.0, 40.0), ("portal venous", 55.0, 90.0), ("delayed", 150.0, 900.0))
"""Seconds after the start of the injection, in CT of the trunk. Between them, several phases are possible."""


def contrast_agent_of(evidence: Evidence) -> Characteristic:
    """Return whether an intravenous agent was given.

    An absent or empty attribute does not show that none was: half of the scanners leave it out.
    """
    administered = set(evidence.texts(_ADMINISTERED))
    if administered == {"YES"}:
        return certain("given", evidence.basis(_ADMINISTERED))
    if administered == {"NO"}:
        return certain("not given", evidence.basis(_ADMINISTERED))
    agents = [_plain(text) for text in (*evidence.texts(_AGENT), *evidence.texts(_CODE))]
    agents = [text for text in agents if text and not _NONE.fullmatch(text)]
    routes = " ".join([_plain(text) for text in evidence.texts(_ROUTE)] + agents)
    basis = evidence.basis(*(evidence.present(_AGENT, _CODE, _ROUTE) or (_AGENT,)))
    if _NOT_INTRAVENOUS.search(routes) and not _INTRAVENOUS.search(routes):
        return unknown(basis)
    if agents:
        return certain("given", basis)
    amounts = [keyword for keyword in _AMOUNTS if any(number > 0 for number in evidence.numbers(keyword))]
    return likely("given", evidence.basis(*amounts)) if amounts else unknown(basis)


def contrast_phase_of(evidence: Evidence) -> Characteristic:
    """Return the phase of a CT series: stated, or concluded from the time between the injection and the first image."""
    stated = evidence.texts(_PHASE)
    if len(stated) == 1 and stated[0] in _PHASES:
        return certain(_PHASES[stated[0]], evidence.basis(_PHASE))
    if contrast_agent_of(evidence).values == ("not given",):
        return certain("native", evidence.basis(_ADMINISTERED))
    starts, acquired = evidence.texts(_START), evidence.texts("AcquisitionTime")
    seconds = [_seconds(text) for text in (*starts, *acquired)]
    if len(starts) != 1 or not acquired or None in seconds:
        return unknown(evidence.basis(_PHASE, _START))
    known = [second for second in seconds if second is not None]
    delay = min(known[1:]) - known[0]
    basis = (*evidence.basis(_START), ("seconds to the first image", written(delay)))
    phase = next((name for name, least, most in _DELAYS if least <= delay <= most), "")
    return likely(phase, basis) if phase else unknown(basis)


def _plain(text: str) -> str:
    return " ".join(re.findall(r"[^\W_]+", text.upper()))


def _seconds(text: str) -> float | None:
    """Return seconds since midnight of a TM value (PS3.5 6.2); ``None`` for one without minutes."""
    match = re.fullmatch(r"(\d\d):?(\d\d):?(\d\d(?:\.\d*)?)?", text)
    return int(match[1]) * 3600 + int(match[2]) * 60 + float(match[3] or 0) if match else None
