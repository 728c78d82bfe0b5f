"""DICOMweb destinations: STOW-RS (PS3.18 10.5) to store, QIDO-RS (PS3.18 10.6) to query."""

from __future__ import annotations

import ssl
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import httpx
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom.status import STORAGE_SERVICE_CLASS_STATUS

from node.bounded_answers import bound_answers
from node.config import Destination
from node.deliver.association import Timeouts
from node.deliver.object_result import Answer, Store
from node.deliver.query_audit import OnQuery, of_request
from node.deliver.store import SLOWEST_BYTES_PER_SECOND
from node.deliver.stow_answer import (
    HeldSeries,
    HeldStudy,
    read_instances,
    read_series,
    read_store_answer,
    read_studies,
)
from node.deliver.transcode import transcoded
from node.errors import DeliveryError, EncodeError, PlatformError, UnreachableError
from node.ledger.pending_deliveries import PendingObject
from node.peer_text import escaped
from node.spool import Spool

Entry = TypeVar("Entry")

_SYNTAX_REFUSED = 0xC122
"""Failure Reason: referenced Transfer Syntax not supported (PS3.18 table I.2-2)."""
_BLOCK = 1 << 20
_PAGE = 500
_ANSWER_SECONDS = 300.0
"""Longest time for a request and its response, where no object is sent."""
_LONGEST_ANSWER = 16 << 20
"""Bytes of a response; a page of instances has some hundred thousand."""
_MOST_INSTANCES = 200_000
"""Of one series at a service."""
_MOST_SERIES = 10_000
"""Of one study at a service."""


@contextmanager
def service(
    name: str, destination: Destination, timeouts: Timeouts, on_query: OnQuery | None = None
) -> Iterator[httpx.Client]:
    """Open a client of ``[destinations.name] url``; ``on_query`` is called for every request.

    Raises ``DeliveryError`` for an unusable token or certificate file, ``UnreachableError`` when the service cannot be
    reached.
    """
    headers = {"Accept": "application/dicom+json", "Accept-Encoding": "identity"}
    try:
        if destination.token_file:
            token = Path(destination.token_file).read_text(encoding="ascii").strip()
            headers["Authorization"] = f"Bearer {token}"
        trusted = ssl.create_default_context(cafile=destination.ca_file or None)
    except (OSError, ValueError) as error:
        raise DeliveryError(f"{name}: {error}; correct token_file and ca_file in [destinations.{name}]") from error
    # Without the trailing slash httpx would drop the last part of the address.
    base = destination.url.rstrip("/") + "/"

    def asking(request: httpx.Request) -> None:
        if on_query is not None:
            on_query(of_request(request))

    opened = httpx.Client(
        base_url=base,
        headers=headers,
        verify=trusted,
        timeout=_limits(timeouts, timeouts.answer_seconds),
        event_hooks={"request": [asking]},
    )
    with bound_answers(opened) as client:
        try:
            yield client
        except httpx.ConnectError as error:
            raise UnreachableError(
                f"{name} ({base}): {error}; check that it is running, its address and ca_file"
            ) from error
        except httpx.HTTPError as error:
            words = str(error) or type(error).__name__
            raise UnreachableError(f"{name} ({base}): {words}; the node tries again") from error


@contextmanager
def stow_store(name: str, destination: Destination, spool: Spool, timeouts: Timeouts) -> Iterator[Store]:
    """Open one connection; each object is one request, so each response belongs to one object."""
    with service(name, destination, timeouts) as client:
        yield lambda instance: _store(client, instance, spool, timeouts)


def ping(client: httpx.Client) -> str:
    """Return why the service cannot be used, or ""; only 401, 403 and server errors count."""
    status = send_request(client, "GET", "studies", params={"limit": 1}).status_code
    return http_fault(status) if status in (401, 403) or status >= 500 else ""


def held(client: httpx.Client, study: str, series: str) -> set[str]:
    """Return the SOP Instance UIDs of a series at the service. Raises ``DeliveryError`` when the query fails."""
    where = f"studies/{study}/series/{series}/instances"
    return set(_listed(client, where, lambda content: dict.fromkeys(read_instances(content)), _MOST_INSTANCES))


def series_of_study(client: httpx.Client, study: str) -> list[HeldSeries]:
    """Return the series of a study at the service, none of an unknown one. Raises ``DeliveryError`` on failure."""

    def read(content: bytes) -> dict[str, HeldSeries]:
        return {series.series_instance_uid: series for series in read_series(content)}

    where = f"studies/{study}/series"
    return list(_listed(client, where, read, _MOST_SERIES, nothing=(204, 404)).values())


def matching_studies(client: httpx.Client, keys: Mapping[str, str], most: int) -> list[str]:
    """Return the Study Instance UIDs of the studies at the service that match ``keys``: keyword and value.

    Raises ``DeliveryError`` when there are more than ``most`` of them, when the query fails, and when the service lists
    a study that does not match: it would list all that it has.
    """

    def read(content: bytes) -> dict[str, HeldStudy]:
        return {study.study_instance_uid: study for study in read_studies(content)}

    studies = _listed(client, "studies", read, most, keys)
    for keyword, value in keys.items():
        if not all(study.matches(keyword, value) for study in studies.values()):
            raise DeliveryError(f"{client.base_url}: lists studies without {keyword} {value}: it does not match by it")
    return list(studies)


