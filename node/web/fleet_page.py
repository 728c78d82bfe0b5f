"""Page of the machines that share the ledger, with their processes; and the switch that drains one."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response

from node.ledger.drained_machines import drain_machines, drained_machines, undo_drain
from node.ledger.engine import begin_immediate
from node.ledger.members import beats
from node.ledger.missing_copies import count_missing_copies
from node.ledger.published_rules import file_states
from node.operate.fleet import fleet
from node.operate.fleet_machines import fleet_machines, fleet_notices, load_text, offset_texts, shown_state
from node.operate.published_text import state_lines
from node.translation import gettext
from node.web.actions import note
from node.web.app_context import AppContext
from node.web.auth import UserRequest, require


def machines(context: AppContext, user_request: UserRequest) -> Response:
    """Show every machine with its processes, and first what an operator must notice."""
    require(user_request.user, "operate")
    members = fleet(context.engine)
    with context.engine.connect() as connection:
        notices, drained = fleet_notices(connection, members), drained_machines(connection)
        files = [state_lines(state)[0] for state in file_states(connection) if not state.is_as_published]
        missing = count_missing_copies(connection)
    return context.page(
        "fleet.html",
        user_request,
        machines=fleet_machines(members, drained),
        notices=[*notices, *files],
        missing=missing,
        copies=context.config.storage.copies,
        shared_clock=context.engine.dialect.name == "sqlite",
        state_of=shown_state,
        load_of=load_text,
        offset_of=offset_texts,
    )


def switch_machine(context: AppContext, user_request: UserRequest) -> Response:
    """Drain a machine, or let it work again."""
    form = user_request.form
    key = form.get("machine", ""), form.get("host", "")
    with begin_immediate(context.engine) as connection:
        running = {(beat.member.machine, beat.member.host_name) for beat in beats(connection)}
        if key not in running | drained_machines(connection).keys():
            raise HTTPException(404, gettext("No process of machine {host!r} runs.", host=key[1]))
        if form.get("to") == "drain":
            drain_machines(connection, [key])
        else:
            undo_drain(connection, [key])
    note(context, user_request, f"{'drained' if form.get('to') == 'drain' else 'ended the drain of'} machine {key[1]}")
    return RedirectResponse("/fleet", 303)
