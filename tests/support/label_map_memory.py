"""Peak memory of a model with many classes, from its answer to the SEG: the child process, then encoder and gate.

    .venv/bin/python tests/support/label_map_memory.py [--classes 104] [--slices 700] [--masks]

``--masks`` returns a mask of the whole volume for each class instead of a label map, as adapters once did.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from dicom_files import ct_series, write

from node.config import PipelineTable
from node.inference.handover import load
from node.inference.model_process import ModelProcess
from node.inference.task import Task
from node.pipeline import Algorithm, Findings, Needs, Segment, Series, codes
from node.results.analysis import Analysis
from node.results.encode import encode
from node.results.gate.check import check
from node.studies.source import SourceSeries

SIZE = 512
COARSE = 4
"""Edge of a cell, in voxels, that belongs to one class."""
_PART = 50
"""Images written at once."""


def bodies(shape: tuple[int, ...], classes: int) -> np.ndarray[Any, Any]:
    """``classes`` neighbouring parts of an ellipsoid that fills half of ``shape``; a part is 1 to ``classes``."""
    cells = [-(-n // COARSE) for n in shape]
    at = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in cells), indexing="ij"), -1).astype(np.float32)
    seeds = np.random.default_rng(5).uniform(-0.9, 0.9, (classes, 3))
    nearest = np.full(cells, np.inf, np.float32)
    labels = np.zeros(cells, np.uint8 if classes < 256 else np.uint16)
    for value, seed in enumerate(seeds, 1):
        distance = ((at - seed) ** 2).sum(-1)
        labels[distance < nearest] = value
        np.minimum(nearest, distance, out=nearest)
    labels[(at**2).sum(-1) > 1] = 0
    for axis, size in enumerate(shape):
        labels = labels.repeat(COARSE, axis).take(range(size), axis)
    return labels


class Organs:
    """Outlines parts of an ellipsoid, whatever the images show."""

    algorithm = Algorithm(name="Organs", version="1")
    needs = Needs(modalities=frozenset({"CT"}))

    def __init__(self, *, classes: int, masks: bool) -> None:
        self._classes = classes
        self._masks = masks

    def run(self, series: Series) -> Findings:
        volume = series.volume("HPL")
        labels = volume.with_array(bodies(volume.spatial_shape, self._classes))
        return Findings(
            segments=tuple(
                Segment(
                    label=f"Part {value}",
                    mask=volume.with_array(labels.array == value) if self._masks else labels,
                    value=None if self._masks else value,
                    category=codes.SCT.AnatomicalStructure,
                    type=codes.SCT.Tissue,
                )
                for value in range(1, self._classes + 1)
            )
        )


def create(*, weights: Path | None, device: str, options: Mapping[str, Any]) -> Organs:
    return Organs(classes=options["classes"], masks=options["masks"])


def series(folder: Path, slices: int) -> list[Path]:
    """A CT of noise with ``slices`` images."""
    paths: list[Path] = []
    study, number = "1.2.3.4", "1.2.3.4.5"
    for first in range(0, slices, _PART):
        count = min(_PART, slices - first)
        images = ct_series(count, SIZE, spacing=(1.0, 0.7, 0.7), origin=(0, 0, first * 1.0), study=study, series=number)
        for index, image in enumerate(images, first + 1):
            image.InstanceNumber = index
            image.FrameOfReferenceUID = f"{study}.1"
        paths += write(images, folder / f"{first:04d}")
    return paths


def measure(classes: int, slices: int, *, masks: bool) -> None:
    """Print the peaks in MiB and the seconds of both processes."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        paths = series(folder / "in", slices)
        table = PipelineTable(factory="label_map_memory:create", options={"classes": classes, "masks": masks})
        task = Task(job_id="j", pipeline="organs", table=table, paths=tuple(paths), folder=folder / "out")
        worker = ModelProcess("cpu", 1, 1800.0, folder / "sandbox")
        started = time.monotonic()
        reply = worker.run(task, lambda: True)
        worker.close()
        assert reply.outcome == "measured", reply.reason
        took = time.monotonic() - started
        sys.stdout.write(f"child: {reply.peak_memory_mib['host']:.0f} MiB, {took:.0f} s {reply.timings}\n")
        handover = (folder / "out" / "findings.npz").stat().st_size / 2**20
        (folder / "paths").write_text(json.dumps([str(path) for path in paths]))
        sys.stdout.write(f"handover: {handover:.0f} MiB\n")
        sys.stdout.flush()
        subprocess.run([sys.executable, __file__, "--encode", str(folder)], check=True)


def encode_and_measure(folder: Path) -> None:
    """What the stage encode does with the handover in ``folder``, in this process."""
    started = time.monotonic()
    source = SourceSeries.read([Path(path) for path in json.loads((folder / "paths").read_text())])
    handover = load(folder / "out", len(source.datasets) * SIZE * SIZE)
    analysis = Analysis(
        pipeline="organs",
        algorithm=handover.algorithm,
        generation=1,
        outcome="measured",
        findings=handover.findings,
        analysed_at=datetime.now(UTC),
    )
    objects = encode(analysis, source)
    made = time.monotonic()
    check(objects, source)
    sizes = ", ".join(f"{encoded.kind} {len(encoded.data) / 2**20:.0f} MiB" for encoded in objects)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    seconds = f"{made - started:.0f} s, gate {time.monotonic() - made:.0f} s"
    sys.stdout.write(f"encoder: {peak:.0f} MiB, {seconds}; {sizes}\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", type=int, default=104)
    parser.add_argument("--slices", type=int, default=700)
    parser.add_argument("--masks", action="store_true")
    parser.add_argument("--encode", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.encode:
        encode_and_measure(given.encode)
    else:
        measure(given.classes, given.slices, masks=given.masks)
