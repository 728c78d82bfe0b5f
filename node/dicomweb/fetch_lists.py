"""Lists of studies to fetch, for programs: JSON over HTTP beside DICOMweb, which has no such service."""

from __future__ import annotations

import logging
from typing import Annotated

import sqlalchemy as sa
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from node.config import Config
from node.deliver.fetch import archive_destination
from node.deliver.fetch_lists import local_now, why_waiting
from node.deliver.study_list import key_of
from node.dicomweb.addresses import Addresses
from node.dicomweb.authorization import Client
from node.errors import ConfigError, DeliveryError, NotFoundError
from node.ledger import NoticeKind
from node.ledger.audit_events import give_notice
from node.ledger.engine import begin_immediate, snapshot
from node.ledger.fetch_lists import (
    FetchProgress,
    NewFetchList,
    add_fetch_list,
    cancel_fetch_list,
    fetch_progress,
    missing_items,
)
from node.spool import Spool

logger = logging.getLogger(__name__)

_LARGEST = 1 << 20
"""Bytes of a request."""


class _RequestedList(BaseModel):
    """The body of a request."""

    model_config = ConfigDict(extra="forbid", strict=True)

    destination: str
    studies: Annotated[list[Annotated[str, Field(min_length=1, max_length=64)]], Field(min_length=1)]
    modalities: list[Annotated[str, Field(min_length=1, max_length=16)]] = []


class FetchListService:
    """Takes lists, and says how far those of a client are."""

    def __init__(self, config: Config, engine: sa.Engine, spool: Spool) -> None:
        self._config = config
        self._engine = engine
        self._spool = spool

    async def queue(self, request: Request, client: Client) -> Response:
        """Take a list; it is durable when it is answered with 201."""
        content = b""
        async for piece in request.stream():
            content += piece
            if len(content) > _LARGEST:
                raise HTTPException(413, f"The list has more than {_LARGEST >> 20} MiB.")
        return await run_in_threadpool(self._queue, request, client, content)

    async def progress(self, request: Request, client: Client) -> Response:
        """Say how far a list is, and what it lacks."""
        return await run_in_threadpool(self._progress, request, client)

    async def cancel(self, request: Request, client: Client) -> Response:
        """Fetch nothing more of a list."""
        return await run_in_threadpool(self._cancel, request, client)

    def _queue(self, request: Request, client: Client, content: bytes) -> Response:
        try:
            wanted = _RequestedList.model_validate_json(content)
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            where = ".".join(map(str, first["loc"])) or "the body"
            raise HTTPException(400, f"{where}: {first['msg']}.") from error
        try:
            archive_destination(self._config, wanted.destination)
        except (DeliveryError, NotFoundError) as error:
            raise HTTPException(400, f"destination: {error}.") from error
        try:
            keys = [key_of(text) for text in wanted.studies]
        except ConfigError as error:
            raise HTTPException(400, f"studies: {error}.") from error
        new = NewFetchList(
            destination=wanted.destination,
            modalities=tuple(wanted.modalities),
            requester=_requester(client),
            keys=keys,
        )
        with begin_immediate(self._engine) as connection:
            number = add_fetch_list(connection, new)
        self._note(request, client, f"queued list {number} of studies to fetch from {wanted.destination}")
        address = f"{Addresses.of(request, self._config.dicomweb.link_base).base}/fetch-lists/{number}"
        return JSONResponse({"list": number}, 201, headers={"location": address})

    def _progress(self, request: Request, client: Client) -> Response:
        with snapshot(self._engine) as connection:
            of = _own_list(connection, request, client)
            missing = missing_items(connection, of.id)
            waits = why_waiting(self._config, connection, self._spool, local_now())
        return JSONResponse(
            {
                "list": of.id,
                "items": of.items,
                "images": of.images,
                "error": of.error,
                "waits": waits if of.waiting else "",
                "missing": [
                    {
                        "study": item.value,
                        "state": item.state,
                        "here": item.here,
                        "there": item.there,
                        "error": item.error,
                    }
                    for item in missing
                ],
            }
        )

    def _cancel(self, request: Request, client: Client) -> Response:
        with begin_immediate(self._engine) as connection:
            number = _own_list(connection, request, client).id
            items = cancel_fetch_list(connection, number)
        self._note(request, client, f"cancelled list {number} of studies to fetch")
        return JSONResponse({"items": items})

    def _note(self, request: Request, client: Client, what: str) -> None:
        address = request.client.host if request.client else ""
        give_notice(self._engine, NoticeKind.ACT, who=client.name, address=address, detail=what)
        logger.info("DICOMweb: %s %s", client.name, what)


def _own_list(connection: sa.Connection, request: Request, client: Client) -> FetchProgress:
    """The list of this client that the address names; those of others are none of its business."""
    text = request.path_params["number"]
    for progress in fetch_progress(connection):
        if str(progress.id) == text and progress.requester == _requester(client):
            return progress
    raise HTTPException(404, f"There is no list {text[:16]} of this client.")


def _requester(client: Client) -> str:
    """As no user of the dashboard is called."""
    return f"{client.name} (DICOMweb)"
