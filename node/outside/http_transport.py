"""Calls of a model over HTTP: the Open Inference Protocol (V2) with JSON or binary tensors.

The worker sends bytes that the process of the pipeline laid out, and gives it those of the answer. It reads neither.
"""

from __future__ import annotations

import json
import os
import ssl
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx

from node.bounded_answers import bound_answers
from node.config import ServedModel
from node.errors import PipelineError
from node.outside.exchange import ABOUT, ANSWER, REQUEST, Exchange, open_given
from node.outside.limits import ServerLimits
from node.outside.server_pause import ServerPause
from node.peer_text import escaped

HEADER = "Inference-Header-Content-Length"
"""Of the binary tensor data extension."""
_MOST_REQUEST, _MOST_ABOUT, _MOST_REASON = 16 << 30, 4096, 65536
_BLOCK = 1 << 20
_GONE = (502, 503, 504)
"""Statuses of a server that is away."""


class HttpTransport:
    """Implements ``node.outside.server_call.Transport``."""

    def __init__(self, model: ServedModel, limits: ServerLimits, pause: ServerPause, *, seconds: float) -> None:
        self._model, self._limits, self._pause, self._seconds = model, limits, pause, seconds
        self._client = self._make_client()

    def close(self) -> None:
        """End the connection; a call in progress fails."""
        self._client.close()

    def check_ready(self) -> None:
        """See ``Transport.check_ready``."""
        try:
            answer = self._client.get(f"{self._model.url}/ready", timeout=self._limits.connect_seconds)
        except httpx.HTTPError as error:
            raise self._pause.fails(f"does not answer ({type(error).__name__}: {error})") from None
        if answer.status_code in _GONE:
            raise self._pause.fails(f"answers {answer.status_code}")
        if answer.status_code != httpx.codes.OK:
            raise self._pause.not_ready(str(answer.status_code))

    def infer(self, exchange: Exchange, deadline: float) -> None:
        """See ``Transport.infer``."""
        about = _about(exchange.inputs / ABOUT)
        descriptor = open_given(exchange.inputs / REQUEST, _MOST_REQUEST)
        with os.fdopen(descriptor, "rb") as body:
            headers = {
                "Content-Type": "application/octet-stream" if about else "application/json",
                "Content-Length": str(os.fstat(descriptor).st_size),
                **({HEADER: str(about)} if about else {}),
            }
            blocks: Iterator[bytes] = iter(lambda: body.read(_BLOCK), b"")
            try:
                with self._client.stream("POST", f"{self._model.url}/infer", content=blocks, headers=headers) as answer:
                    self._receive(answer, exchange, deadline)
            except httpx.TimeoutException:
                raise self._pause.too_long(self._seconds) from None
            except httpx.TransportError as error:
                raise self._pause.fails(f"does not answer ({type(error).__name__}: {error})") from None

    def _receive(self, answer: httpx.Response, exchange: Exchange, deadline: float) -> None:
        if answer.status_code in _GONE:
            raise self._pause.fails(f"answers {answer.status_code}")
        is_good = answer.status_code == httpx.codes.OK
        most = int(self._limits.response_mib * (1 << 20)) if is_good else _MOST_REASON
        size, reason = 0, b""
        with (exchange.folder / ANSWER).open("wb") as file:
            for block in answer.iter_bytes(_BLOCK):
                size += len(block)
                if time.monotonic() > deadline:
                    raise self._pause.too_long(self._seconds)
                if size > most and is_good:
                    raise self._pause.too_large()
                reason = (reason + block)[:_MOST_REASON] if not is_good else b""
                file.write(block)
                if size > most:
                    break
        if not is_good:
            raise PipelineError(
                f"{self._model.host} refused the request for model {self._model.name!r} with {answer.status_code}: "
                f"{escaped(reason.decode(errors='replace'), 300)}"
            )
        (exchange.folder / ANSWER).replace(exchange.outputs / ANSWER)
        length = answer.headers.get(HEADER, "0")
        header_bytes = int(length) if length.isascii() and length.isdigit() else 0
        with suppress(IsADirectoryError):
            (exchange.outputs / ABOUT).unlink(missing_ok=True)
        descriptor = os.open(exchange.outputs / ABOUT, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644)
        with os.fdopen(descriptor, "w") as file_about:
            json.dump({"header_bytes": header_bytes}, file_about)

    def _make_client(self) -> httpx.Client:
        limits = self._limits
        try:
            trusted = ssl.create_default_context(cafile=None if limits.ca is None else str(limits.ca))
            trusted.minimum_version = ssl.TLSVersion.TLSv1_2
            if limits.certificate is not None:
                trusted.load_cert_chain(limits.certificate, limits.key)
            token = "" if limits.token_file is None else limits.token_file.read_text().strip()
        except (OSError, ssl.SSLError) as error:
            raise self._pause.unusable_file(error) from error
        client = httpx.Client(
            verify=trusted,
            trust_env=False,
            follow_redirects=False,
            headers={"Authorization": f"Bearer {token}"} if token else {},
            timeout=httpx.Timeout(self._seconds, connect=limits.connect_seconds),
        )
        return bound_answers(client)


def _about(path: Path) -> int:
    """Length of the JSON before binary tensors; 0: the request is JSON alone."""
    with os.fdopen(open_given(path, _MOST_ABOUT), "rb") as file:
        try:
            header_bytes: Any = json.load(file)["header_bytes"]
        except (ValueError, LookupError, TypeError):
            header_bytes = None
    if not isinstance(header_bytes, int) or header_bytes < 0:
        raise PipelineError(f"the process of the pipeline left no {ABOUT} that can be read")
    return header_bytes
