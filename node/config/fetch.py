"""``[fetch]``: how studies on lists are fetched from an archive without disturbing the routine."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from node.config.rule_condition import Hours
from node.config.table import Table


class Fetch(Table):
    """When the studies of `ainode fetch --queue` are fetched, and how many at a time."""

    hours: Hours = ""
    """Local time at which studies are fetched, such as ``20:00-06:00``; empty: always."""
    open_analyses: Annotated[int, Field(ge=1, le=10_000)] = 20
    """No further study is fetched while so many analyses of fetched ones have not ended."""
