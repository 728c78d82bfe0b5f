"""Routes of a series with champion and candidate in the roles that promotions give them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from sqlalchemy import Connection

from node.ledger.promotions import Promotion, answered_before, promotions
from node.ledger.states import ShadowCause
from node.routing.rules import Route


def promoted_routes(connection: Connection, study: str, series_uid: str, routes: Sequence[Route]) -> list[Route]:
    """Return the routes with exactly one of champion and candidate sent.

    Read in the transaction that makes the jobs, so that no series is answered by both or by none.
    """
    if all(route.shadow is None for route in routes):
        return list(routes)
    return with_promotions(routes, promotions(connection), answered_before(connection, study, series_uid))


def with_promotions(routes: Sequence[Route], of: Sequence[Promotion], answered: Collection[str]) -> list[Route]:
    """Change the roles of a champion and its candidate that both analyse the series by the same rule.

    ``answered``: pipelines whose results on earlier generations were sent. Such a one goes on, so that the report on
    late images replaces the one before.
    """
    roles = {route.pipeline: route for route in routes}
    for promotion in of:
        sent, tried = roles.get(promotion.champion), roles.get(promotion.candidate)
        if sent is None or tried is None or sent.rule != tried.rule:
            continue
        if sent.shadow is not None or tried.shadow is None:  # as it is after another promotion
            continue
        answers = promotion.candidate if promotion.rolled_back_at is None else promotion.champion
        answers = next((name for name in (promotion.champion, promotion.candidate) if name in answered), answers)
        if answers == promotion.candidate:
            roles[promotion.champion] = replace(sent, shadow=ShadowCause.TRIAL)
            roles[promotion.candidate] = replace(tried, shadow=None, destinations=sent.destinations)
    return list(roles.values())
