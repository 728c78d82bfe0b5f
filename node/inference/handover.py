"""Handover from infer to encode: the findings of a pipeline as one file, complete or absent.

JSON and plain arrays in one ``.npz`` file, never pickle. It is written next to its place, synced and renamed, so that a
killed worker leaves the old file or the new one. Masks are cropped to what is not zero.

The process that writes it ran a model, so that the reader believes nothing: see ``node.inference.array_file``.
"""

from __future__ import annotations

import json
import os
import struct
import tokenize
import uuid
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from node.errors import InputError
from node.inference.array_file import arrays_in
from node.inference.document_values import Arrays
from node.inference.findings_document import read_algorithm, read_findings, write_algorithm, write_findings
from node.inference.task import FINDINGS
from node.pipeline import Algorithm, Findings
from node.spool.files import sync_folder

_DAMAGED = (
    ArithmeticError, AttributeError, EOFError, InputError, LookupError, MemoryError, OSError, RuntimeError, SyntaxError,
    TypeError, ValueError, tokenize.TokenError, zipfile.BadZipFile, zlib.error, struct.error,
)  # fmt: skip
"""From archive, arrays and document, any of which a model may have written."""
_DOCUMENT_BYTES = 1 << 24
_LEAST_BYTES, _BYTES_PER_VOXEL = 1 << 28, 256
"""Largest file: this much, and 64 maps of floats on the grid of the series."""
_LEAST_VOXELS, _FINER = 1 << 24, 32
"""Largest array: this much, and a grid that is a third as wide as that of the series in each direction."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Handover:
    """One finished run of a pipeline."""

    findings: Findings
    algorithm: Algorithm
    device: str
    analysed_at: datetime
    """End of the run, with time zone."""
    timings: Mapping[str, float]
    """Seconds by part: ``load``, ``read``, ``run``."""
    peak_memory_mib: Mapping[str, float]
    """``host`` and, on a CUDA device, ``device``."""
    inputs: tuple[str, ...] = ()
    """See ``Analysis.inputs``."""
    images: tuple[tuple[str, int | None], ...] = ()
    """SOP Instance UID and frame of the analysed images, where the needs of the pipeline left out others."""
    of_volumes: bool = False
    """The pipeline took all volumes of the series; the findings lie on the first."""


def save(folder: Path, handover: Handover) -> None:
    """Write into ``folder``, which is made; durable when this returns. An earlier handover is replaced in one step."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays: Arrays = {}
    document = {
        "findings": write_findings(handover.findings, arrays),
        "algorithm": write_algorithm(handover.algorithm),
        "device": handover.device,
        "analysed_at": handover.analysed_at.isoformat(),
        "timings": dict(handover.timings),
        "peak_memory_mib": dict(handover.peak_memory_mib),
        "inputs": list(handover.inputs),
        "images": [list(name) for name in handover.images],
        "of_volumes": handover.of_volumes,
    }
    arrays["document"] = np.frombuffer(json.dumps(document).encode(), np.uint8)
    for left in folder.glob("*.part"):  # of a worker that was killed
        left.unlink(missing_ok=True)
    part = folder / f"{uuid.uuid4().hex}.part"
    with part.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]
        file.flush()
        os.fsync(file.fileno())
    part.replace(folder / FINDINGS)
    for changed in (folder, folder.parent):
        sync_folder(changed)


def load(folder: Path, voxels: int) -> Handover:
    """Read what ``save`` wrote about a series of this many ``voxels``.

    Raises ``InputError`` when it is missing or damaged, or larger than any result on such a series.
    """
    try:
        with arrays_in(
            folder / FINDINGS,
            most_bytes=_LEAST_BYTES + _BYTES_PER_VOXEL * voxels,
            most_elements=_LEAST_VOXELS + _FINER * voxels,
        ) as arrays:
            document = _document(arrays["document"].tobytes())
            return Handover(
                findings=read_findings(document["findings"], arrays),
                algorithm=read_algorithm(document["algorithm"]),
                device=document["device"],
                analysed_at=datetime.fromisoformat(document["analysed_at"]),
                timings=document["timings"],
                peak_memory_mib=document["peak_memory_mib"],
                inputs=tuple(document.get("inputs", ())),  # absent: left by an older version
                images=tuple((str(uid), frame) for uid, frame in document.get("images", ())),
                of_volumes=document.get("of_volumes", False) is True,
            )
    except _DAMAGED as error:
        raise InputError(f"{folder / FINDINGS}: no usable handover ({error}); retry the job from infer") from error


def _document(text: bytes) -> Any:
    if len(text) > _DOCUMENT_BYTES:
        raise InputError(f"its document has {len(text)} bytes, at most {_DOCUMENT_BYTES} are read")
    return json.loads(text)
