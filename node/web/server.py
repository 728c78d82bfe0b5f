"""The web role: routes, templates and the HTTP server in a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import sqlalchemy as sa
import uvicorn
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from node import __version__
from node.config import Config
from node.errors import NodeError, NotFoundError, PlatformError
from node.jobs.engine import Jobs
from node.spool import Spool
from node.web import actions, pages, probes, studies, words
from node.web.site import Site
from node.web.users import secret_key
from node.web.visit import Door, Guarded, Visit

START_SECONDS = 30.0
_PAGES: tuple[tuple[str, Callable[[Site, Visit], Response], str], ...] = (
    ("/", pages.stream, "GET"),
    ("/study/{uid}", studies.study, "GET"),
    ("/study/{uid}/evidence.zip", studies.evidence, "GET"),
    ("/slice/{job}/{index:int}.jpg", studies.picture, "GET"),
    ("/destinations", pages.destinations, "GET"),
    ("/pipelines", pages.pipelines, "GET"),
    ("/pipelines/{name}", pages.pipeline, "GET"),
    ("/storage", pages.storage, "GET"),
    ("/account", pages.account, "GET"),
    ("/job/{job}/retry", actions.retry, "POST"),
    ("/job/{job}/cancel", actions.cancel, "POST"),
    ("/study/{uid}/run", actions.run, "POST"),
)


def make_app(config: Config, engine: sa.Engine, spool: Spool, jobs: Jobs) -> Starlette:
    """The application; every page but login and probes is behind the door."""
    tls = config.web.certificate is not None
    door = Door(config.web, config.storage.folder)
    site = Site(config=config, engine=engine, spool=spool, jobs=jobs, templates=_templates(config))

    def route(path: str, page: Callable[[Site, Visit], Response], method: str) -> Route:
        return Route(path, door.let_in(lambda visit: page(site, visit)), methods=[method])

    async def gone_wrong(request: Request, error: Exception) -> Response:
        status = 404 if isinstance(error, NotFoundError) else 400
        if isinstance(error, HTTPException):
            status = error.status_code
        text = error.detail if isinstance(error, HTTPException) else str(error)
        return HTMLResponse(site.render("error.html", None, text=text, path=request.url.path), status)

    return Starlette(
        routes=[
            *(route(*entry) for entry in _PAGES),
            *probes.routes(site),
            *pages.login_routes(site, door),
            Mount("/static", StaticFiles(packages=[("node.web", "static")])),
        ],
        middleware=[
            Middleware(Guarded, tls=tls),
            Middleware(
                SessionMiddleware,
                secret_key=secret_key(config.storage.folder),
                session_cookie="ainode",
                max_age=int(config.web.session_hours * 3600),
                same_site="strict",
                https_only=tls or bool(config.web.proxy_header),
            ),
        ],
        exception_handlers={NodeError: gone_wrong, HTTPException: gone_wrong},
    )


@contextmanager
def serving(config: Config, engine: sa.Engine, spool: Spool) -> Iterator[int]:
    """Serve until the end of the ``with`` block; the port is the value. Raises ``PlatformError`` when it is taken."""
    web = config.web
    server = uvicorn.Server(
        uvicorn.Config(
            make_app(config, engine, spool, Jobs(engine)),
            host=web.address,
            port=web.port,
            ssl_certfile=web.certificate,
            ssl_keyfile=web.key,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            log_config=None,
            lifespan="off",
            timeout_graceful_shutdown=5,
        )
    )
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    thread = threading.Thread(target=_run, args=(server,), name="web", daemon=True)
    thread.start()
    deadline = threading.Event()
    for _ in range(int(START_SECONDS * 20)):
        if server.started or not thread.is_alive():
            break
        deadline.wait(0.05)
    if not server.started:
        raise PlatformError(f"[web] {web.address}:{web.port} cannot be served; stop what uses the port, or change it")
    try:
        yield web.port
    finally:
        server.should_exit = True
        thread.join()


def _run(server: uvicorn.Server) -> None:
    try:
        server.run()
    except SystemExit:  # uvicorn's answer to a port that is taken; the thread's end says it
        return


def _templates(config: Config) -> Environment:
    loader = PackageLoader("node.web")
    found = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    found.globals.update(version=__version__, title=config.ae.title, show_patient=config.web.show_patient)
    found.filters.update(words.FILTERS)
    return found
