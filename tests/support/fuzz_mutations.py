"""Mutations that know the format, so that most of what they make is still read: DICOM, JSON, npz, lines of TOML."""

from __future__ import annotations

import io
import json
import random
import zipfile
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

from fuzz_receive import mutate_bytes
from pydicom import Dataset, dcmread
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import dcmwrite
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag
from pydicom.valuerep import VR

Mutation = Callable[[random.Random, bytes], bytes]
_VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**63, 10**400, 0.5,
    1e308, float("nan"), float("inf"), "", "a", "0", "-1", "a/b",
    "\u0000", "\ud800", [], [0], [[]], [1, 2, 3], {}, {"a": 1}, "$1", "@a", "%a",
)  # fmt: skip
_RAW = (
    b"",
    b"\0",
    b" ",
    b"0",
    b"-1",
    b"1e308",
    b"nan",
    b"1\\2",
    b"\\\\",
    b"a" * 17,
    b"1.2.3",
    b"\xff\xff",
    b"\0\0\0\x80",
)
_VRS = tuple(vr.value for vr in VR if len(vr.value) == 2)


def dicom(rng: random.Random, data: bytes) -> bytes:
    """Change, move, copy or remove elements anywhere in a file; the lengths around them are right."""
    dataset = dcmread(io.BytesIO(data), force=True)
    for _ in range(rng.choice((1, 1, 2, 4))):
        places = list(_data_sets(dataset))[:400]
        _change(rng, rng.choice(places), places)
    buffer = DicomBytesIO()
    dcmwrite(buffer, dataset, enforce_file_format=False)
    return bytes(buffer.getvalue())


def _data_sets(dataset: Dataset) -> Iterator[Dataset]:
    yield dataset
    for tag in list(dataset.keys()):
        raw = dataset.get_item(tag)
        if raw is not None and raw.VR == "SQ":
            for item in dataset[tag].value:
                yield from _data_sets(item)


def _change(rng: random.Random, dataset: Dataset, places: list[Dataset]) -> None:
    tags = list(dataset.keys())
    if not tags:
        return
    tag = rng.choice(tags)
    element = dataset.get_item(tag)
    other = rng.choice(places)
    match rng.randrange(8):
        case 0:
            del dataset[tag]
        case 1 if isinstance(element, RawDataElement):
            dataset._dict[tag] = element._replace(VR=rng.choice(_VRS))
        case 2 if len(other):
            dataset._dict[tag] = _moved(deepcopy(other.get_item(rng.choice(list(other.keys())))), tag)
        case 3 if len(other):
            name = rng.choice(list(other.keys()))
            dataset._dict[name] = deepcopy(other.get_item(name))
        case 4 if element is not None and element.VR == "SQ" and element.value:
            items = list(dataset[tag].value)
            items[rng.randrange(len(items))] = deepcopy(other)
            dataset[tag].value = Sequence(items)
        case 5 if element is not None and element.VR == "SQ":
            items = list(dataset[tag].value)
            dataset[tag].value = Sequence(items[:-1] if rng.random() < 0.5 else items + deepcopy(items[-1:]))
        case _:
            if isinstance(element, RawDataElement):
                value = rng.choice(_RAW) if rng.random() < 0.5 else mutate_bytes(rng, element.value or b"")
                dataset._dict[tag] = element._replace(value=value, length=len(value))
            elif isinstance(element, DataElement) and element.VR != "SQ":
                value = rng.choice(_RAW)
                dataset._dict[tag] = RawDataElement(tag, element.VR, len(value), value, 0, False, True)


def _moved(element: DataElement | RawDataElement | None, tag: BaseTag) -> Any:
    if isinstance(element, RawDataElement):
        return element._replace(tag=tag)
    assert element is not None
    element.tag = tag
    return element


def tree(rng: random.Random, text: bytes) -> bytes:
    """Change one value, key or list somewhere in each JSON document of the lines."""
    documents = [json.loads(line) for line in text.split(b"\n")]
    at = rng.randrange(len(documents))
    documents[at] = _changed(rng, documents[at])
    return b"\n".join(json.dumps(document).encode() for document in documents)


def _changed(rng: random.Random, node: Any) -> Any:
    if rng.random() < 0.1 or not isinstance(node, dict | list) or not node:
        return deepcopy(rng.choice(_VALUES))
    if isinstance(node, list):
        at = rng.randrange(len(node))
        match rng.randrange(8):
            case 0:
                return node[:at] + node[at + 1 :]
            case 1:
                return [*node, deepcopy(node[at])]
        return [*node[:at], _changed(rng, node[at]), *node[at + 1 :]]
    key = rng.choice(list(node))
    match rng.randrange(10):
        case 0:
            return {k: v for k, v in node.items() if k != key}
        case 1:
            return {rng.choice(("", "a", "0", key + "x")) if k == key else k: v for k, v in node.items()}
        case 2:
            return node | {key: deepcopy(node[rng.choice(list(node))])}
    return node | {key: _changed(rng, node[key])}


def npz(rng: random.Random, data: bytes) -> bytes:
    """Change the document, an array's header or an array's bytes, packed again."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    name = rng.choice(["document.npy"] * 3 + list(members))
    content = members[name]
    start = 10 + int.from_bytes(content[8:10], "little")
    if name == "document.npy" and rng.random() < 0.9:
        document = tree(rng, content[start:])
        header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({len(document)},), }}".ljust(117) + "\n"
        members[name] = content[:8] + len(header).to_bytes(2, "little") + header.encode() + document
    elif rng.random() < 0.1:
        del members[name]
    elif rng.random() < 0.7:
        members[name] = mutate_bytes(rng, content[:start]) + content[start:]
    else:
        members[name] = content[:start] + mutate_bytes(rng, content[start:])
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def lines(rng: random.Random, text: bytes) -> bytes:
    """Change, swap, copy or remove lines; values come from other lines, or are odd ones."""
    rows = text.split(b"\n")
    at, other = rng.randrange(len(rows)), rng.choice(rows)
    key, equals, value = rows[at].partition(b" = ")
    match rng.randrange(6):
        case 0:
            del rows[at]
        case 1:
            rows.insert(rng.randrange(len(rows) + 1), other)
        case 2 if equals:
            odd = json.dumps(rng.choice(_VALUES[1:])).encode()
            rows[at] = key + equals + (other.partition(b" = ")[2] or odd if rng.random() < 0.5 else odd)
        case 3 if equals:
            rows[at] = (other.partition(b" = ")[0] or key) + equals + value
        case _:
            rows[at] = mutate_bytes(rng, rows[at])
    return b"\n".join(rows)


MUTATIONS: dict[str, Mutation] = {"dicom": dicom, "tree": tree, "npz": npz, "lines": lines}
