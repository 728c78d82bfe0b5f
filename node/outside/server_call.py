"""Calls of one model on an inference server: Open Inference Protocol (KServe V2) over HTTP or gRPC."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import closing
from typing import Protocol

from node.config import PipelineTable, ServedModel
from node.confined.output import ChildOutput
from node.errors import NodeError, PipelineError
from node.outside.exchange import Exchange
from node.outside.limits import ServerLimits, limits_of
from node.outside.server_pause import ServerPause

_LOOK_SECONDS = 0.5


class Transport(Protocol):
    """One connection to a server."""

    def close(self) -> None:
        """End the connection; a call in progress fails."""

    def check_ready(self) -> None:
        """Raise a ``NodeError`` unless the server answers and has the model ready."""

    def infer(self, exchange: Exchange, deadline: float) -> None:
        """Send the request of ``exchange``, leave the answer there; ``deadline`` of ``time.monotonic``."""


class ServerCaller:
    """Calls the model of one pipeline; leaves a server alone that did not answer several times in a row."""

    def __init__(self, pipeline: str, model: ServedModel, table: PipelineTable, *, seconds: float) -> None:
        self._model = model
        self._limits = limits_of(ServerLimits, pipeline, table.options)
        self._seconds = min(seconds, self._limits.seconds)
        self._pause = ServerPause(pipeline, model, self._limits)

    def check(self) -> None:
        """See ``node.outside.caller.Caller.check``: the server answers, and has the model ready."""
        self._pause.check()
        with closing(self._transport()) as transport:
            transport.check_ready()

    def call(self, exchange: Exchange, output: ChildOutput, look: Callable[[], None]) -> None:  # noqa: ARG002
        """See ``node.outside.caller.Caller.call``."""
        raised: list[NodeError] = []
        deadline = time.monotonic() + self._seconds
        transport = self._transport()

        def work() -> None:
            try:
                transport.infer(exchange, deadline)
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
                    raise self._pause.too_long(self._seconds)
        finally:
            transport.close()
        if raised:
            raise raised[0]
        self._pause.answered()

    def _transport(self) -> Transport:
        if self._model.by_grpc:
            from node.outside.grpc_transport import GrpcTransport

            return GrpcTransport(self._model, self._limits, self._pause, seconds=self._seconds)
        from node.outside.http_transport import HttpTransport

        return HttpTransport(self._model, self._limits, self._pause, seconds=self._seconds)
