"""Requests and answers of the Open Inference Protocol (V2) over gRPC as files: ModelInferRequest, ModelInferResponse.

Written and read field by field (Protocol Buffers): tensors are large, and the messages are few. The worker appends
which model is meant.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from node.errors import PipelineError
from pipelines.remote.tensors import MOST_TENSORS, TYPES, Tensors, datatype_of

_VARINT, _FIXED_64, _BYTES, _FIXED_32 = 0, 1, 2, 5
"""Wire types."""
_INPUTS, _OUTPUTS, _RAW_INPUTS = 5, 6, 7
"""Fields of ModelInferRequest."""
_ANSWERED, _RAW_ANSWERED = 5, 6
"""Fields of ModelInferResponse."""
_NAME, _DATATYPE, _SHAPE, _CONTENTS = 1, 2, 3, 5
"""Fields of the tensors of both."""
_CONTENT_FIELDS = {
    "BOOL": (1, "u1"), "INT8": (2, ""), "INT16": (2, ""), "INT32": (2, ""), "INT64": (3, ""), "UINT8": (4, ""),
    "UINT16": (4, ""), "UINT32": (4, ""), "UINT64": (5, ""), "FP32": (6, "<f4"), "FP64": (7, "<f8"),
}  # fmt: skip
"""Of InferTensorContents by datatype: the field, and how its values lie; empty: as varints."""


def write_grpc_request(folder: Path, inputs: Tensors, outputs: list[str], *, binary: bool) -> None:
    """Write ``request.body``. ``binary``: tensors as raw contents, else as values."""
    with (folder / "request.body").open("wb") as file:
        for name, array in inputs.items():
            kind = datatype_of(array)
            shape = b"".join(map(_varint, array.shape))
            table = _field(_NAME, name.encode()) + _field(_DATATYPE, kind.encode()) + _field(_SHAPE, shape)
            contents = b"" if binary else _field(_CONTENTS, _values(array, kind))
            file.write(_field(_INPUTS, table + contents))
        for name in outputs:
            file.write(_field(_OUTPUTS, _field(_NAME, name.encode())))
        for array in inputs.values() if binary else ():
            file.write(_tag(_RAW_INPUTS, _BYTES) + _varint(array.nbytes))
            file.write(np.ascontiguousarray(array).data)


def read_grpc_answer(folder: Path) -> Tensors:
    """The tensors of an answer. Raises ``PipelineError`` for one that does not follow the protocol."""
    with (folder / "answer.body").open("rb") as file:
        message = memoryview(file.read())
    try:
        tables = [_fields(value) for number, value in _read(message) if number == _ANSWERED]
        raw = [value for number, value in _read(message) if number == _RAW_ANSWERED]
        if len(tables) > MOST_TENSORS or len(raw) not in (0, len(tables)):
            raise PipelineError(f"the answer has {len(tables)} outputs and {len(raw)} contents")  # noqa: TRY301
        return dict(_tensor(table, raw[n] if raw else None, len(message)) for n, table in enumerate(tables))
    except PipelineError:
        raise
    except Exception as error:  # the reader meets whatever a server sends
        raise PipelineError(f"the answer does not follow the protocol: {type(error).__name__}: {error}") from error


Fields = dict[int, list[Any]]


def _tensor(table: Fields, raw: memoryview | None, size: int) -> tuple[str, NDArray[Any]]:
    name, kind = bytes(table[_NAME][-1]).decode(), bytes(table[_DATATYPE][-1]).decode()
    shape = [signed(n) for value in table.get(_SHAPE, ()) for n in _varints(value)]
    wanted = prod(shape) * np.dtype(TYPES[kind]).itemsize
    if any(n < 0 for n in shape) or wanted > 64 * size:
        raise PipelineError(f"output {name!r} states the shape {shape}, more than the answer holds")
    if raw is None:
        field, layout = _CONTENT_FIELDS[kind]
        values = [v for content in table.get(_CONTENTS, ()) for v in _fields(content).get(field, ())]
        return name, _from_values(values, layout, kind).reshape(shape)
    if len(raw) != wanted:
        raise PipelineError(f"output {name!r} has {len(raw)} bytes, its shape {shape} wants {wanted}")
    return name, np.frombuffer(raw, np.dtype(TYPES[kind])).reshape(shape)


def _from_values(values: list[Any], layout: str, kind: str) -> NDArray[Any]:
    if layout == "u1":  # packed, or one after the other
        numbers = np.array([n for value in values for n in _varints(value)])
    elif layout:
        numbers = np.concatenate([np.frombuffer(value, layout) for value in values] or [np.zeros(0)])
    else:
        numbers = np.array([signed(n) for value in values for n in _varints(value)])
    return numbers.astype(TYPES[kind])


def _values(array: NDArray[Any], kind: str) -> bytes:
    field, layout = _CONTENT_FIELDS[kind]
    if layout:
        return _field(field, np.ascontiguousarray(array, layout).tobytes())
    return _field(field, b"".join(_varint(int(n) & (1 << 64) - 1) for n in array.ravel()))


def signed(number: int) -> int:
    """A varint as a signed number of 64 bits."""
    return number - (1 << 64) if number >> 63 else number


def _fields(message: memoryview) -> Fields:
    fields: Fields = {}
    for number, value in _read(message):
        fields.setdefault(number, []).append(value)
    return fields


def _read(message: memoryview) -> Iterator[tuple[int, Any]]:
    """Number and value of each field: a varint as a number, all else as bytes."""
    at = 0
    while at < len(message):
        key, at = _varint_at(message, at)
        wire = key & 7
        if wire == _VARINT:
            value, at = _varint_at(message, at)
            yield key >> 3, value
            continue
        if wire == _BYTES:
            length, at = _varint_at(message, at)
        else:
            length = {_FIXED_64: 8, _FIXED_32: 4}[wire]
        if length > len(message) - at:
            raise ValueError(f"field {key >> 3} has {length} bytes, {len(message) - at} are left")
        yield key >> 3, message[at : at + length]
        at += length


def _varints(value: Any) -> Iterator[int]:
    """The numbers of a repeated field, packed or not."""
    if isinstance(value, int):
        yield value
        return
    at = 0
    while at < len(value):
        number, at = _varint_at(value, at)
        yield number


def _varint_at(message: memoryview, at: int) -> tuple[int, int]:
    number = 0
    for place in range(10):
        byte = message[at + place]
        number |= (byte & 127) << 7 * place
        if byte < 128:
            return number & (1 << 64) - 1, at + place + 1
    raise ValueError("a varint has more than ten bytes")


def _varint(number: int) -> bytes:
    content = bytearray()
    while number >= 128:
        content.append(number & 127 | 128)
        number >>= 7
    return bytes([*content, number])


def _tag(field: int, wire: int) -> bytes:
    return _varint(field << 3 | wire)


def _field(field: int, content: bytes) -> bytes:
    return _tag(field, _BYTES) + _varint(len(content)) + content
