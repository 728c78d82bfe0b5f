"""Routes of a series with those of the pipelines whose results they need (``[pipelines.NAME] after``)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from node.config import Config
from node.routing.rules import Route


def with_prerequisites(routes: Iterable[Route], config: Config) -> list[Route]:
    """Return the routes in an order in which each comes after the one whose result it needs.

    A pipeline that no rule names for the series runs for those that need it: its results are kept here and sent to
    nobody. It is as urgent as the most urgent of them.
    """
    named = {route.pipeline: route for route in routes}
    ordered: dict[str, Route] = {}
    for route in named.values():
        for pipeline in (*config.before(route.pipeline), route.pipeline):
            wanted = named.get(pipeline) or replace(route, pipeline=pipeline, destinations=())
            known = ordered.get(pipeline, wanted)
            ordered[pipeline] = replace(
                known,
                after=config.after(pipeline),
                priority=min(known.priority, route.priority),
                shadow=known.shadow if pipeline in named else known.shadow and wanted.shadow,
            )
    return list(ordered.values())
