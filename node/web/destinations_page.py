"""Page of the destinations, and the switch that pauses one."""

from __future__ import annotations

import sqlalchemy as sa
from starlette.responses import RedirectResponse, Response

from node.ledger import circuits
from node.ledger.engine import begin_immediate, now
from node.ledger.operator_switches import (
    pause_destination,
)
from node.ledger.tables import delivery
from node.web.app_context import AppContext, configured
from node.web.auth import UserRequest


def destinations(context: AppContext, user_request: UserRequest) -> Response:
    """Show every destination with its health and its pending deliveries."""
    with context.engine.connect() as connection:
        rows = connection.execute(
            sa.select(
                delivery.c.destination, delivery.c.state, sa.func.count().label("n"),
                sa.func.min(delivery.c.created_at).label("oldest"), sa.func.max(delivery.c.updated_at).label("latest"),
                sa.func.max(delivery.c.error).label("error"),
            ).group_by(delivery.c.destination, delivery.c.state)
        ).all()  # fmt: skip
        broken = {one.destination: one for one in circuits.circuits(connection)}
    found = []
    for name in sorted({*context.config.destinations, *(row.destination for row in rows)}):
        table, circuit = context.config.destinations.get(name), broken.get(name)
        own = {row.state: row for row in rows if row.destination == name}
        waiting = [own[state] for state in ("SCHEDULED", "IN PROGRESS") if state in own]
        error = circuit.error if circuit else next((row.error for row in waiting if row.error), "")
        latest = max((own[state].latest for state in ("STORED", "CONFIRMED") if state in own), default=None)
        found.append(
            {
                "name": name,
                "place": table.place if table else "no longer configured",
                "health": _health(circuit, error, latest),
                "since": circuit.opened_at if circuit else None,
                "error": error,
                "counts": {state: row.n for state, row in own.items()},
                "waiting": sum(row.n for row in waiting),
                "age": now() - min(row.oldest for row in waiting) if waiting else None,
                "latest": latest,
            }
        )
    return context.page("destinations.html", user_request, destinations=found)


def _health(circuit: circuits.Circuit | None, error: str, latest: float | None) -> str:
    """Return the health in one word. ``idle``: nothing was sent there, so the health is unknown."""
    if circuit is not None and circuit.opened_at is not None:
        return "paused" if circuit.paused else "down"
    return "failing" if error else "idle" if latest is None else "up"


def switch_destination(context: AppContext, user_request: UserRequest) -> Response:
    """Pause or resume one."""
    name = configured(user_request.request.path_params["name"], context.config.destinations)
    with begin_immediate(context.engine) as connection:
        if user_request.form.get("to") == "pause":
            pause_destination(connection, name, user_request.user.name)
        else:
            circuits.close(connection, name)
    if user_request.form.get("to") != "pause":
        context.jobs.make_due(name)
    return RedirectResponse("/destinations", 303)
