"""Open Notification Connection (PS3.18 8.10.4): who may receive events of workitems over a WebSocket."""

from __future__ import annotations

import logging

from sqlalchemy import Engine
from starlette.responses import PlainTextResponse, Response
from starlette.websockets import WebSocket

from node.config import Config
from node.dicomweb.addresses import Addresses
from node.dicomweb.authorization import Authorization
from node.dicomweb.event_channel import EventChannel, Intervals
from node.dicomweb.subscriber_title import title_refused
from node.workitems.job_uid import JobUids
from node.workitems.pending_reports import PendingReports

logger = logging.getLogger(__name__)


class EventChannels:
    """Serves one connection for each AE title: a new one takes the place of the former."""

    def __init__(
        self, config: Config, engine: Engine, authorization: Authorization, intervals: Intervals | None = None
    ) -> None:
        self._link_base = config.dicomweb.link_base
        self._engine = engine
        self._authorization = authorization
        self._pending = PendingReports(config, engine, JobUids(engine))
        self._intervals = intervals or Intervals()
        self._open: dict[str, EventChannel] = {}

    async def serve(self, websocket: WebSocket) -> None:
        """Tell a subscriber of workitems until one of both ends the connection."""
        title = websocket.path_params["aetitle"]

        async def refused() -> Response | None:
            client = await self._authorization.admitted(websocket, "watch")
            return client if isinstance(client, Response) else title_refused(client, title)

        async def is_authorized() -> bool:
            return await refused() is None

        refusal = await refused()
        if refusal is None and not Addresses.of(websocket, self._link_base).has_origin(websocket.headers):
            refusal = PlainTextResponse("Pages of other sites receive no events.\n", 403)
        if refusal is not None:
            await websocket.send_denial_response(refusal)
            return
        await websocket.accept()
        channel = EventChannel(
            websocket, title, self._engine, self._pending, is_authorized=is_authorized, intervals=self._intervals
        )
        former, self._open[title] = self._open.get(title), channel
        logger.info("DICOMweb: a WebSocket for events of workitems is open for %s", title)
        try:
            await channel.run(former)
        finally:
            if self._open.get(title) is channel:
                del self._open[title]
            logger.info("DICOMweb: a WebSocket for events of workitems has ended for %s", title)

    async def upgrade_required(self, _request: object) -> Response:
        """Answer a request that does not ask for a WebSocket."""
        headers = {"upgrade": "websocket", "connection": "upgrade"}
        return PlainTextResponse("Events are sent over a WebSocket.\n", 426, headers)
