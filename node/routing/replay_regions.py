"""Replay and test of rules that ask for the body region: pixels are read only where a decision depends on them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from node.config import Rule
from node.config.characteristics import BODY_REGION
from node.confined import ConfinedProcess
from node.errors import NodeError
from node.routing.body_regions import BOUNDS, UNREAD, needs_body_region, recognize, unread
from node.routing.replay_decisions import SeriesFiles, decide_files
from node.routing.rules import Decision
from node.studies.characteristics import Certainty, Characteristic, Characteristics
from node.studies.folder import folders_of


@dataclass(frozen=True, kw_only=True)
class Readers:
    """Confined processes that read the files of a study."""

    headers: ConfinedProcess
    pixels: ConfinedProcess
    """May decode."""


def decide_with_pixels(
    study_uid: str, study: Sequence[SeriesFiles], rules: Sequence[Rule], of_ct: Collection[str], readers: Readers
) -> tuple[dict[str, Decision], dict[str, Characteristics]]:
    """Return the decisions on the series of a study, by Series Instance UID, and what was seen in their pixels.

    ``of_ct``: Series Instance UIDs of those that are CT. Raises ``NodeError`` where headers cannot be read; a region
    that cannot be recognized is *unknown*.
    """
    decisions = readers.headers.call(f"study {study_uid}", decide_files, study, rules)
    seen = [
        replace(series, seen=_seen(series, readers.pixels))
        if not series.seen
        and series.series_instance_uid in decisions
        and series.series_instance_uid in of_ct
        and needs_body_region(decisions[series.series_instance_uid].trace, rules)
        else series
        for series in study
    ]
    if seen != list(study):
        decisions = readers.headers.call(f"study {study_uid}", decide_files, seen, rules)
    return decisions, {series.series_instance_uid: series.seen for series in seen}


def pixel_reader(files: Iterable[Path]) -> ConfinedProcess:
    """Return a process that may decode these files."""
    return ConfinedProcess("body region reader", readable=folders_of(files), bounds=BOUNDS)


def recorded_body_region(characteristics: Mapping[str, Mapping[str, Any]] | None) -> Characteristics:
    """Return the region that the ledger has of a decision; ``characteristics``: as it keeps them.

    Nothing when the pixels were not read then: they are read now.
    """
    region = (characteristics or {}).get(BODY_REGION)
    if region is None or any(keyword == UNREAD for keyword, _ in region["basis"]):
        return {}
    basis = tuple((str(keyword), str(value)) for keyword, value in region["basis"])
    return {
        BODY_REGION: Characteristic(
            values=tuple(region["values"]), certainty=Certainty(region["certainty"]), basis=basis
        )
    }


def _seen(series: SeriesFiles, pixels: ConfinedProcess) -> Characteristics:
    try:
        region = pixels.call(f"series {series.series_instance_uid}", recognize, series.paths)
    except NodeError as error:
        region = unread(str(error))
    return {BODY_REGION: region}
