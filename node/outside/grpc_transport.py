"""Calls of a model over gRPC: the Open Inference Protocol (V2), as Triton and KServe speak it.

The worker sends the message that the process of the pipeline laid out, and gives it the one of the answer. It reads
neither; it appends which model is meant, and of a field that comes twice the last one counts (Protocol Buffers).
"""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

from node.config import ServedModel
from node.errors import NodeError, PipelineError, PlatformError
from node.outside.exchange import ANSWER, REQUEST, Exchange, open_given
from node.outside.limits import ServerLimits
from node.outside.server_pause import ServerPause
from node.peer_text import escaped

_SERVICE = "/inference.GRPCInferenceService/"
_MOST_REQUEST = (1 << 31) - (1 << 16)
"""A message holds 2 GiB at most; model and version are appended."""
_NAME, _VERSION = 1, 2
"""Fields of ModelInferRequest, which has the model first, and of ModelReadyRequest."""
_READY = b"\x08\x01"
"""ModelReadyResponse whose only field is true."""


class GrpcTransport:
    """Implements ``node.outside.server_call.Transport``."""

    def __init__(self, model: ServedModel, limits: ServerLimits, pause: ServerPause, *, seconds: float) -> None:
        self._model, self._limits, self._pause, self._seconds = model, limits, pause, seconds
        self._grpc = _library()
        try:
            self._metadata = _authorization(limits.token_file)
            self._channel = self._open()
        except OSError as error:
            raise pause.unusable_file(error) from error

    def close(self) -> None:
        """End the connection; a call in progress fails."""
        self._channel.close()

    def check_ready(self) -> None:
        """See ``Transport.check_ready``."""
        answer = self._call(
            "ModelReady", self._named(), time.monotonic() + self._limits.connect_seconds, self._not_ready
        )
        if not answer.startswith(_READY):
            raise self._pause.not_ready("that it is not ready")

    def infer(self, exchange: Exchange, deadline: float) -> None:
        """See ``Transport.infer``."""
        with os.fdopen(open_given(exchange.inputs / REQUEST, _MOST_REQUEST), "rb") as body:
            message = body.read() + self._named()
        answer = self._call("ModelInfer", message, deadline, self._refused)
        path = exchange.folder / ANSWER
        path.write_bytes(answer)
        path.replace(exchange.outputs / ANSWER)

    def _call(self, method: str, message: bytes, deadline: float, refused: Callable[[str], NodeError]) -> bytes:
        self._connect(deadline)
        call = self._channel.unary_unary(f"{_SERVICE}{method}")
        try:
            answer: bytes = call(message, timeout=max(deadline - time.monotonic(), 0.001), metadata=self._metadata)
        except self._grpc.RpcError as error:
            self._raise(error, refused)
        return answer

    def _connect(self, deadline: float) -> None:
        seconds = min(self._limits.connect_seconds, deadline - time.monotonic())
        try:
            self._grpc.channel_ready_future(self._channel).result(timeout=max(seconds, 0.001))
        except self._grpc.FutureTimeoutError:
            why = f"does not answer (no connection in {self._limits.connect_seconds:g} s)"
            raise self._pause.fails(why) from None

    def _raise(self, error: Any, refused: Callable[[str], NodeError]) -> NoReturn:
        codes, details = self._grpc.StatusCode, str(error.details())
        if error.code() == codes.UNAVAILABLE:
            raise self._pause.fails(f"does not answer ({escaped(details, 200)})") from None
        if error.code() == codes.DEADLINE_EXCEEDED:
            raise self._pause.too_long(self._seconds) from None
        if error.code() == codes.RESOURCE_EXHAUSTED and "larger than max" in details and "CLIENT" in details.upper():
            raise self._pause.too_large() from None
        raise refused(f"{error.code().name}: {escaped(details, 300)}") from None

    def _refused(self, why: str) -> NodeError:
        return PipelineError(f"{self._model.host} refused the request for model {self._model.name!r} with {why}")

    def _not_ready(self, why: str) -> NodeError:
        return self._pause.not_ready(why)

    def _named(self) -> bytes:
        return _text(_NAME, self._model.name) + _text(_VERSION, self._model.version)

    def _open(self) -> Any:
        parts = urlsplit(self._model.url)
        options = (
            ("grpc.max_receive_message_length", int(min(self._limits.response_mib * (1 << 20), (1 << 31) - 1))),
            ("grpc.max_send_message_length", -1),
            ("grpc.enable_http_proxy", 0),
            ("grpc.enable_retries", 0),
            ("grpc.service_config_disable_resolution", 1),
            ("grpc.use_local_subchannel_pool", 1),
        )
        if not self._model.has_tls:
            return self._grpc.insecure_channel(parts.netloc, options=options)
        limits = self._limits
        authorities = limits.ca or ssl.get_default_verify_paths().cafile
        credentials = self._grpc.ssl_channel_credentials(
            root_certificates=None if authorities is None else Path(authorities).read_bytes(),
            private_key=None if limits.key is None else limits.key.read_bytes(),
            certificate_chain=None if limits.certificate is None else limits.certificate.read_bytes(),
        )
        return self._grpc.secure_channel(parts.netloc, credentials, options=options)


def _library() -> Any:
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")  # no child of this process calls a server
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    try:
        import grpc
    except ImportError as error:
        raise PlatformError(
            f"a model over gRPC needs the package grpcio ({error}); pip install 'ainode[grpc]'"
        ) from error
    return grpc


def _authorization(token_file: Path | None) -> tuple[tuple[str, str], ...]:
    """Metadata of each call, with the token that a file holds."""
    return () if token_file is None else (("authorization", f"Bearer {token_file.read_text().strip()}"),)


def _text(field: int, value: str) -> bytes:
    """A field of text, which is shorter than 16,384 bytes."""
    content = value.encode()
    length = bytes([len(content)]) if len(content) < 128 else bytes([len(content) & 127 | 128, len(content) >> 7])
    return bytes([field << 3 | 2]) + length + content
