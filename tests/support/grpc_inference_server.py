"""The Open Inference Protocol (V2) over gRPC for the tests, with a schema and the library of Protocol Buffers."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from inference_server import TYPES, InferenceServer

_FIELD = descriptor_pb2.FieldDescriptorProto
_TENSOR = [("name", 1, "STRING", 0), ("datatype", 2, "STRING", 0), ("shape", 3, "INT64", 1)]
_CONTENTS = [
    ("bool_contents", 1, "BOOL", 1), ("int_contents", 2, "INT32", 1), ("int64_contents", 3, "INT64", 1),
    ("uint_contents", 4, "UINT32", 1), ("uint64_contents", 5, "UINT64", 1), ("fp32_contents", 6, "FLOAT", 1),
    ("fp64_contents", 7, "DOUBLE", 1),
]  # fmt: skip
_MODEL = [("model_name", 1, "STRING", 0), ("model_version", 2, "STRING", 0)]
_SCHEMA: dict[str, list[tuple[str, int, str, int]]] = {
    "InferTensorContents": _CONTENTS,
    "Tensor": [*_TENSOR, ("contents", 5, "InferTensorContents", 0)],
    "ModelInferRequest": [*_MODEL, ("inputs", 5, "Tensor", 1), ("outputs", 6, "Tensor", 1),
                          ("raw_input_contents", 7, "BYTES", 1)],
    "ModelInferResponse": [*_MODEL, ("outputs", 5, "Tensor", 1), ("raw_output_contents", 6, "BYTES", 1)],
    "ModelReadyRequest": [("name", 1, "STRING", 0), ("version", 2, "STRING", 0)],
    "ModelReadyResponse": [("ready", 1, "BOOL", 0)],
}  # fmt: skip
"""Name, number, type and whether it repeats, of what the protocol and the tests share."""
_VALUES = {"FP32": "fp32_contents", "FP64": "fp64_contents", "UINT8": "uint_contents"}


def messages() -> dict[str, Any]:
    """Classes of the messages by name."""
    file = descriptor_pb2.FileDescriptorProto(name="inference.proto", package="inference", syntax="proto3")
    for name, fields in _SCHEMA.items():
        message = file.message_type.add(name=name)
        for field, number, kind, repeats in fields:
            added = message.field.add(name=field, number=number)
            added.label = _FIELD.LABEL_REPEATED if repeats else _FIELD.LABEL_OPTIONAL
            if kind in _SCHEMA:
                added.type, added.type_name = _FIELD.TYPE_MESSAGE, f".inference.{kind}"
            else:
                added.type = getattr(_FIELD, f"TYPE_{kind}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {n: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"inference.{n}")) for n in _SCHEMA}


class GrpcInferenceServer(InferenceServer):
    """The model *bright* over gRPC; ``metadata`` of each call."""

    def __init__(self) -> None:
        super().__init__()
        self.messages = messages()
        self.metadata: list[dict[str, str]] = []
        self.asked_for: list[tuple[str, str]] = []
        self.end = threading.Event()

    def ready(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.asked += 1
        if self.behaviour == "gone":
            context.abort(grpc.StatusCode.UNAVAILABLE, "shutting down")
        if request.name != "bright":
            context.abort(grpc.StatusCode.NOT_FOUND, "no such model")
        return self.messages["ModelReadyResponse"](ready=self.behaviour != "loading")

    def model_infer(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.metadata.append({str(key): str(value) for key, value in context.invocation_metadata()})
        self.asked_for.append((request.model_name, request.model_version))
        if self.behaviour == "refuses":
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "unexpected shape for input image")
        if self.behaviour == "slow":
            self.end.wait(60)
        binary = bool(request.raw_input_contents)
        tensors = {}
        for number, table in enumerate(request.inputs):
            values = request.raw_input_contents[number] if binary else getattr(table.contents, _VALUES[table.datatype])
            array = np.frombuffer(values, TYPES[table.datatype]) if binary else np.array(values, TYPES[table.datatype])
            tensors[table.name] = array.reshape(table.shape)
        answers = self.infer({"outputs": [{"name": output.name} for output in request.outputs]}, tensors)
        response = self.messages["ModelInferResponse"](model_name=request.model_name)
        for name, array in answers.items():
            kind = next(kind for kind, type_ in TYPES.items() if np.dtype(type_) == array.dtype)
            shape = [1, 1 << 40] if self.behaviour == "garbage" else array.shape
            table = response.outputs.add(name=name, datatype=kind, shape=shape)
            if binary:
                response.raw_output_contents.append(array.tobytes())
            else:
                getattr(table.contents, _VALUES[kind]).extend(array.ravel().tolist())
        return response


@contextmanager
def grpc_inference_server(certificate: str, key: str) -> Iterator[GrpcInferenceServer]:
    """Serve on a free port of this machine, with TLS."""
    server = GrpcInferenceServer()
    handlers = {
        "ModelReady": (server.ready, "ModelReadyRequest"),
        "ModelInfer": (server.model_infer, "ModelInferRequest"),
    }
    methods = {
        name: grpc.unary_unary_rpc_method_handler(
            method,
            request_deserializer=server.messages[request].FromString,
            response_serializer=lambda message: message.SerializeToString(),
        )
        for name, (method, request) in handlers.items()
    }
    listening = grpc.server(ThreadPoolExecutor(4), options=(("grpc.max_receive_message_length", -1),))
    service = grpc.method_handlers_generic_handler("inference.GRPCInferenceService", methods)
    listening.add_generic_rpc_handlers((service,))
    credentials = grpc.ssl_server_credentials([(Path(key).read_bytes(), Path(certificate).read_bytes())])
    port = listening.add_secure_port("localhost:0", credentials)
    server.url = f"grpcs://localhost:{port}/v2/models/bright"
    listening.start()
    try:
        yield server
    finally:
        server.end.set()
        listening.stop(None)
