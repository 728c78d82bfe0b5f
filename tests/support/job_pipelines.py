"""A small pipeline for tests of the worker, ``job_pipelines:create``; ``options["does"]`` says what it does."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import sys
import time
import uuid
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import prying
from highdicom import Volume
from hostile_models import HOSTILE
from hostile_neighbours import NEIGHBOURS
from process_marks import leave_mark

from node.errors import WeightsError
from node.pipeline import (
    Algorithm,
    Code,
    DerivedSeries,
    Findings,
    Lesion,
    Measurement,
    Needs,
    Segment,
    Series,
    Unsuitable,
    codes,
)

_WHAT = {
    "findings",
    "none",
    "derived",
    "outside",
    "everything",
    "nothing",
    "unsuitable",
    "companion",
    "count in result",
    "raise",
    "exit",
    "segv",
    "hang",
    "sleep",
    "wait for a process",
    "print",
    "call home",
    "loader",
    "compile",
    "measure",
    "pry",
    "process",
    "die before rename",
    "die after rename",
    *HOSTILE,
    *NEIGHBOURS,
}
_PROCESS = uuid.uuid4().hex
_PR_SET_NAME = 15
"""prctl(2)."""
WAITED_FOR = "waited for"
"""Name of the process for which a pipeline waits."""


def cube(volume: Volume) -> Volume:
    """A cube of 2 x 4 x 4 voxels in the middle."""
    mask = np.zeros(volume.spatial_shape, np.uint8)
    middle = [n // 2 for n in volume.spatial_shape]
    mask[middle[0] - 1 : middle[0] + 1, middle[1] - 2 : middle[1] + 2, middle[2] - 2 : middle[2] + 2] = 1
    return volume.with_array(mask)


class Scripted:
    """Does what it is told, once per file ``options["once"]`` when that is given, and *findings* afterwards."""

    algorithm = Algorithm(name="Scripted", version="1.2", parameters={"precision": "fp32"})
    needs = Needs(modalities=frozenset({"CT"}), min_slices=2)

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._options = options
        self.algorithm = replace(Scripted.algorithm, version=options.get("version", Scripted.algorithm.version))
        if "births" in options:
            leave_mark(Path(options["births"]))

    def run(self, series: Series) -> Findings:
        if "log" in self._options:
            leave_mark(Path(self._options["log"]))
        does = self._options.get("does", "findings")
        once = Path(self._options["once"]) if "once" in self._options else None
        if once is not None:
            if once.exists():
                does = "findings"
            else:
                once.touch()
        if does == "process":
            raise Unsuitable(json.dumps({"id": _PROCESS, "decoded": series.decoded is not None}))  # type: ignore[attr-defined]
        if does == "pry":
            raise Unsuitable(json.dumps(prying.tried(series.paths[0].parent, self._options)))  # type: ignore[attr-defined]
        if attack := HOSTILE.get(does) or NEIGHBOURS.get(does):
            attack(self._options)
        return _counted(series, self._options) if does == "count in result" else self._do(does, series)

    def _do(self, does: str, series: Series) -> Findings:
        match does:
            case "unsuitable":
                raise Unsuitable("the lungs are not in the picture")
            case "companion":
                t1c = series.companion("t1c")
                assert t1c is not None
                raise Unsuitable(f"t1c has {t1c.volume().spatial_shape[0]} slices, t2 is {series.companion('t2')}")
            case "raise":
                raise RuntimeError("the network diverged")
            case "exit" | "segv":
                _ended(does)
            case "hang" | "sleep" | "wait for a process":
                _waited(does, float(self._options.get("seconds", 60)))
            case "print":
                sys.stdout.write("from python\n")
                sys.stdout.flush()
                os.write(2, b"from a library\n")
            case "call home":
                with socket.create_connection(("127.0.0.1", int(self._options["port"])), timeout=5.0):
                    pass
            case "loader" | "compile":
                _compiled() if does == "compile" else _loaded_by_workers(series.volume())
            case "die before rename" | "die after rename":
                _die_at_rename(before=does == "die before rename")
        return _found(does, series.volume("HPL"))


def _found(does: str, volume: Volume) -> Findings:
    if does == "none":
        return Findings(looked_for=(codes.SCT.Nodule,), remarks=("A remark.",))
    if does == "measure":
        score = Code("AGATSTON", "99TEST", "Agatston score")
        return Findings(measurements=(Measurement(name=score, value=12, unit=codes.UCUM.NoUnits),))
    if does == "derived":
        return Findings(derived=(_halved(volume),))
    if does == "nothing":
        return Findings()
    mask = volume.with_array(np.ones(volume.spatial_shape, np.uint8)) if does == "everything" else cube(volume)
    if does == "outside":  # cannot become a SEG: not one voxel of it is on the source's grid
        affine = volume.affine.copy()
        affine[:3, 3] += 10_000
        mask = Volume(mask.array, affine, "PATIENT", frame_of_reference_uid=volume.frame_of_reference_uid)
    segment = Segment(
        label="Nodule 1", mask=mask, category=codes.SCT.MorphologicallyAbnormalStructure, type=codes.SCT.Nodule
    )
    return Findings(lesions=(Lesion(segment=segment, finding=codes.SCT.Nodule, probability=0.9),))


def _counted(series: Series, options: Mapping[str, Any]) -> Findings:
    """The voxels of a mask that another pipeline has made, and the mean of the image inside."""
    result, image = series.result(options["of"]), series.volume("HPL")
    assert result is not None
    mask = result.mask("Nodule 1", "HPL")
    inside = np.zeros(image.spatial_shape, bool) if mask is None else mask.array > 0
    if mask is not None:
        assert np.allclose(mask.affine, image.affine)
    assert result.mask("no such label") is None
    assert series.result("no such pipeline") is None
    code = Code("VOXELS", "99TEST", "Voxels of the result")
    counted = Measurement(name=code, value=int(inside.sum()), unit=codes.UCUM.NoUnits)
    in_cube = int((inside & (cube(image).array > 0)).sum())
    return Findings(measurements=(counted,), remarks=(f"{result.labels}, {in_cube}",))


def _waited(does: str, seconds: float) -> None:
    """For seconds, or until a test kills the process of this name."""
    if does != "wait for a process":
        time.sleep(seconds)
    elif (started := os.fork()) == 0:
        ctypes.CDLL(None).prctl(_PR_SET_NAME, WAITED_FOR.encode())
        time.sleep(600)
        os._exit(0)
    else:
        os.waitpid(started, 0)


def _ended(does: str) -> None:
    if does == "exit":
        os._exit(3)
    ctypes.string_at(0)


def _loaded_by_workers(volume: Volume) -> None:
    import torch
    from torch.utils.data import DataLoader

    slices = [torch.from_numpy(image.copy()) for image in volume.array]
    loaded = torch.cat([*DataLoader(slices, batch_size=1, num_workers=2)])  # type: ignore[arg-type]
    assert torch.equal(loaded, torch.stack(slices))


def _compiled() -> None:
    import torch

    ramp = torch.arange(64.0)
    doubled = torch.compile(lambda x: (2 * x).relu())(ramp)  # type: ignore[no-untyped-call]
    assert torch.equal(doubled, 2 * ramp)


def _halved(volume: Volume) -> DerivedSeries:
    return DerivedSeries(
        volume=volume.with_array(volume.array / 2), description="Half", derivation=codes.DCM.PixelByPixelMultiplication
    )


def _die_at_rename(*, before: bool) -> None:
    rename = Path.replace

    def dying(self: Path, target: Path) -> Path:
        if not before:
            rename(self, target)
        os.kill(os.getpid(), signal.SIGKILL)
        return target

    Path.replace = dying  # type: ignore[method-assign]


def create(*, weights: Path | None, device: str, options: Mapping[str, Any]) -> Scripted:
    if weights is not None:
        raise WeightsError(f"weights: {weights} does not exist")
    if options.get("does", "findings") not in _WHAT:
        raise ValueError(f"options.does = {options['does']!r} is unknown; use one of {', '.join(sorted(_WHAT))}")
    assert device == "cpu"
    return Scripted(options)
