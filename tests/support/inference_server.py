"""A small server that speaks the Open Inference Protocol (V2) over HTTPS, written for the tests.

It is no product: model servers do not install beside the pinned packages of the node. It checks requests strictly.
"""

from __future__ import annotations

import json
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np

HEADER = "Inference-Header-Content-Length"
TYPES = {"FP32": "<f4", "FP64": "<f8", "UINT8": "u1", "INT64": "<i8"}


class InferenceServer:
    """One model, *bright*: outlines what is above 300 HU. ``behaviour`` changes how it answers."""

    def __init__(self) -> None:
        self.url = ""
        self.behaviour = ""
        self.asked = 0
        self.headers: list[dict[str, str]] = []
        self.given: dict[str, np.ndarray] = {}
        """Tensors of the last request."""

    def infer(self, document: dict[str, Any], tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        self.given, image = tensors, tensors["image"]
        assert image.ndim == 5, image.shape
        assert tensors["affine"].shape == (4, 4)
        labels = (image[:, 0] > 300).astype(np.uint8)
        if image.shape[1] > 1:  # a mask as second channel
            labels &= image[:, 1] > 0
        answers = {"labels": labels, "probabilities": np.array([[0.9, 0.1]], np.float32)}
        if self.behaviour == "other grid":
            answers["labels"] = labels[:, :-1]
        return {table["name"]: answers[table["name"]] for table in document["outputs"]}


def tensors_of(document: dict[str, Any], binary: bytes) -> dict[str, np.ndarray]:
    tensors, at = {}, 0
    for table in document["inputs"]:
        kind = TYPES[table["datatype"]]
        if size := table.get("parameters", {}).get("binary_data_size"):
            array, at = np.frombuffer(binary[at : at + size], kind), at + size
        else:
            array = np.array(table["data"], kind)
        tensors[table["name"]] = array.reshape(table["shape"])
    return tensors


def written(tensors: dict[str, np.ndarray], *, binary: bool) -> tuple[bytes, bytes]:
    """The JSON and the binary part of an answer."""
    tables = []
    for name, array in tensors.items():
        kind = next(kind for kind, type_ in TYPES.items() if np.dtype(type_) == array.dtype)
        about = {"parameters": {"binary_data_size": array.nbytes}} if binary else {"data": array.ravel().tolist()}
        tables.append({"name": name, "shape": list(array.shape), "datatype": kind, **about})
    text = json.dumps({"model_name": "bright", "outputs": tables}).encode()
    return text, b"".join(array.tobytes() for array in tensors.values()) if binary else b""


@contextmanager
def inference_server(certificate: str, key: str) -> Iterator[InferenceServer]:
    ours = InferenceServer()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

        def answer(self, status: int, data: bytes, **headers: str) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(data)), **headers}.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            self.wfile.write(data)

        def do_GET(self) -> None:
            ours.asked += 1
            gone = ours.behaviour == "gone"
            self.answer(503 if gone else 200 if self.path == "/v2/models/bright/ready" else 404, b"")

        def do_POST(self) -> None:
            ours.headers.append(dict(self.headers))
            body = self.rfile.read(int(self.headers["Content-Length"]))
            assert self.path == "/v2/models/bright/infer"
            if ours.behaviour == "slow":
                time.sleep(20)
            if ours.behaviour == "refuses":
                return self.answer(400, b'{"error": "unexpected shape"}')
            binary = HEADER in self.headers
            length = int(self.headers.get(HEADER) or len(body))
            document = json.loads(body[:length])
            text, tail = written(ours.infer(document, tensors_of(document, body[length:])), binary=binary)
            if ours.behaviour == "garbage":
                text = b'{"outputs": [{"name": "labels", "shape": [99999999, 99999], "datatype": "FP64", "data": []}]}'
            return self.answer(200, text + tail, **({HEADER: str(len(text))} if binary else {}))

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        ours.url = f"https://localhost:{server.server_address[1]}/v2/models/bright"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield ours
        finally:
            server.shutdown()
