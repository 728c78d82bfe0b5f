"""The web role: routes, templates and the HTTP server in a thread of its own."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import sqlalchemy as sa
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from node import __version__
from node.config import Config, Web
from node.confined import Bounds, shared_process
from node.errors import NodeError, NotFoundError
from node.jobs.engine import Jobs
from node.operate.rules_file import RulesFile
from node.operate.study_labels import StudyLabels
from node.reasons import reason_text
from node.spool import Spool
from node.translation import LANGUAGES, current_language, decimal, gettext, plural_form
from node.web import (
    actions,
    destinations_page,
    fetches_page,
    fleet_page,
    operator_pages,
    pages,
    pipelines_page,
    probes,
    rules_editor,
    rules_page,
    upload_page,
    users_page,
)
from node.web import formatting as words
from node.web import study_page as studies
from node.web.app_context import AppContext
from node.web.auth import Authenticator, UserRequest
from node.web.guarded import Guarded
from node.web.health import Health
from node.web.http_connections import listen, served
from node.web.languages import Languages, language_routes
from node.web.login_page import login_routes
from node.web.other_sites import with_links_of_other_sites
from node.web.quality_page import quality
from node.web.strict_http import StrictHttp
from node.web.tls_reload import tls_context
from node.web.users import Role
from node.web.verdict_clicks import give_verdict
from node.wording import NOTICE

logger = logging.getLogger(__name__)

_BOUNDS = Bounds(memory_mib=3072, cpu_seconds=30, wall_seconds=120.0)
"""Of one page or picture: a segmentation of 1,000 frames takes 1 GiB and 5 s."""

_PAGES: tuple[tuple[str, Callable[[AppContext, UserRequest], Response], str], ...] = (
    ("/", pages.stream, "GET"),
    ("/study/{uid}", studies.study, "GET"),
    ("/study/{uid}/evidence.zip", studies.evidence, "GET"),
    ("/slice/{job}/{index:int}.jpg", studies.picture, "GET"),
    ("/destinations", destinations_page.destinations, "GET"),
    ("/pipelines", pipelines_page.pipelines, "GET"),
    ("/pipelines/{name}", pipelines_page.pipeline, "GET"),
    ("/quality", quality, "GET"),
    ("/rules", rules_page.rules, "GET"),
    ("/storage", pages.storage, "GET"),
    ("/storage/retention", pages.retention, "GET"),
    ("/account", pages.account, "GET"),
    ("/log", operator_pages.log, "GET"),
    ("/audit", operator_pages.audit, "GET"),
    ("/upload", upload_page.upload, "GET"),
    ("/fetches", fetches_page.fetches, "GET"),
    ("/fetches", fetches_page.queue, "POST"),
    ("/fetches/change", fetches_page.change, "POST"),
    ("/fleet", fleet_page.machines, "GET"),
    ("/fleet", fleet_page.switch_machine, "POST"),
    ("/users", users_page.users, "GET"),
    ("/users", users_page.add, "POST"),
    ("/users/{name}/expire", users_page.expire, "POST"),
    ("/users/{name}/remove", users_page.remove, "POST"),
    ("/job/{job}/retry", actions.retry, "POST"),
    ("/job/{job}/priority", actions.prioritize, "POST"),
    ("/job/{job}/cancel", actions.cancel, "POST"),
    ("/job/{job}/retract", actions.retract, "POST"),
    ("/study/{uid}/run", actions.run, "POST"),
    ("/image/exclude", actions.exclude, "POST"),
    ("/image/include", actions.include, "POST"),
    ("/destinations/{name}", destinations_page.switch_destination, "POST"),
    ("/pipelines/{name}", pipelines_page.switch_pipeline, "POST"),
    ("/pipelines/{name}/resume", pipelines_page.resume, "POST"),
    ("/rules/edit", rules_editor.edit, "GET"),
    ("/rules/try", rules_editor.try_out, "POST"),
    ("/rules/apply", rules_editor.apply, "POST"),
    ("/rules/reroute", rules_page.reroute, "POST"),
    ("/job/{job}/verdict", give_verdict, "POST"),
)
_OF_READERS = (give_verdict,)
"""What needs the role *read*."""
_OF_ADMINISTRATORS = (users_page.add, users_page.expire, users_page.remove)
"""What needs the role *admin*."""


def make_app(config: Config, engine: sa.Engine, spool: Spool, jobs: Jobs, rules_file: RulesFile) -> Starlette:
    """Make the application; every page except login and probes needs authentication."""
    tls = config.web.certificate is not None
    authenticator = Authenticator(config.web, config.storage.folder, engine)
    reader = shared_process("image reader", spool.data_folders, _BOUNDS)
    context = AppContext(
        config=config,
        engine=engine,
        spool=spool,
        jobs=jobs,
        templates=_templates(config),
        reader=reader,
        health=Health(config, spool),
        rules_file=rules_file,
        labels=StudyLabels(spool, reader, show_patient=config.web.show_patient),
    )

    def route(path: str, page: Callable[[AppContext, UserRequest], Response], method: str) -> Route:
        role: Role = "read" if page in _OF_READERS else "admin" if page in _OF_ADMINISTRATORS else "operate"
        endpoint = authenticator.let_in(lambda user_request: page(context, user_request), role)
        return Route(path, with_links_of_other_sites(context, endpoint), methods=[method])

    async def gone_wrong(_request: Request, error: Exception) -> Response:
        status = 404 if isinstance(error, NotFoundError) else 400
        if isinstance(error, HTTPException):
            status = error.status_code
        text = error.detail if isinstance(error, HTTPException) else str(error)
        heading = gettext("Not found") if status == 404 else gettext("The action failed")
        return HTMLResponse(context.render("error.html", None, text=text, heading=heading), status)

    async def gone_away(_request: Request, _error: Exception) -> Response:
        return Response(status_code=400)

    app = Starlette(
        routes=[
            *(route(*entry) for entry in _PAGES),
            *probes.routes(context),
            *login_routes(context, authenticator),
            *language_routes(authenticator),
            *upload_page.upload_routes(context, authenticator),
            Mount("/static", StaticFiles(packages=[("node.web", "static")])),
        ],
        middleware=[Middleware(Guarded, tls=tls, hosts=_hosts(config.web)), Middleware(Languages, web=config.web)],
        exception_handlers={NodeError: gone_wrong, HTTPException: gone_wrong, ClientDisconnect: gone_away},
    )
    app.router.redirect_slashes = False  # it would redirect to whatever Host says
    return app


@contextmanager
def serving(config: Config, engine: sa.Engine, spool: Spool, rules_file: RulesFile) -> Iterator[None]:
    """Serve until the end of the ``with`` block. Raises ``PlatformError`` when the address cannot be had."""
    web = config.web
    with tls_context(web.certificate, web.key, "[web]") as context_of:
        app = make_app(config, engine, spool, Jobs(engine), rules_file)
        listener = listen(web.address, web.port, config.storage.folder)
        with served(app, listener, "web", http=StrictHttp, ssl_context_factory=context_of):
            logger.info("dashboard at %s://%s:%d", "https" if web.certificate else "http", web.address, web.port)
            yield


def _hosts(web: Web) -> tuple[str, ...]:
    host = urlsplit(web.link_base).hostname
    return (*web.hosts, host) if host else web.hosts


def _term(meaning: str) -> str:
    from node.results.terms import term  # slow to import; only the page of a study has terms

    return term(meaning)


def _flatten(values: Iterable[Any]) -> list[Any]:
    """Lists and tuples among the values become their elements."""
    return [element for value in values for element in (value if isinstance(value, list | tuple) else (value,))]


def word(text: object) -> str:
    """Return the translation of a word or a sentence that is a value; what has none is shown as it is."""
    return gettext(str(text))


def _templates(config: Config) -> Environment:
    loader = PackageLoader("node.web")
    jinja = Environment(
        loader=loader,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.i18n"],
    )
    # The extension fills in the values, after it has escaped them.
    jinja.install_gettext_callables(gettext, plural_form, newstyle=True)  # type: ignore[attr-defined]
    jinja.globals.update(language=current_language, languages=LANGUAGES)
    jinja.globals.update(version=__version__, title=config.ae.title, show_patient=config.web.show_patient)
    jinja.globals.update(notice=NOTICE, called=config.title)
    jinja.filters.update(
        words.FILTERS,
        called=config.title,
        flatten=_flatten,
        reason=reason_text,
        word=word,
        decimal=decimal,
        term=_term,
    )
    return jinja
