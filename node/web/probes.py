"""Probes for monitoring, without login: liveness, readiness, metrics."""

from __future__ import annotations

from collections.abc import Iterable

import sqlalchemy as sa
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from node.config import Config, Storage
from node.ledger.holdings import copy_services
from node.ledger.instances import try_row
from node.operate.fleet import is_machine_drained
from node.operate.metrics import exposition
from node.operate.status import by_role
from node.spool import Spool
from node.spool.machine import machine_id
from node.web.app_context import AppContext

PROBES = ("/metrics", "/healthz", "/readyz")
"""Paths that need no login and answer under any name."""


def routes(context: AppContext) -> Iterable[Route]:
    """``/metrics``; ``/healthz``: this process answers; ``/readyz``: 200 when the node can work, else 503."""

    async def alive(_request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def ready(_request: Request) -> Response:
        faults = await run_in_threadpool(faults_of, context.config, context.engine, context.spool)
        return JSONResponse({"ready": not faults, "faults": faults}, 503 if faults else 200)

    async def metrics(_request: Request) -> Response:
        text = await run_in_threadpool(exposition, context.config, context.engine, context.spool)
        return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")

    return (Route("/healthz", alive), Route("/readyz", ready), Route("/metrics", metrics))


def faults_of(config: Config, engine: sa.Engine, spool: Spool) -> list[str]:
    """Return the faults that keep the node from working: ledger, second copies, disk, a role without heartbeat."""
    if fault := ledger_fault(engine):
        return [fault]
    machine = machine_id(spool.folder)
    with engine.connect() as connection:
        roles, drained = by_role(connection), is_machine_drained(connection, machine)
        no_copies = copies_fault(connection, config.storage, machine)
    faults = [f"no {role} is alive" for role in ("worker", "sender") if not roles.get(role)]
    if drained:
        faults.append("this machine is being drained; `ainode drain --undo` ends that")
    if no_copies:
        faults.append(no_copies)
    space = spool.space()
    if space.is_below(config.storage.min_free_gib):
        faults.append(f"{space.free_gib:.1f} GiB free, images are refused below {config.storage.min_free_gib:g} GiB")
    return faults


def ledger_fault(engine: sa.Engine) -> str:
    """Return why the ledger accepts no rows; empty if it does."""
    try:
        with engine.connect():
            pass
    except sa.exc.SQLAlchemyError:
        return "the ledger does not answer"
    try:
        try_row(engine)
    except sa.exc.SQLAlchemyError:
        return "the ledger takes no rows; images are refused"
    return ""


def copies_fault(connection: sa.Connection, storage: Storage, machine: str) -> str:
    """Return why images are refused for lack of a second copy; empty if they are not."""
    if not storage.needs_second_copy or any(of.machine != machine for of in copy_services(connection)):
        return ""
    return "no other machine takes second copies; images are refused"
