"""FHIR destinations: each report as one transaction (``node.results.fhir_report``) over HTTP.

A report is stored when the server has answered the whole transaction with success. Sent again, it creates nothing
again: every resource is created only where none has its identifier.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

import httpx

from node.bounded_answers import bound_answers
from node.config import Destination, FhirVersion, Language
from node.confined import Bounds, shared_process
from node.deliver.association import Timeouts
from node.deliver.mllp import IsHeld, read_report
from node.deliver.object_result import Answer, Store
from node.deliver.query_audit import OnQuery, of_request
from node.errors import DeliveryError, InputError, PlatformError, UnreachableError
from node.ledger.jobs import REJECTION
from node.ledger.pending_deliveries import PendingObject
from node.peer_text import escaped
from node.results.hl7_report import withdrawn_reports
from node.spool import Spool

_JSON = "application/fhir+json"
_LONGEST_ANSWER = 16 << 20
"""Bytes of a response."""
_ANSWER_SECONDS = 300.0
_MOST_PAGES = 100
"""Of a search for the resources of one report."""
_SUCCESS, _CANNOT_UNDERSTAND = 0x0000, 0xC000
"""The equivalent status of C-STORE (PS3.4 B.2.3)."""
_REFUSALS = frozenset({400, 404, 405, 409, 412, 413, 422})
"""HTTP statuses that refuse this report; others may be over soon."""


@contextmanager
def fhir_service(
    name: str, destination: Destination, timeouts: Timeouts, on_query: OnQuery | None = None
) -> Iterator[httpx.Client]:
    """Open a client of ``[destinations.name] fhir``, with a token where one is configured.

    Raises ``DeliveryError`` for an unusable file or a token that is refused, ``UnreachableError`` when the server or
    the token endpoint cannot be reached.
    """
    base = destination.fhir.rstrip("/") + "/"

    def record(request: httpx.Request) -> None:
        if on_query is not None and request.method == "GET":
            on_query(of_request(request))

    try:
        options: dict[str, Any] = {
            "base_url": base,
            "headers": {"Accept": _JSON},
            "verify": ssl.create_default_context(cafile=destination.ca_file or None),
            "timeout": httpx.Timeout(timeouts.answer_seconds, connect=timeouts.connect_seconds),
            "event_hooks": {"request": [record]},
        }
        if destination.token_file:
            options["headers"]["Authorization"] = f"Bearer {_secret(destination.token_file)}"
        secret = _secret(destination.client_secret_file) if destination.token_url else ""
    except (OSError, ValueError) as error:
        raise DeliveryError(f"{name}: {error}; correct the files in [destinations.{name}]") from error
    try:
        with bound_answers(httpx.Client(**options)) as client:
            if destination.token_url:
                client.headers["Authorization"] = f"Bearer {_token(name, destination, client, secret)}"
            yield client
    except httpx.HTTPError as error:
        words = str(error) or type(error).__name__
        raise UnreachableError(f"{name} ({base}): {words}; check that it is running, and ca_file") from error


def _token(name: str, destination: Destination, client: httpx.Client, secret: str) -> str:
    """Return an access token (RFC 6749 4.4). Raises ``DeliveryError`` when the endpoint refuses it."""
    asked = {"grant_type": "client_credentials"} | ({"scope": destination.scope} if destination.scope else {})
    status, answer = _request(client, "POST", destination.token_url, data=asked, auth=(destination.client_id, secret))
    token = answer.get("access_token")
    if status != 200 or not isinstance(token, str) or not token.isascii():
        raise DeliveryError(
            f"{name}: no token from {destination.token_url} (HTTP {status}); check client_id and client_secret_file"
        )
    return token


@contextmanager
def fhir_store(
    name: str, destination: Destination, spool: Spool, timeouts: Timeouts, is_held: IsHeld
) -> Iterator[Store]:
    """Open one connection for the reports of a job."""
    form = destination.language, destination.fhir_version
    with fhir_service(name, destination, timeouts) as client:

        def store(instance: PendingObject) -> Answer:
            process, path = shared_process("FHIR encoder", spool.data_folders, Bounds()), spool.readable(instance.path)
            try:
                if not instance.kind.startswith(REJECTION):
                    return _post(client, process.call(instance.path, bundle_of, path, *form))
                withdrawn = process.call(instance.path, withdrawn_by, path)
            except InputError as error:
                raise PlatformError(
                    f"{instance.path} cannot be read ({error}); check the disk, or retry the job"
                ) from error
            for uid in filter(is_held, withdrawn):
                answer = _withdraw(client, uid, destination.fhir_version)
                if answer.status != _SUCCESS:
                    return answer
            return Answer(status=_SUCCESS, comment="what was sent there is marked as entered in error")

        yield store


def bundle_of(path: Path, language: Language, version: FhirVersion) -> dict[str, Any]:
    """Encode a report in a confined process."""
    from node.results.fhir_report import report_bundle

    return report_bundle(read_report(path), language, version)


def withdrawn_by(path: Path) -> list[str]:
    """Return the reports that a rejection note withdraws, from a confined process."""
    return list(withdrawn_reports(read_report(path)))


def ping(client: httpx.Client, version: FhirVersion) -> str:
    """Return why the server cannot be used, or "": it must state its capabilities, and no other release of FHIR."""
    status, answer = _request(client, "GET", "metadata")
    if status == 200 and answer.get("resourceType") == "CapabilityStatement":
        stated = str(answer.get("fhirVersion") or "")
        if stated and not stated.startswith(version[1:]):
            return f"speaks FHIR {escaped(stated, 20)}, and fhir_version is {version}; correct the one or the other"
        return ""
    return f"HTTP {status} without a CapabilityStatement; check its address and the permissions of this node"


def held(client: httpx.Client, _study: str, series: str) -> set[str]:
    """Return the SOP Instance UIDs of the reports of a series. Raises ``DeliveryError`` when the search fails."""
    identifiers = (
        str(identifier.get("value", ""))
        for report in _search(client, "DiagnosticReport", series)
        for identifier in report.get("identifier", ())
    )
    return {value.removeprefix("urn:oid:") for value in identifiers if value.startswith("urn:oid:")}


def _post(client: httpx.Client, bundle: dict[str, Any]) -> Answer:
    status, answer = _request(client, "POST", "", json=bundle)
    if status in (200, 201):
        done = [str(entry.get("response", {}).get("status", "")) for entry in answer.get("entry", ())]
        if len(done) == len(bundle["entry"]) and all(code.startswith("2") for code in done):
            created = sum(code.startswith("201") for code in done)
            return Answer(status=_SUCCESS, comment=f"HTTP {status}, {created} of {len(done)} resources are new")
        return Answer(status=None, comment=f"HTTP {status} without a success for each resource")
    return _refusal(status, answer)


def _withdraw(client: httpx.Client, report_uid: str, version: FhirVersion) -> Answer:
    """Mark the report, its observations and selections as entered in error."""
    kinds = ("DiagnosticReport", "Observation", *(["ImagingSelection"] if version == "R5" else []))
    for kind in kinds:
        for resource in list(_search(client, kind, report_uid)):
            marked = {**resource, "status": "entered-in-error"}
            status, answer = _request(client, "PUT", f"{kind}/{quote(str(resource.get('id')), safe='')}", json=marked)
            if status not in (200, 201):
                return _refusal(status, answer)
    return Answer(status=_SUCCESS, comment="entered in error")


def _search(client: httpx.Client, kind: str, uid: str) -> Iterator[dict[str, Any]]:
    """Yield the resources with a UID as identifier, from all pages. Raises ``DeliveryError`` when one cannot be had."""
    where = f"{kind}?identifier={quote(f'urn:dicom:uid|urn:oid:{uid}', safe='')}"
    for _ in range(_MOST_PAGES):
        status, answer = _request(client, "GET", where)
        if status != 200 or answer.get("resourceType") != "Bundle":
            raise DeliveryError(f"{client.base_url}: search for {kind}: HTTP {status}; check its log")
        for entry in answer.get("entry", ()):
            resource = entry.get("resource", {})
            if resource.get("resourceType") == kind:
                yield resource
        where = next((str(link.get("url")) for link in answer.get("link", ()) if link.get("relation") == "next"), "")
        if not where:
            return
        if urlsplit(urljoin(str(client.base_url), where))[:2] != urlsplit(str(client.base_url))[:2]:
            raise DeliveryError(f"{client.base_url}: its next page is at another server")
    raise DeliveryError(f"{client.base_url}: the resources of one report have more than {_MOST_PAGES} pages")


def _request(client: httpx.Client, method: str, where: str, **options: Any) -> tuple[int, dict[str, Any]]:
    """Send a request; return status and resource, ``{}`` where the response is none."""
    if "json" in options:
        options["headers"] = {"Content-Type": _JSON}
    deadline, body = time.monotonic() + _ANSWER_SECONDS, bytearray()
    with client.stream(method, where, **options) as response:
        for block in response.iter_bytes():
            body += block
            if len(body) > _LONGEST_ANSWER or time.monotonic() > deadline:
                raise DeliveryError(
                    f"{client.base_url}: its response has more than {_LONGEST_ANSWER >> 20} MiB, or does not end"
                )
    try:
        answer = httpx.Response(response.status_code, content=bytes(body)).json()
    except (ValueError, RecursionError):
        answer = None
    return response.status_code, answer if isinstance(answer, dict) else {}


def _refusal(status: int, answer: dict[str, Any]) -> Answer:
    """The codes of an OperationOutcome; its texts may name the patient."""
    issues = answer.get("issue") if answer.get("resourceType") == "OperationOutcome" else None
    stated = [str(issue.get("code", "")) for issue in issues or () if isinstance(issue, dict)]
    comment = ": ".join(filter(None, [f"HTTP {status}", ", ".join(dict.fromkeys(stated))]))
    refused = status in _REFUSALS
    return Answer(status=_CANNOT_UNDERSTAND if refused else None, comment=comment, lost=not refused)


def _secret(path: str) -> str:
    return Path(path).read_text(encoding="ascii").strip()
