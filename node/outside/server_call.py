"""Calls of one model on an inference server: Open Inference Protocol (KServe V2) over HTTP.

The worker sends bytes that the process of the pipeline laid out, and gives it those of the answer. It reads neither.
"""

from __future__ import annotations

import json
import os
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx

from node.config import PipelineTable, ServedModel
from node.confined.output import ChildOutput
from node.errors import ConfigError, NodeError, PipelineError, PlatformError, ServerAbsentError
from node.outside.exchange import Exchange, open_given
from node.outside.limits import ServerLimits, limits_of
from node.peer_text import escaped

REQUEST, ANSWER, ABOUT = "request.body", "answer.body", "about.json"
"""Files of the exchange folder; ``ABOUT`` says in both directions how long the JSON before binary tensors is."""
HEADER = "Inference-Header-Content-Length"
"""Of the binary tensor data extension."""
_LOOK_SECONDS = 0.5
_MOST_REQUEST, _MOST_ABOUT, _MOST_REASON = 16 << 30, 4096, 65536
_BLOCK = 1 << 20
_GONE = (502, 503, 504)
"""Statuses of a server that is away."""


class ServerCaller:
    """Calls the model of one pipeline; leaves a server alone that did not answer several times in a row."""

    def __init__(self, pipeline: str, model: ServedModel, table: PipelineTable, *, seconds: float) -> None:
        self._pipeline, self._model = pipeline, model
        self._limits = limits_of(ServerLimits, pipeline, table.options)
        self._seconds = min(seconds, self._limits.seconds)
        self._failed = 0
        self._paused_until = 0.0

    def check(self) -> None:
        """See ``node.outside.caller.Caller.check``: the server answers, and has the model ready."""
        left = self._paused_until - time.monotonic()
        if left > 0:
            raise self._absent(f"did not answer {self._failed} times and is called again in {left:.0f} s", left)
        with self._client() as client:
            try:
                answer = client.get(f"{self._model.url}/ready", timeout=self._limits.connect_seconds)
            except httpx.HTTPError as error:
                raise self._fails(f"does not answer ({type(error).__name__}: {error})") from None
        if answer.status_code in _GONE:
            raise self._fails(f"answers {answer.status_code}")
        if answer.status_code != httpx.codes.OK:
            raise PlatformError(
                f"pipeline {self._pipeline!r}: {self._model.host} answers {answer.status_code} for model "
                f"{self._model.name!r}; load the model there, or correct its name in factory"
            )

    def call(self, exchange: Exchange, output: ChildOutput, look: Callable[[], None]) -> None:  # noqa: ARG002
        """See ``node.outside.caller.Caller.call``."""
        raised: list[NodeError] = []
        deadline = time.monotonic() + self._seconds
        client = self._client()

        def work() -> None:
            try:
                self._post(client, exchange, deadline)
            except NodeError as error:
                raised.append(error)
            except Exception as error:  # noqa: BLE001 - of a client that was closed, of a folder that strangers share
                raised.append(PipelineError(f"the call of {self._model.host} broke: {type(error).__name__}: {error}"))

        thread = threading.Thread(target=work, name=f"call {self._model.host}", daemon=True)
        thread.start()
        try:
            while thread.is_alive():
                thread.join(_LOOK_SECONDS)
                look()
                if thread.is_alive() and time.monotonic() > deadline:
                    raise self._too_long()
        finally:
            client.close()
        if raised:
            raise raised[0]
        self._failed = 0

    def _post(self, client: httpx.Client, exchange: Exchange, deadline: float) -> None:
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
                with client.stream("POST", f"{self._model.url}/infer", content=blocks, headers=headers) as answer:
                    self._receive(answer, exchange, deadline)
            except httpx.TimeoutException:
                raise self._too_long() from None
            except httpx.TransportError as error:
                raise self._fails(f"does not answer ({type(error).__name__}: {error})") from None

    def _receive(self, answer: httpx.Response, exchange: Exchange, deadline: float) -> None:
        if answer.status_code in _GONE:
            raise self._fails(f"answers {answer.status_code}")
        is_good = answer.status_code == httpx.codes.OK
        most = int(self._limits.response_mib * (1 << 20)) if is_good else _MOST_REASON
        size, reason = 0, b""
        with (exchange.folder / ANSWER).open("wb") as file:
            for block in answer.iter_bytes(_BLOCK):
                size += len(block)
                if time.monotonic() > deadline:
                    raise self._too_long()
                if size > most and is_good:
                    raise PipelineError(
                        f"{self._model.host} sent more than run.response_mib = {self._limits.response_mib:g}; raise "
                        "it if the model returns so much"
                    )
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
        told = int(length) if length.isascii() and length.isdigit() else 0
        with suppress(IsADirectoryError):
            (exchange.outputs / ABOUT).unlink(missing_ok=True)
        descriptor = os.open(exchange.outputs / ABOUT, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644)
        with os.fdopen(descriptor, "w") as file_about:
            json.dump({"header_bytes": told}, file_about)

    def _client(self) -> httpx.Client:
        limits = self._limits
        try:
            trusted = ssl.create_default_context(cafile=None if limits.ca is None else str(limits.ca))
            trusted.minimum_version = ssl.TLSVersion.TLSv1_2
            if limits.certificate is not None:
                trusted.load_cert_chain(limits.certificate, limits.key)
            token = "" if limits.token_file is None else limits.token_file.read_text().strip()
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(f"[pipelines.{self._pipeline}.options.run]: a file cannot be used ({error})") from error
        return httpx.Client(
            verify=trusted,
            trust_env=False,
            follow_redirects=False,
            headers={"Authorization": f"Bearer {token}"} if token else {},
            timeout=httpx.Timeout(self._seconds, connect=limits.connect_seconds),
        )

    def _fails(self, why: str) -> ServerAbsentError:
        self._failed += 1
        if self._failed >= self._limits.failures:
            self._paused_until = time.monotonic() + self._limits.pause_seconds
        return self._absent(why, None)

    def _absent(self, why: str, seconds: float | None) -> ServerAbsentError:
        error = ServerAbsentError(f"pipeline {self._pipeline!r}: the inference server {self._model.host} {why}")
        error.retry_seconds = seconds
        return error

    def _too_long(self) -> PipelineError:
        return PipelineError(
            f"{self._model.host} took longer than run.seconds = {self._seconds:g} for pipeline {self._pipeline!r}"
        )


def _about(path: Path) -> int:
    """Length of the JSON before binary tensors; 0: the request is JSON alone."""
    with os.fdopen(open_given(path, _MOST_ABOUT), "rb") as file:
        try:
            told: Any = json.load(file)["header_bytes"]
        except (ValueError, LookupError, TypeError):
            told = None
    if not isinstance(told, int) or told < 0:
        raise PipelineError(f"the process of the pipeline left no {ABOUT} that can be read")
    return told
