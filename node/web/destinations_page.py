"""Page of the destinations, and the switch that pauses one."""

from __future__ import annotations

from starlette.responses import RedirectResponse, Response

from node.ledger import destination_circuits
from node.ledger.clock import clock_of
from node.ledger.counts import delivery_counts
from node.ledger.engine import begin_immediate
from node.ledger.operator_switches import pause_destination
from node.ledger.states import DeliveryState
from node.translation import gettext
from node.web.app_context import AppContext, configured
from node.web.auth import UserRequest


def destinations(context: AppContext, user_request: UserRequest) -> Response:
    """Show every destination with its health and its pending deliveries."""
    with context.engine.connect() as connection:
        counts = delivery_counts(connection)
        broken = {circuit.destination: circuit for circuit in destination_circuits.circuits(connection)}
    entries = []
    for name in sorted({*context.config.destinations, *(count.destination for count in counts)}):
        table, circuit = context.config.destinations.get(name), broken.get(name)
        own = {count.state: count for count in counts if count.destination == name}
        waiting = [own[state] for state in (DeliveryState.SCHEDULED, DeliveryState.IN_PROGRESS) if state in own]
        error = circuit.error if circuit else next((count.error for count in waiting if count.error), "")
        stored = [own[state].latest for state in (DeliveryState.STORED, DeliveryState.CONFIRMED) if state in own]
        latest = max(stored, default=None)
        entries.append(
            {
                "name": name,
                "place": table.place if table else gettext("no longer configured"),
                "health": _health(circuit, error, latest),
                "since": circuit.opened_at if circuit else None,
                "error": error,
                "counts": {state: count.deliveries for state, count in own.items()},
                "waiting": sum(count.deliveries for count in waiting),
                "age": clock_of(context.engine) - min(count.oldest for count in waiting) if waiting else None,
                "latest": latest,
            }
        )
    return context.page("destinations.html", user_request, destinations=entries)


def _health(circuit: destination_circuits.Circuit | None, error: str, latest: float | None) -> str:
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
            destination_circuits.close(connection, name)
    if user_request.form.get("to") != "pause":
        context.jobs.make_due(name)
    return RedirectResponse("/destinations", 303)
