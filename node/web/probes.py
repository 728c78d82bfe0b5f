"""What machines ask, without login: is it alive, is it ready."""

from __future__ import annotations

from collections.abc import Iterable

import sqlalchemy as sa
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from node.ledger.instances import try_row
from node.operate.metrics import exposition
from node.operate.status import by_role
from node.web.site import Site


def routes(site: Site) -> Iterable[Route]:
    """``/metrics``; ``/healthz``: this process answers; ``/readyz``: 200 when the node can work, else 503."""

    async def alive(_request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def ready(_request: Request) -> Response:
        faults = await run_in_threadpool(faults_of, site)
        return JSONResponse({"ready": not faults, "faults": faults}, 503 if faults else 200)

    async def metrics(_request: Request) -> Response:
        text = await run_in_threadpool(exposition, site.config, site.engine, site.spool)
        return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")

    return (Route("/healthz", alive), Route("/readyz", ready), Route("/metrics", metrics))


def faults_of(site: Site) -> list[str]:
    """Why the node cannot work: ledger, disk, a role that does not beat."""
    if fault := ledger_fault(site.engine):
        return [fault]
    with site.engine.connect() as connection:
        roles = by_role(connection)
    faults = [f"no {role} is alive" for role in ("worker", "sender") if not roles.get(role)]
    free = site.spool.free_gib()
    if free <= site.config.storage.min_free_gib:
        faults.append(f"{free:.1f} GiB free, images are refused below {site.config.storage.min_free_gib:g} GiB")
    return faults


def ledger_fault(engine: sa.Engine) -> str:
    """Why nothing can be received into the ledger; empty when it takes rows."""
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
