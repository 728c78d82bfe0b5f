"""The series that a request for an analysis is about."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection

from node.errors import NodeError, NotFoundError
from node.ledger.decisions import trace_of
from node.ledger.held_series import refuse_held
from node.ledger.results import is_of_result
from node.ledger.retention import refuse_purged_series
from node.ledger.series import Series, series_of_study
from node.ledger.states import SeriesState


def requested_series(connection: Connection, study: str, series_uid: str, pipeline: str) -> Series | None:
    """Return the series of a request; ``None``: the study is being received, and more than one may suit.

    Without ``series_uid`` it is the one that a rule has matched for the pipeline, or else the only one of the study.
    Raises ``NotFoundError`` when it is not here, ``NodeError`` when it must not be analysed or none can be chosen.
    """
    of_study = [
        series
        for series in series_of_study(connection, study)
        if (series.instances or series.purged_images) and not is_of_result(connection, series.series_instance_uid)
    ]
    if series_uid:
        of_study = [series for series in of_study if series.series_instance_uid == series_uid]
    if not of_study:
        raise NotFoundError(f"this node holds no images of {f'series {series_uid} of ' if series_uid else ''}{study}")
    chosen = _matched(connection, of_study, pipeline) if len(of_study) > 1 else of_study
    if len(chosen) != 1:
        if any(series.state == SeriesState.RECEIVING for series in of_study):
            return None
        raise NodeError(
            f"study {study} has {len(of_study)} series, and the rules choose {len(chosen) or 'none'} of them for "
            f"{pipeline}; name the series in Input Information Sequence"
        )
    refuse_held(connection, study, chosen[0].series_instance_uid)
    refuse_purged_series(connection, study, [chosen[0].series_instance_uid])
    return chosen[0]


def _matched(connection: Connection, of_study: Sequence[Series], pipeline: str) -> list[Series]:
    """Those that a rule has matched for the pipeline in their latest generation."""
    return [
        series
        for series in of_study
        if any(
            entry.get("matched") and pipeline in entry.get("pipelines", ()) and "companion" not in entry
            for entry in trace_of(connection, series.study_instance_uid, series.series_instance_uid, series.generation)
        )
    ]
