"""Requests and answers of the Open Inference Protocol (V2) as files: binary tensors or JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from node.errors import PipelineError

TYPES: Mapping[str, str] = {
    "BOOL": "?", "UINT8": "u1", "UINT16": "<u2", "UINT32": "<u4", "UINT64": "<u8", "INT8": "i1", "INT16": "<i2",
    "INT32": "<i4", "INT64": "<i8", "FP16": "<f2", "FP32": "<f4", "FP64": "<f8",
}  # fmt: skip
"""Datatypes of the protocol, and how their values lie."""
_MOST_JSON = 1 << 30
MOST_TENSORS = 64
Tensors = dict[str, NDArray[Any]]


def datatype_of(array: NDArray[Any]) -> str:
    """The datatype of the protocol for an array."""
    return next(kind for kind, type_ in TYPES.items() if np.dtype(type_) == array.dtype)


def write_request(folder: Path, inputs: Tensors, outputs: list[str], *, binary: bool) -> None:
    """Write ``request.body`` and ``about.json``."""
    tables: list[dict[str, Any]] = []
    for name, array in inputs.items():
        table: dict[str, Any] = {"name": name, "shape": list(array.shape), "datatype": datatype_of(array)}
        table |= {"parameters": {"binary_data_size": array.nbytes}} if binary else {"data": array.ravel().tolist()}
        tables.append(table)
    wanted = [{"name": name, **({"parameters": {"binary_data": True}} if binary else {})} for name in outputs]
    header = json.dumps({"inputs": tables, "outputs": wanted}).encode()
    with (folder / "request.body").open("wb") as file:
        file.write(header)
        for array in inputs.values() if binary else ():
            file.write(np.ascontiguousarray(array).data)
    (folder / "about.json").write_text(json.dumps({"header_bytes": len(header) if binary else 0}))


def read_answer(folder: Path) -> Tensors:
    """The tensors of an answer. Raises ``PipelineError`` for one that does not follow the protocol."""
    length = int(json.loads((folder / "about.json").read_bytes())["header_bytes"])
    path = folder / "answer.body"
    size = path.stat().st_size
    if (length or size) > min(size, _MOST_JSON):
        raise PipelineError(f"the answer states {length} bytes of JSON and has {size}")
    try:
        with path.open("rb") as file:
            document = json.loads(file.read(length or size))
            outputs = document["outputs"]
            if not isinstance(outputs, list) or len(outputs) > MOST_TENSORS:
                raise PipelineError("the answer has no list of outputs")  # noqa: TRY301
            return {str(table["name"]): _tensor(table, file, size) for table in outputs}
    except PipelineError:
        raise
    except Exception as error:  # the reader meets whatever a server sends
        raise PipelineError(f"the answer does not follow the protocol: {type(error).__name__}: {error}") from error


def _tensor(table: Mapping[str, Any], file: Any, size: int) -> NDArray[Any]:
    kind, shape = TYPES[table["datatype"]], [int(n) for n in table["shape"]]
    wanted = prod(shape) * np.dtype(kind).itemsize
    if any(n < 0 for n in shape) or wanted > 64 * size:
        raise PipelineError(f"output {table['name']!r} states the shape {shape}, more than the answer holds")
    stated_bytes = (table.get("parameters") or {}).get("binary_data_size")
    if stated_bytes is None:
        return np.asarray(table["data"], np.dtype(kind)).reshape(shape)
    if stated_bytes != wanted:
        raise PipelineError(f"output {table['name']!r} has {stated_bytes} bytes, its shape {shape} wants {wanted}")
    return np.frombuffer(file.read(wanted), np.dtype(kind)).reshape(shape)
