"""Rendered resources and thumbnails (PS3.18 10.4.1.1.3, 10.4.1.1.4): images as pictures for a browser.

One confined process decodes and draws, a picture at a time, in rotation between clients; requests wait for it without
a thread. Who reads slowly holds nothing but its own connection.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse

from node.confined import Bounds, ConfinedProcess
from node.dicomweb.authorization import Client
from node.dicomweb.client_turns import ClientTurns
from node.dicomweb.object_reader import ObjectReader
from node.dicomweb.rendered_media import Form, chosen
from node.dicomweb.rendered_query import Query, rendering_of, thumbnail_of, unsupported
from node.dicomweb.rendering import LARGEST_MIB, MEDIA_TYPES, Rendering, picture_of
from node.dicomweb.retrieve import RetrieveService, frame_numbers
from node.dicomweb.search_keys import texts_of
from node.errors import InputError, NodeError, NotFoundError, PlatformError
from node.ledger.held_objects import HeldObject
from node.spool import Spool

_BOUNDS = Bounds(memory_mib=4096, cpu_seconds=60, wall_seconds=120.0, reply_mib=2 * LARGEST_MIB)
_MOST_PICTURES = 1000
"""Of one request."""
_MOST_FRAMES = 100_000
"""That are counted."""
_MOST_WAITING = 32
"""Requests of one client."""
_READ_AT_ONCE = 50
"""Objects whose headers are read in one turn."""
_OF_ORDER = ("Rows", "InstanceNumber", "NumberOfFrames")


@dataclass(frozen=True)
class _Frame:
    """What one picture shows."""

    of: HeldObject
    frame: int
    """From 1."""


class RenderedService:
    """Answers requests for pictures."""

    def __init__(self, spool: Spool, reader: ObjectReader, retrieve: RetrieveService) -> None:
        self._reader = reader
        self._retrieve = retrieve
        self._process = ConfinedProcess("DICOMweb renderer", readable=spool.data_folders, bounds=_BOUNDS)
        self._reading = ClientTurns()
        self._drawing = ClientTurns()
        self._is_stopped = False

    def stop(self) -> None:
        """Draw nothing more: requests that wait are answered with 503, and pictures that are being sent end."""
        self._is_stopped = True
        self._process.interrupt()

    async def rendered(self, request: Request, client: Client) -> Response:
        """Return the images of a study, a series, an object or some of its frames."""
        places = await self._places(request, client)
        is_list = "frames" in request.path_params
        choice, rendering = _asked(request, rendering_of, len(places), must_be_all=is_list)
        if not choice.is_multipart:
            return await self._one(request, client, places, rendering)
        if len(places) > _MOST_PICTURES:
            raise HTTPException(413, f"These are {len(places)} pictures; at most {_MOST_PICTURES} are sent at once.")
        boundary = uuid.uuid4().hex
        parts = self._parts(request, client, places, rendering, boundary, skips=not is_list)
        first = await anext(parts, b"")
        if not first:
            raise HTTPException(406, "None of these images can be rendered.")
        media_type = f'multipart/related; type="{rendering.media_type}"; boundary={boundary}'
        return StreamingResponse(_chained(request, first, parts, boundary), 200, _warning(request), media_type)

    async def thumbnail(self, request: Request, client: Client) -> Response:
        """Return a small picture of a study, a series, an object or a frame."""
        places = await self._places(request, client)
        _, rendering = _asked(request, thumbnail_of, 1)
        return await self._one(request, client, places, rendering)

    async def _places(self, request: Request, client: Client) -> list[_Frame]:
        """Everything that an address names, in the order of Instance Number. Raises ``HTTPException``."""
        of = _origin(request, client)
        if self._reading.waiting(of) + self._drawing.waiting(of) >= _MOST_WAITING:
            raise HTTPException(503, "Too many pictures are asked for; ask again soon.", {"retry-after": "5"})
        async with self._reading.turn(of, lambda: self._look(request)):
            objects = await run_in_threadpool(self._retrieve.held, request, client)
        values: list[Mapping[str, Any]] = []
        for start in range(0, len(objects), _READ_AT_ONCE):
            async with self._reading.turn(of, lambda: self._look(request)):
                some = objects[start : start + _READ_AT_ONCE]
                values += await run_in_threadpool(self._reader.chosen, some, _OF_ORDER)
        images = []
        for instance, stated in zip(objects, values, strict=True):
            rows, number, frames = (_number(texts_of(stated, keyword)) for keyword in _OF_ORDER)
            if rows:
                images.append(
                    (instance.series_instance_uid, number, instance.sop_instance_uid, instance, max(frames, 1))
                )
        images.sort(key=lambda image: image[:3])
        every = (_Frame(instance, frame) for *_, instance, frames in images for frame in range(1, frames + 1))
        places = list(islice(every, _MOST_FRAMES))  # a file can state any number
        if not places:
            raise HTTPException(406, "These objects are no images; only images are rendered.")
        if "frames" in request.path_params:
            numbers = frame_numbers(request.path_params["frames"])
            if not all(1 <= number <= len(places) for number in numbers):
                raise HTTPException(404, f"The image has {len(places)} frames.")
            return [places[number - 1] for number in numbers]
        return places

    async def _one(self, request: Request, client: Client, places: Sequence[_Frame], rendering: Rendering) -> Response:
        """The picture in the middle: of a series, what is looked at."""
        first = [place for place in places if place.of.series_instance_uid == places[0].of.series_instance_uid]
        try:
            content = await self._picture(request, client, first[len(first) // 2], rendering)
        except NotFoundError as error:
            raise HTTPException(404, f"{error}.") from error
        except InputError as error:
            raise HTTPException(406, f"{error}.") from error
        return Response(content, 200, _warning(request), rendering.media_type)

    async def _parts(
        self,
        request: Request,
        client: Client,
        places: Sequence[_Frame],
        rendering: Rendering,
        boundary: str,
        *,
        skips: bool,
    ) -> AsyncIterator[bytes]:
        """``skips``: leave out what cannot be rendered."""
        for place in places:
            try:
                content = await self._picture(request, client, place, rendering)
            except NotFoundError as error:
                raise HTTPException(404, f"{error}.") from error
            except InputError as error:
                if skips:
                    continue
                raise HTTPException(406, f"{error}.") from error
            head = f"--{boundary}\r\nContent-Type: {rendering.media_type}\r\nContent-Length: {len(content)}\r\n\r\n"
            yield head.encode() + content + b"\r\n"

    async def _picture(self, request: Request, client: Client, place: _Frame, rendering: Rendering) -> bytes:
        """Raises ``ClientDisconnect`` when nobody waits for it any more, as of a viewer that scrolls on."""
        async with self._drawing.turn(_origin(request, client), lambda: self._look(request)):
            try:
                return await run_in_threadpool(self._drawn, place, rendering)
            except PlatformError:
                self._check_running()
                raise

    async def _look(self, request: Request) -> None:
        self._check_running()
        if await request.is_disconnected():
            raise ClientDisconnect

    def _check_running(self) -> None:
        if self._is_stopped:
            raise HTTPException(503, "The service stops; ask again soon.", {"retry-after": "5"})

    def _drawn(self, place: _Frame, rendering: Rendering) -> bytes:
        path = self._reader.path(place.of)
        return self._process.call(place.of.sop_instance_uid, picture_of, path, place.frame, rendering)


def _asked(
    request: Request, read: Callable[[Query, str], Rendering], pictures: int, *, must_be_all: bool = False
) -> tuple[Form, Rendering]:
    query = request.query_params
    try:
        accept = query.get("accept") or request.headers.get("accept", "*/*")
        choice = chosen(accept, MEDIA_TYPES, pictures=pictures, must_be_all=must_be_all)
        if choice is None:
            several = ", several as multipart/related" if pictures > 1 else ""
            raise HTTPException(406, f"Images are rendered as {', '.join(MEDIA_TYPES)}{several}.")
        unsupported(query)
        return choice, read(query, choice.media_type)
    except InputError as error:
        raise HTTPException(400, f"{error}.") from error


def _warning(request: Request) -> dict[str, str]:
    ignored = unsupported(request.query_params)
    service = str(request.base_url).rstrip("/")
    return {"warning": f"299 {service}: These parameters are not supported: {', '.join(ignored)}"} if ignored else {}


async def _chained(request: Request, first: bytes, rest: AsyncIterator[bytes], boundary: str) -> AsyncIterator[bytes]:
    yield first
    try:
        async for part in rest:
            yield part
    except (HTTPException, NodeError, ClientDisconnect):
        request.state.cut_off()  # without its closing boundary and its last chunk nobody takes it for whole
        return
    yield f"--{boundary}--\r\n".encode()


def _origin(request: Request, client: Client) -> tuple[str, str]:
    """Between which turns are given in rotation: clients, and addresses of a client."""
    return client.name, request.client.host if request.client else ""


def _number(texts: Sequence[str]) -> int:
    return int(texts[0]) if texts and texts[0].isdecimal() else 0
