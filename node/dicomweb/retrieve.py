"""WADO-RS (PS3.18 10.4): objects as files, their metadata, frames and documents."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator, Sequence

import sqlalchemy as sa
from pydicom.uid import (
    UID,
    ExplicitVRLittleEndian,
    JPEG2000TransferSyntaxes,
    JPEGLSTransferSyntaxes,
    JPEGTransferSyntaxes,
    RLELossless,
)
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response, StreamingResponse

from node.dicomweb.accesses import Accesses
from node.dicomweb.addresses import Addresses
from node.dicomweb.authorization import Client
from node.dicomweb.object_reader import ObjectReader
from node.errors import InputError, NotFoundError, PlatformError
from node.ledger.held_objects import HeldObject, objects_of_study

_BLOCK = 1 << 20
_MOST_FRAMES = 100
"""Frames of one request."""
_METADATA_AT_ONCE = 50
_HTJ2K = ("1.2.840.10008.1.2.4.201", "1.2.840.10008.1.2.4.202", "1.2.840.10008.1.2.4.203")
_MEDIA_TYPES: dict[str, str] = {
    **dict.fromkeys(JPEGTransferSyntaxes, "image/jpeg"),
    **dict.fromkeys(JPEGLSTransferSyntaxes, "image/jls"),
    **dict.fromkeys(JPEG2000TransferSyntaxes, "image/jp2"),
    **dict.fromkeys(_HTJ2K, "image/jphc"),
    RLELossless: "image/dicom-rle",
}
"""Media type of a frame by transfer syntax (PS3.18 table 8.7.3-5)."""
_OCTETS = "application/octet-stream"


class RetrieveService:
    """Answers retrievals."""

    def __init__(self, engine: sa.Engine, reader: ObjectReader, accesses: Accesses, link_base: str) -> None:
        self._engine = engine
        self._reader = reader
        self._accesses = accesses
        self._link_base = link_base

    async def objects(self, request: Request, client: Client) -> Response:
        """Return the files of a study, a series or one object, each in the transfer syntax in which it is stored."""
        accepted = _accepted(request)
        if not accepted & {"*/*", "multipart/*", "application/dicom", "multipart/related"}:
            raise HTTPException(406, "Objects are sent as multipart/related; type=application/dicom.")
        objects = await run_in_threadpool(self.held, request, client)
        if len(objects) == 1 and accepted == {"application/dicom"}:
            path = await run_in_threadpool(self._reader.path, objects[0])
            return FileResponse(path, media_type="application/dicom")
        boundary = uuid.uuid4().hex
        return _multipart(self._files(objects, boundary), boundary, "application/dicom")

    async def metadata(self, request: Request, client: Client) -> Response:
        """Return the attributes of the objects without pixel data."""
        if not _accepted(request) & {"*/*", "application/*", "application/json", "application/dicom+json"}:
            raise HTTPException(406, "Metadata are sent as application/dicom+json.")
        objects = await run_in_threadpool(self.held, request, client)
        addresses = Addresses.of(request, self._link_base)
        return StreamingResponse(self._metadata(objects, addresses), media_type="application/dicom+json")

    async def frames(self, request: Request, client: Client) -> Response:
        """Return frames: compressed as they are stored, or as samples where the client takes those only."""
        (of,) = await run_in_threadpool(self.held, request, client)
        numbers = frame_numbers(request.path_params["frames"])
        syntax = UID(of.transfer_syntax_uid)
        media_type = _MEDIA_TYPES.get(syntax, "") if syntax.is_encapsulated else ""
        decoded = not media_type or not _takes(request, media_type)
        try:
            frames = await run_in_threadpool(self._reader.frames, of, numbers, decoded=decoded)
        except NotFoundError as error:
            raise HTTPException(404, f"{error}.") from error
        except InputError as error:
            raise HTTPException(406, f"{error}.") from error
        kind = _OCTETS if decoded else media_type
        boundary, sent = uuid.uuid4().hex, ExplicitVRLittleEndian if decoded else syntax
        head = f"--{boundary}\r\nContent-Type: {kind}; transfer-syntax={sent}\r\n\r\n".encode()
        parts = (part for frame in frames for part in (head, frame, b"\r\n"))
        return _multipart((*parts, f"--{boundary}--\r\n".encode()), boundary, kind)

    async def document(self, request: Request, client: Client) -> Response:
        """Return the document of an encapsulated one, to which the metadata lead (BulkDataURI)."""
        (of,) = await run_in_threadpool(self.held, request, client)
        try:
            content = await run_in_threadpool(self._reader.document, of)
        except InputError as error:
            raise HTTPException(404, f"{error}.") from error
        boundary = uuid.uuid4().hex
        head = f"--{boundary}\r\nContent-Type: {_OCTETS}\r\n\r\n".encode()
        if "multipart/related" not in _accepted(request):
            return Response(content, media_type=_OCTETS)
        return _multipart((head, content, f"\r\n--{boundary}--\r\n".encode()), boundary, _OCTETS)

    def held(self, request: Request, client: Client) -> list[HeldObject]:
        """Return the objects that an address names, and note the access. Raises ``HTTPException``."""
        path = request.path_params
        with self._engine.connect() as connection:
            objects = objects_of_study(connection, path["study"], path.get("series", ""), path.get("instance", ""))
        if not objects:
            raise HTTPException(404, "This node holds no such objects.")
        self._accesses.note(client.name, request.client.host if request.client else "", path["study"])
        return objects

    def _files(self, objects: Sequence[HeldObject], boundary: str) -> Iterator[bytes]:
        """Yield the parts; an error ends the response before its closing boundary: nobody takes it for whole then."""
        for of in objects:
            with self._reader.path(of).open("rb") as file:
                kind = f"application/dicom; transfer-syntax={of.transfer_syntax_uid}"
                yield f"--{boundary}\r\nContent-Type: {kind}\r\n\r\n".encode()
                while block := file.read(_BLOCK):
                    yield block
                yield b"\r\n"
        yield f"--{boundary}--\r\n".encode()

    def _metadata(self, objects: Sequence[HeldObject], addresses: Addresses) -> Iterator[str]:
        yield "["
        for start in range(0, len(objects), _METADATA_AT_ONCE):
            some = objects[start : start + _METADATA_AT_ONCE]
            for number, (of, values) in enumerate(zip(some, self._reader.metadata(some), strict=True), start):
                if not values:
                    raise PlatformError(f"{of.sop_instance_uid} cannot be read; send it again")
                place = addresses.instance(of.study_instance_uid, of.series_instance_uid, of.sop_instance_uid)
                document = {"00420011": {"vr": "OB", "BulkDataURI": f"{place}/document"}}
                is_document = of.sop_class_uid.startswith(_ENCAPSULATED)
                yield (", " if number else "") + json.dumps({**values, **(document if is_document else {})})
        yield "]"


_ENCAPSULATED = "1.2.840.10008.5.1.4.1.1.104."


def _accepted(request: Request) -> set[str]:
    """Media types of the Accept field, without parameters; ``type`` of multipart/related counts as one."""
    header = request.headers.get("accept", "*/*").lower()
    types = {part.split(";")[0].strip() for part in header.split(",")}
    inner = set(re.findall(r'type="?([a-z0-9.+*-]+/[a-z0-9.+*-]+)', header))
    return types | inner or {"*/*"}


def _takes(request: Request, media_type: str) -> bool:
    """Whether a client takes compressed frames of this type, or whatever is stored."""
    header = request.headers.get("accept", "*/*").lower()
    accepted = _accepted(request) - {"multipart/related"}
    return bool(accepted & {"*/*", "image/*", media_type}) or "transfer-syntax=*" in header.replace('"', "")


def frame_numbers(text: str) -> list[int]:
    """Read the list of frames of an address. Raises ``HTTPException``."""
    if not re.fullmatch(r"[0-9]{1,6}(,[0-9]{1,6})*", text):
        raise HTTPException(400, "Frames are numbers from 1, separated by commas.")
    numbers = [int(number) for number in text.split(",")]
    if len(numbers) > _MOST_FRAMES:
        raise HTTPException(400, f"More than {_MOST_FRAMES} frames in one request.")
    return numbers


def _multipart(parts: Iterator[bytes] | Sequence[bytes], boundary: str, kind: str) -> Response:
    media_type = f'multipart/related; type="{kind}"; boundary={boundary}'
    return StreamingResponse(iter(parts), media_type=media_type)
