"""The HTTP server of the DICOMweb service."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute

from node.config import Config
from node.config.dicomweb import Service
from node.dicomweb.accesses import Accesses
from node.dicomweb.authorization import Authorization, ClientEndpoint
from node.dicomweb.confirmed_websocket import SETTINGS, ConfirmedWebSocket
from node.dicomweb.event_channel import Intervals
from node.dicomweb.event_channels import EventChannels
from node.dicomweb.fetch_lists import FetchListService
from node.dicomweb.object_reader import ObjectReader
from node.dicomweb.rendered import RenderedService
from node.dicomweb.retrieve import RetrieveService
from node.dicomweb.search import SearchService
from node.dicomweb.store import StoreService
from node.dicomweb.workitem_json import WorkitemJson
from node.dicomweb.workitem_search import WorkitemSearch
from node.dicomweb.workitem_subscriptions import WorkitemSubscriptions
from node.dicomweb.workitems import WorkitemService
from node.errors import ConfigError, NodeError
from node.spool import Spool
from node.web.http_connections import listen, served
from node.web.strict_http import StrictHttp
from node.web.tls_reload import tls_context

logger = logging.getLogger(__name__)


_WORKITEM = "/workitems/{workitem}"
_FETCH_LIST = "/fetch-lists/{number}"
_SUBSCRIBER = f"{_WORKITEM}/subscribers/{{aetitle}}"
_PLACES = (
    "/studies/{study}",
    "/studies/{study}/series/{series}",
    "/studies/{study}/series/{series}/instances/{instance}",
)


_PICTURED = (*_PLACES, f"{_PLACES[-1]}/frames/{{frames}}")


class _DicomwebHttp(StrictHttp):
    """Senders of many images do not know the length of a request before they send it, and wait for the receiver."""

    takes_chunks = True
    body_seconds = 300.0
    response_seconds = 3600.0


def make_app(config: Config, engine: sa.Engine, spool: Spool, intervals: Intervals | None = None) -> Starlette:
    """Make the application; every request needs the token of a client. ``intervals``: of WebSockets.

    Its ``state.stop()`` has requests that would take long end before the server stops.
    """
    authorization = Authorization(config.dicomweb.clients)
    store = authorization.for_service("store", StoreService(config, spool).store)
    reader = ObjectReader(spool)
    link_base = config.dicomweb.link_base
    search = SearchService(engine, reader, link_base)
    retrieve = RetrieveService(engine, reader, Accesses(engine), link_base)

    rendered = RenderedService(spool, reader, retrieve)

    json = WorkitemJson(config, engine, reader)
    subscriptions = WorkitemSubscriptions(config, engine)
    channels = EventChannels(config, engine, authorization, intervals)
    workitems = WorkitemService(config, engine, reader, json)

    lists = FetchListService(config, engine, spool)

    def get(path: str, endpoint: ClientEndpoint, service: Service = "retrieve") -> Route:
        return Route(path, authorization.for_service(service, endpoint), methods=["GET"])

    def subscribed(path: str, endpoint: ClientEndpoint, method: str) -> Route:
        return Route(path, authorization.for_service("watch", endpoint), methods=[method])

    def requested(path: str, endpoint: ClientEndpoint, *methods: str) -> Route:
        return Route(path, authorization.for_service("request", endpoint), methods=methods)

    def fetched(path: str, endpoint: ClientEndpoint, method: str) -> Route:
        return Route(path, authorization.for_service("fetch", endpoint), methods=[method])

    async def failed(_request: Request, error: Exception) -> Response:
        if isinstance(error, HTTPException):
            return PlainTextResponse(f"{error.detail}\n", error.status_code, error.headers)
        return PlainTextResponse(f"{error}\n", 500)

    async def gone_away(_request: Request, _error: Exception) -> Response:
        return Response(status_code=400)

    app = Starlette(
        routes=[
            Route("/studies", store, methods=["POST"]),
            Route("/studies/{study}", store, methods=["POST"]),
            get("/studies", search.studies),
            get("/studies/{study}/series", search.series),
            get("/studies/{study}/instances", search.objects),
            get("/studies/{study}/series/{series}/instances", search.objects),
            *(get(place, retrieve.objects) for place in _PLACES),
            *(get(f"{place}/metadata", retrieve.metadata) for place in _PLACES),
            get(f"{_PLACES[-1]}/frames/{{frames}}", retrieve.frames),
            get(f"{_PLACES[-1]}/document", retrieve.document),
            *(get(f"{place}/rendered", rendered.rendered) for place in _PICTURED),
            *(get(f"{place}/thumbnail", rendered.thumbnail) for place in _PICTURED),
            get("/workitems", WorkitemSearch(engine, json).search, "watch"),
            get(_WORKITEM, workitems.retrieve, "watch"),
            requested("/workitems", workitems.create, "POST"),
            requested(f"{_WORKITEM}/cancelrequest", workitems.request_cancellation, "POST"),
            requested(_WORKITEM, workitems.update, "POST", "PUT"),
            requested(f"{_WORKITEM}/state", workitems.change_state, "PUT"),
            subscribed(_SUBSCRIBER, subscriptions.subscribe, "POST"),
            subscribed(_SUBSCRIBER, subscriptions.unsubscribe, "DELETE"),
            subscribed(f"{_SUBSCRIBER}/suspend", subscriptions.suspend, "POST"),
            fetched("/fetch-lists", lists.queue, "POST"),
            fetched(_FETCH_LIST, lists.progress, "GET"),
            fetched(_FETCH_LIST, lists.cancel, "DELETE"),
            WebSocketRoute("/subscribers/{aetitle}", channels.serve),
            Route("/subscribers/{aetitle}", channels.upgrade_required, methods=["GET"]),
        ],
        exception_handlers={NodeError: failed, HTTPException: failed, ClientDisconnect: gone_away},
    )
    app.state.stop = rendered.stop
    app.router.redirect_slashes = False  # it would redirect to whatever Host says
    return app


@contextmanager
def serving(config: Config, engine: sa.Engine, spool: Spool, intervals: Intervals | None = None) -> Iterator[None]:
    """Serve until the end of the ``with`` block.

    Raises ``ConfigError`` when it is not enabled, or files of TLS cannot be used, ``PlatformError`` when the address
    is not available.
    """
    settings = config.dicomweb
    if not settings.enabled:
        raise ConfigError("[dicomweb] enabled is false; enable it before this role is started")
    with tls_context(settings.certificate, settings.key, "[dicomweb]") as context_of:
        app = make_app(config, engine, spool, intervals)
        listener = listen(settings.address, settings.port, config.storage.folder, "[dicomweb]")
        sockets = {"ws": ConfirmedWebSocket, **SETTINGS}
        with served(app, listener, "dicomweb", http=_DicomwebHttp, ssl_context_factory=context_of, **sockets):
            scheme = "https" if settings.certificate else "http"
            logger.info("DICOMweb at %s://%s:%d", scheme, settings.address, settings.port)
            try:
                yield
            finally:
                app.state.stop()
