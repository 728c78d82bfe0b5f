"""A handover that a hostile model wrote is refused with a reason, before memory or time goes into it."""

from __future__ import annotations

import json
import os
import resource
import time
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from highdicom import Volume

from node.errors import InputError
from node.inference.handover import Handover, load, save
from node.pipeline import Algorithm, Code, Findings, Segment, codes

VOXELS = 4 * 16 * 16
"""Of the series."""
FILE = "findings.npz"
Arrays = dict[str, np.ndarray[Any, Any]]


@pytest.fixture
def honest(tmp_path: Path) -> Path:
    """A handover with one mask."""
    mask = np.zeros((4, 16, 16), np.uint8)
    mask[1:3, 4:9, 4:9] = 1
    segment = Segment(
        label="Nodule", mask=Volume(mask, np.eye(4), "PATIENT"), category=codes.SCT.Tissue, type=codes.SCT.Nodule
    )
    save(
        tmp_path,
        Handover(
            findings=Findings(segments=(segment,)),
            algorithm=Algorithm(name="A", version="1"),
            device="cpu",
            analysed_at=datetime(2026, 1, 2, tzinfo=UTC),
            timings={},
            peak_memory_mib={},
        ),
    )
    return tmp_path


def rewritten(folder: Path, change: Callable[[Arrays, dict[str, Any]], None], *, compressed: bool = False) -> None:
    with np.load(folder / FILE) as stored:
        arrays = {name: stored[name] for name in stored}
    document = json.loads(arrays.pop("document").tobytes())
    change(arrays, document)
    arrays.setdefault("document", np.frombuffer(json.dumps(document).encode(), np.uint8))
    (np.savez_compressed if compressed else np.savez)(folder / FILE, **arrays)  # type: ignore[arg-type]


def a_gibibyte_of_zeros(arrays: Arrays, _: dict[str, Any]) -> None:
    arrays["array0"] = np.zeros((1024, 1024, 1024), np.uint8)


def too_fine(arrays: Arrays, _: dict[str, Any]) -> None:
    arrays["array0"] = np.ones((300, 300, 300), np.uint8)


def objects(arrays: Arrays, _: dict[str, Any]) -> None:
    arrays["array0"] = np.array([[[{"a": 1}]]], dtype=object)


def records(arrays: Arrays, _: dict[str, Any]) -> None:
    arrays["array0"] = np.zeros((2, 2, 2), [("x", "u1"), ("y", "u1")])


def flat(arrays: Arrays, _: dict[str, Any]) -> None:
    arrays["array0"] = arrays["array0"].ravel()


def missing(arrays: Arrays, _: dict[str, Any]) -> None:
    del arrays["array0"]


def nowhere(_: Arrays, document: dict[str, Any]) -> None:
    document["findings"]["segments"][0]["mask"]["affine"][0][3] = float("nan")


def far(_: Arrays, document: dict[str, Any]) -> None:
    document["findings"]["segments"][0]["mask"]["affine"][0][3] = float("inf")


def nested(arrays: Arrays, _: dict[str, Any]) -> None:
    arrays["document"] = np.frombuffer(b"[" * 1_000_000, np.uint8)


def no_document(arrays: Arrays, _: dict[str, Any]) -> None:
    arrays["document"] = np.frombuffer(b"[1, 2]", np.uint8)


def no_findings(_: Arrays, document: dict[str, Any]) -> None:
    document["findings"] = 5


def odd_codes(_: Arrays, document: dict[str, Any]) -> None:
    document["findings"]["segments"][0]["type"] = [1, 2, 3, 4, 5, 6, 7, 8]


def long_label(_: Arrays, document: dict[str, Any]) -> None:
    document["findings"]["segments"][0]["label"] = "x" * 1_000_000


def no_text(_: Arrays, document: dict[str, Any]) -> None:
    document["findings"]["segments"][0]["label"] = {"a": 1}


def odd_box(_: Arrays, document: dict[str, Any]) -> None:
    document["findings"]["segments"][0]["box"] = [["a", None]] * 3


@pytest.mark.parametrize(
    "change",
    [
        too_fine, objects, records, flat, missing, nowhere, far, nested, no_document, no_findings, odd_codes,
        long_label, no_text, odd_box,
    ],
)  # fmt: skip
def test_what_no_pipeline_returns_is_refused(honest: Path, change: Callable[[Arrays, dict[str, Any]], None]) -> None:
    rewritten(honest, change)
    with pytest.raises(InputError, match="no usable handover"):
        load(honest, VOXELS)


def test_compressed_zeros_are_not_inflated(honest: Path) -> None:
    rewritten(honest, a_gibibyte_of_zeros, compressed=True)
    assert (honest / FILE).stat().st_size < 2 << 20
    _refused_cheaply(honest, "compressed members")


def test_a_file_of_100_gb_is_not_read(honest: Path) -> None:
    content = (honest / FILE).read_bytes()
    with (honest / FILE).open("wb") as file:
        file.seek(100_000_000_000)  # a hole, which costs the model nothing
        file.write(content)
    _refused_cheaply(honest, "has 1000000")


def test_an_array_that_declares_more_than_it_holds_is_not_made(honest: Path) -> None:
    head = BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "<f8", "fortran_order": False, "shape": (1 << 40,)})
    with zipfile.ZipFile(honest / FILE, "a") as archive:
        archive.writestr("more.npy", head.getvalue())
    _refused_cheaply(honest, "declares")


def test_200_000_members_are_not_listed(honest: Path) -> None:
    with zipfile.ZipFile(honest / FILE, "a") as archive:
        for number in range(200_000):
            archive.writestr(zipfile.ZipInfo(f"{number:x}"), b"")
    _refused_cheaply(honest, "200002 members")


def test_a_link_to_another_file_is_not_followed(honest: Path, tmp_path: Path) -> None:
    (honest / FILE).rename(tmp_path / "elsewhere")
    (honest / FILE).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="no usable handover"):
        load(honest, VOXELS)


def test_a_pipe_does_not_make_the_reader_wait(honest: Path) -> None:
    (honest / FILE).unlink()
    os.mkfifo(honest / FILE)
    _refused_cheaply(honest, "no usable handover")


def test_an_honest_one_is_read(honest: Path) -> None:
    [segment] = load(honest, VOXELS).findings.segments
    assert (segment.type, segment.mask.array.sum()) == (Code(*codes.SCT.Nodule), 50)


def _refused_cheaply(folder: Path, reason: str) -> None:
    before, begun = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    with pytest.raises(InputError, match=reason):
        load(folder, VOXELS)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 << 10
    assert time.process_time() - begun < 10
