"""Alerts about results that come back from a service outside, which got images under pseudonyms."""

from __future__ import annotations

import sqlalchemy as sa

from node.config import Config
from node.ledger.returned_results import series_without_return, unread_returns
from node.operate.explain import clock
from node.translation import ngettext

_DAY_SECONDS = 86400.0
_UNRETURNED_SECONDS = 7 * _DAY_SECONDS
"""For which a result that does not come back is reported."""


def returned_alerts(config: Config, connection: sa.Connection, at: float) -> dict[str, str]:
    """Say of which series of the last days nothing came back, by service, and what is not read, by job."""
    alerts = {}
    for pipeline, source in config.returned.items():
        seconds = config.destinations[source].results_within_hours * 3600
        before = at - seconds
        lacking = series_without_return(connection, source, pipeline, before - _UNRETURNED_SECONDS, before)
        if seconds and lacking is not None:
            alerts[f"returned {source}"] = ngettext(
                "nothing came back from {destination} of {number} series, which was sent there at {time}",
                "nothing came back from {destination} of {number} series, the first of which was sent there at {time}",
                lacking.number,
                destination=source,
                time=clock(lacking.oldest),
            )
    if config.returned:
        alerts |= {
            f"unread {count.name}": ngettext(
                "{number} result came back after job {job} had begun and is not read; `ainode retry {job}` reads all",
                "{number} results came back after job {job} had begun and are not read; `ainode retry {job}` reads all",
                count.number,
                job=count.name,
            )
            for count in unread_returns(connection, at - _UNRETURNED_SECONDS)
        }
    return alerts
