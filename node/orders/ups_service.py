"""The UPS-RS service of another system, asked as a performer of its workitems (PS3.18 11)."""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from pydicom import Dataset

from node.bounded_answers import bound_answers
from node.config.ups import UpsWorklist
from node.deliver.query_audit import of_request
from node.errors import DeliveryError, InputError, UnreachableError
from node.ledger.audit_events import Question
from node.workitems.state import FINAL, StepState
from node.workitems.step_json import Values, read_step, text_of

_TYPE = "application/dicom+json"
_LIMITS = httpx.Timeout(30.0, connect=5.0)
_ANSWER_SECONDS = 60.0
_LARGEST = 16 << 20
"""Bytes of a response."""
_PAGE = 100
_MOST = 1000
"""Workitems of one search."""
_NOT_UNDERSTOOD = (400, 404, 409, 422)
"""Answers to an update whose Transaction UID a service has not found in the address."""


@dataclass(frozen=True, kw_only=True)
class UpsAnswer:
    """What the service answered to a change."""

    status: int
    warning: str
    """Its Warning field: why it refuses."""

    @property
    def ok(self) -> bool:
        """Whether it was done."""
        return 200 <= self.status < 300

    def __str__(self) -> str:
        return f"HTTP {self.status}{f' ({self.warning})' if self.warning else ''}"


class UpsService:
    """An open connection to the service. Every method raises ``DeliveryError`` when it does not answer as it should."""

    def __init__(self, settings: UpsWorklist, http: httpx.Client) -> None:
        self._settings = settings
        self._http = http

    def scheduled(self) -> list[Values]:
        """Return the workitems that wait for a performer."""
        workitems: dict[str, Values] = {}
        while len(workitems) < _MOST:
            keys = {**self._settings.query, "ProcedureStepState": StepState.SCHEDULED}
            keys |= {"limit": str(_PAGE)} | ({"offset": str(len(workitems))} if workitems else {})
            response = self._send("GET", "workitems", params=keys)
            is_none = response.status_code == 404 and _TYPE in response.headers.get("content-type", "")
            if response.status_code == 204 or is_none:
                break
            if response.status_code not in (200, 206):
                raise DeliveryError(f"{self._settings.url}: search for workitems: HTTP {response.status_code}")
            page = {text_of(workitem, "SOPInstanceUID"): workitem for workitem in self._page(response)}
            if not page.keys() - workitems.keys():
                break
            workitems |= page
            if len(page) < _PAGE:
                break
        return [workitem for uid, workitem in workitems.items() if uid]

    def retrieve(self, uid: str) -> Values | None:
        """Return a workitem; ``None``: there is none."""
        response = self._send("GET", f"workitems/{uid}")
        if response.status_code in (404, 410):
            return None
        if response.status_code != 200:
            raise DeliveryError(f"{self._settings.url}: workitem {uid}: HTTP {response.status_code}")
        try:
            return read_step(response.content)
        except InputError as error:
            raise DeliveryError(f"{self._settings.url}: workitem {uid}: {error}") from error

    def change_state(self, uid: str, state: StepState, transaction_uid: str) -> UpsAnswer:
        """Claim a workitem, or end one that is ours."""
        step = Dataset()
        step.ProcedureStepState, step.TransactionUID = state, transaction_uid
        return self._change("PUT", f"workitems/{uid}/state", step, None)

    def update(self, uid: str, step: Dataset, transaction_uid: str) -> UpsAnswer:
        """Change attributes of a workitem that is ours.

        PS3.18 11.6.1 writes the address as ``?{transaction-uid}``: some services read a parameter of that name,
        others, as in Create Workitem, the UID alone. Who reads the other form refuses an update without effect.
        """
        method, where = self._settings.update_method, f"workitems/{uid}"
        answer = self._change(method, where, step, {"transaction-uid": transaction_uid})
        if answer.status in _NOT_UNDERSTOOD:
            alone = self._change(method, f"{where}?{transaction_uid}", step, None)
            return alone if alone.ok else answer
        return answer

    def _change(self, method: str, where: str, step: Dataset, parameters: dict[str, str] | None) -> UpsAnswer:
        content = json.dumps(step.to_json_dict()).encode()
        response = self._send(method, where, params=parameters, content=content)
        if response.status_code >= 500 or response.status_code in (401, 403, 408, 429):
            raise UnreachableError(f"{self._settings.url}: HTTP {response.status_code}; check its log and token_file")
        return UpsAnswer(status=response.status_code, warning=response.headers.get("warning", "")[:200])

    def _page(self, response: httpx.Response) -> list[Values]:
        try:
            items = json.loads(response.content)
            return [read_step(json.dumps(item).encode()) for item in items if isinstance(item, dict)]
        except (ValueError, RecursionError, TypeError, InputError) as error:
            raise DeliveryError(f"{self._settings.url}: its list of workitems cannot be read ({error})") from error

    def _send(
        self, method: str, where: str, *, params: dict[str, str] | None = None, content: bytes | None = None
    ) -> httpx.Response:
        deadline, body = time.monotonic() + _ANSWER_SECONDS, bytearray()
        try:
            with self._http.stream(method, where, params=params, content=content) as response:
                for block in response.iter_bytes():
                    body += block
                    if len(body) > _LARGEST or time.monotonic() > deadline:
                        raise UnreachableError(f"{self._settings.url}: its response is too large or does not end")
        except httpx.HTTPError as error:
            words = str(error) or type(error).__name__
            raise UnreachableError(f"{self._settings.url}: {words}; check that it is running, and ca_file") from error
        return httpx.Response(response.status_code, headers=response.headers, content=bytes(body))


@contextmanager
def ups_service(settings: UpsWorklist, on_query: Callable[[Question], None]) -> Iterator[UpsService]:
    """Open a connection; ``on_query`` is called for each search.

    Raises ``DeliveryError`` for an unusable file of token or certificate.
    """
    headers = {"accept": _TYPE, "content-type": _TYPE}
    try:
        if settings.token_file:
            headers["authorization"] = f"Bearer {Path(settings.token_file).read_text(encoding='ascii').strip()}"
        trusted = ssl.create_default_context(cafile=settings.ca_file or None)
    except (OSError, ValueError) as error:
        raise DeliveryError(f"{error}; correct token_file and ca_file in [orders.ups]") from error

    def asking(request: httpx.Request) -> None:
        if request.method == "GET" and request.url.path.endswith("/workitems"):
            on_query(of_request(request))

    base, hooks = settings.url.rstrip("/") + "/", {"request": [asking]}
    opened = httpx.Client(base_url=base, headers=headers, verify=trusted, timeout=_LIMITS, event_hooks=hooks)
    with bound_answers(opened) as http:
        yield UpsService(settings, http)


def is_ended(step: Values | None) -> bool:
    """Return whether a workitem is not there any more, or has ended."""
    return step is None or text_of(step, "ProcedureStepState") in FINAL
