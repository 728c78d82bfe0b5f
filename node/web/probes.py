"""What machines ask, without login: is it alive, is it ready."""

from __future__ import annotations

from collections.abc import Iterable

import sqlalchemy as sa
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from node.operate.status import by_role
from node.web.site import Site


def routes(site: Site) -> Iterable[Route]:
    """``/healthz``: this process answers. ``/readyz``: 200 when the node can work, else 503 with what is missing."""

    async def alive(_request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def ready(_request: Request) -> Response:
        faults = await run_in_threadpool(faults_of, site)
        return JSONResponse({"ready": not faults, "faults": faults}, 503 if faults else 200)

    return (Route("/healthz", alive), Route("/readyz", ready))


def faults_of(site: Site) -> list[str]:
    """Why the node cannot work: ledger, disk, a role that does not beat."""
    try:
        with site.engine.connect() as connection:
            roles = by_role(connection)
    except sa.exc.SQLAlchemyError:
        return ["the ledger does not answer"]
    faults = [f"no {role} is alive" for role in ("worker", "sender") if not roles.get(role)]
    free = site.spool.free_gib()
    if free <= site.config.storage.min_free_gib:
        faults.append(f"{free:.1f} GiB free, images are refused below {site.config.storage.min_free_gib:g} GiB")
    return faults
