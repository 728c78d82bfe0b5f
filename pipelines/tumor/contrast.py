"""Contrast check: whether the headers describe a FLAIR series, the only contrast the network was trained on."""

from __future__ import annotations

from node.pipeline import Series, sentence

FLAIR_NAMES = ("flair", "dark fluid", "dark-fluid", "darkfluid", "tirm")
SHORTEST_INVERSION_MS = 1400.0
"""Inversion times that null CSF are 1700 to 2900 ms; those that null fat (STIR) are 130 to 250 ms."""
SHORTEST_ECHO_MS = 50.0
"""FLAIR of interest is T2-weighted, with echo times of 80 to 400 ms (effective, in 3D sequences)."""


def why_not_flair(series: Series) -> str | None:
    """What in the headers speaks against T2-weighted FLAIR; ``None`` when nothing does.

    Read are Inversion Time, Echo Time and Scanning Sequence (PS3.3 C.8.3.1) and the names given to the series.
    A series without any of them is accepted: absence says nothing.
    """
    inversion = _number(series, "InversionTime")
    if inversion and inversion < SHORTEST_INVERSION_MS:
        least = f"{SHORTEST_INVERSION_MS:g}"
        return sentence("Inversion Time is {time} ms, FLAIR has {least} ms or more", time=f"{inversion:g}", least=least)
    echo = _number(series, "EchoTime")
    if echo and echo < SHORTEST_ECHO_MS:
        least = f"{SHORTEST_ECHO_MS:g}"
        return sentence(
            "Echo Time is {time} ms, T2-weighted FLAIR has {least} ms or more", time=f"{echo:g}", least=least
        )
    names = " ".join(str(series.attribute(k) or "") for k in ("SeriesDescription", "ProtocolName")).strip().lower()
    if inversion or any(name in names for name in FLAIR_NAMES):
        return None
    scanning = series.attribute("ScanningSequence")
    techniques = [scanning] if isinstance(scanning, str) else list(scanning or [])
    if techniques and "IR" not in techniques:
        return sentence(
            "Scanning Sequence is {techniques} without inversion recovery, and no name says FLAIR",
            techniques="/".join(techniques),
        )
    return None


def _number(series: Series, keyword: str) -> float | None:
    value = series.attribute(keyword)
    return None if value in (None, "") else float(value)