def _listed(
    client: httpx.Client,
    where: str,
    read: Callable[[bytes], Mapping[str, Entry]],
    most: int,
    keys: Mapping[str, str] | None = None,
    *,
    nothing: Collection[int] = (204,),
) -> dict[str, Entry]:
    """Return all pages of a list, by UID; ``nothing``: statuses of an empty one."""
    entries: dict[str, Entry] = {}
    while True:
        parameters = {**(keys or {}), "limit": _PAGE, "offset": len(entries)}
        response = send_request(client, "GET", where, params=parameters)
        if response.status_code in nothing:
            return entries
        what = where.rpartition("/")[2]
        if response.status_code != 200:
            raise DeliveryError(f"{client.base_url}: query for {what}: {http_fault(response.status_code)}")
        try:
            page = read(response.content)
        except ValueError as error:
            raise DeliveryError(f"{client.base_url}: its list of {what} cannot be read ({error})") from error
        if not page.keys() - entries.keys():
            return entries
        entries |= page
        if len(entries) > most:
            raise DeliveryError(f"{client.base_url}: lists more than {most} {what}; ask for fewer")


def _store(client: httpx.Client, instance: PendingObject, spool: Spool, timeouts: Timeouts) -> Answer:
    try:
        answer = _post(client, spool.readable(instance.path), timeouts)
        if answer.status != _SYNTAX_REFUSED:
            return answer
        with transcoded(spool, instance.path, ExplicitVRLittleEndian) as (path, sent):
            return replace(_post(client, path, timeouts), sent=sent)
    except EncodeError as error:
        return Answer(status=_SYNTAX_REFUSED, comment=f"transfer syntax refused; {error}")
    except OSError as error:
        raise PlatformError(f"{instance.path} cannot be read ({error}); check the disk, or retry the job") from error


def _post(client: httpx.Client, path: Path, timeouts: Timeouts) -> Answer:
    boundary = uuid.uuid4().hex
    # The optional transfer-syntax parameter is omitted: with it Orthanc answers 200 and stores nothing.
    head = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
    tail = f"\r\n--{boundary}--\r\n".encode()
    size = path.stat().st_size

    def body() -> Iterator[bytes]:
        yield head
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                yield block
        yield tail

    seconds = timeouts.store_seconds + size / SLOWEST_BYTES_PER_SECOND
    response = send_request(
        client,
        "POST",
        "studies",
        content=body(),
        headers={
            "Content-Type": f'multipart/related; type="application/dicom"; boundary={boundary}',
            "Content-Length": str(len(head) + size + len(tail)),
        },
        timeout=_limits(timeouts, seconds),
        seconds=2 * seconds,
    )
    try:
        return _answer(response)
    except ValueError as error:
        return Answer(status=None, comment=f"HTTP {response.status_code} with a result that cannot be read ({error})")


def send_request(
    client: httpx.Client, method: str, where: str, *, seconds: float = _ANSWER_SECONDS, **options: Any
) -> httpx.Response:
    """Send a request and read the response, within ``seconds`` and ``_LONGEST_ANSWER``. Raises ``DeliveryError``."""
    deadline = time.monotonic() + seconds
    body = bytearray()
    with client.stream(method, where, **options) as response:
        for block in plain_bytes(response):
            body += block
            if len(body) > _LONGEST_ANSWER:
                raise DeliveryError(f"{client.base_url}: its response has more than {_LONGEST_ANSWER >> 20} MiB")
            if time.monotonic() > deadline:
                raise UnreachableError(f"{client.base_url}: its response does not end within {seconds:g} s")
    return httpx.Response(response.status_code, content=bytes(body), request=response.request)


def plain_bytes(response: httpx.Response) -> Iterator[bytes]:
    """Return the body as it comes. Raises ``DeliveryError`` for a compressed one: a few bytes may be gigabytes."""
    if (coding := response.headers.get("Content-Encoding", "identity").strip().lower()) != "identity":
        raise DeliveryError(
            f"{response.request.url.host}: its response is compressed ({escaped(coding, 32)}) although identity was "
            "asked for; turn that off for DICOMweb"
        )
    return response.iter_raw()


def _limits(timeouts: Timeouts, answer_seconds: float) -> httpx.Timeout:
    return httpx.Timeout(answer_seconds, connect=timeouts.connect_seconds, write=timeouts.stall_seconds)


def _answer(response: httpx.Response) -> Answer:
    """Translate the Store Instances Response (PS3.18 10.5.3) to one object into the equivalent C-STORE status."""
    answer = read_store_answer(response.content)
    reason = answer.failure
    if reason is None and response.is_success:
        reason = answer.warning
    if reason is None and response.is_success:
        return Answer(status=None, comment=f"HTTP {response.status_code} without a store result for the object")
    if reason is None:
        return Answer(status=None, comment=http_fault(response.status_code), lost=response.status_code != 409)
    _, words = STORAGE_SERVICE_CLASS_STATUS.get(reason, ("", "failure reason unknown to the standard"))
    return Answer(status=reason, comment=f"{words} (HTTP {response.status_code})")


def http_fault(status: int) -> str:
    """Say what an HTTP status means, and the remedy."""
    words = httpx.codes.get_reason_phrase(status) or "unknown status"
    remedy = "; check token_file and the service's permissions" if status in (401, 403) else "; check its log"
    return f"HTTP {status} ({words}){remedy}"
