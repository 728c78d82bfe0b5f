"""Pipelines that read what comes back from a destination (``factory = "returned:DESTINATION"``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from node.config.destination import Destination
from node.config.outside import RETURNED, ReturnedResults, outside_factory
from node.config.pipelines import PipelineTable
from node.config.procedures import Procedure
from node.config.routing import Rule
from node.config.table import suggest


def returned_pipelines(pipelines: Mapping[str, PipelineTable]) -> dict[str, str]:
    """Return the pipelines of this kind, with the destination from which results come back."""
    sources = {name: outside_factory(table.factory) for name, table in pipelines.items()}
    return {name: of.destination for name, of in sources.items() if isinstance(of, ReturnedResults)}


def returned_fault(
    returned: Mapping[str, str],
    destinations: Mapping[str, Destination],
    rules: Sequence[Rule],
    procedures: Mapping[str, Procedure],
) -> str:
    """Say what is wrong with them; empty: nothing."""
    for name, source in returned.items():
        if source not in destinations:
            return (
                f"pipelines.{name}.factory names destination {source!r}, which is not defined"
                f"{suggest(source, destinations)}; add [destinations.{source}]"
            )
        if not destinations[source].deidentify:
            return (
                f'pipelines.{name}.factory names {source!r}, which needs deidentify = "basic": its results are '
                "recognised by the pseudonyms under which the images left"
            )
        users = [f"rule {rule.name!r}" for rule in rules if name in rule.pipelines + rule.shadow]
        users += [f"procedures.{key}" for key, procedure in procedures.items() if procedure.pipeline == name]
        if users:
            return (
                f"{users[0]} names pipeline {name!r}, which runs when results come back; remove it, and name "
                f"{source!r} in send of a rule"
            )
    sources = list(returned.values())
    for name, table in destinations.items():
        for to in table.results_to:
            if to not in destinations or to == name:
                return f"destinations.{name}.results_to names {to!r}; name another defined destination"
        if sources.count(name) > 1 or (table.results_to and name not in sources):
            return (
                f"destinations.{name}: {sources.count(name)} pipelines read what comes back from it; "
                f'give one of them factory = "{RETURNED}{name}"'
            )
    return ""
