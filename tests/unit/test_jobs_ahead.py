"""The next series is decoded while another runs."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from dicom_files import ct_series, write

from node.config import PipelineTable
from node.errors import InputError
from node.inference.model_process import ModelProcess
from node.inference.prefetch import MOST, Prefetcher
from node.inference.task import Task
from node.studies.source import SourceSeries
from node.studies.stored_image import StoredImage, decode_here


def files(folder: Path, n: int = 4) -> tuple[Path, ...]:
    return tuple(write(ct_series(n=n, size=16), folder))


def test_a_series_made_ahead_needs_its_files_no_more_and_holds_the_same_voxels(tmp_path: Path):
    paths = files(tmp_path)
    expected = SourceSeries.read(paths)
    volumes = [expected.volume(), expected.volume("FPL")]
    prefetcher = Prefetcher()
    prefetcher.begin(paths)
    made = prefetcher.reader(paths)(paths)
    for path in paths:
        path.unlink()
    for volume, same in zip(volumes, (made.volume(), made.volume("FPL")), strict=True):
        np.testing.assert_array_equal(volume.array, same.array)
        np.testing.assert_array_equal(volume.affine, same.affine)
    made.volume().array[:] = 7
    np.testing.assert_array_equal(made.volume().array, volumes[0].array, "one caller's changes are not another's")


def test_another_series_than_the_one_made_ahead_is_read(tmp_path: Path):
    first, second = files(tmp_path / "a"), files(tmp_path / "b", n=6)
    prefetcher = Prefetcher()
    prefetcher.begin(first)
    assert len(prefetcher.reader(second)(second).datasets) == 6
    assert len(prefetcher.reader(first)(first).datasets) == 4
    assert len(prefetcher.reader(first)(first).datasets) == 4, "it was made for one"


class Decoding:
    """Counts the images of each series that it decodes, and waits until it may."""

    def __init__(self) -> None:
        self.decoded: list[int] = []
        self.goes_on = threading.Event()

    def __call__(
        self, images: Sequence[StoredImage], shape: tuple[int, ...], *, padded: bool
    ) -> npt.NDArray[np.float32]:
        self.goes_on.wait(30)
        self.decoded.append(len(images))
        return decode_here(images, shape, padded=padded)


@pytest.mark.parametrize("first_waits", [True, False], ids=["a run waits for it", "its run comes later"])
def test_the_next_series_is_announced_and_the_one_before_is_not_decoded_twice(tmp_path: Path, *, first_waits: bool):
    """Where decoding takes longer than the network, runs wait for their series while the next ones are announced."""
    first, second = files(tmp_path / "a"), files(tmp_path / "b", n=6)
    decoding, taken = Decoding(), []
    prefetcher = Prefetcher(decoding)
    prefetcher.begin(first)
    waiting = threading.Thread(target=lambda: taken.append(prefetcher.reader(first)(first)))
    if first_waits:
        waiting.start()
        while prefetcher._begun:
            waiting.join(0.01)
    prefetcher.begin(second)
    decoding.goes_on.set()
    if not first_waits:
        waiting.start()
    waiting.join()
    taken.append(prefetcher.reader(second)(second))
    for series in taken:
        series.volume()
    assert sorted(decoding.decoded) == [4, 6], "each once"


def test_companions_and_the_images_of_the_prior_are_decoded_ahead_of_the_job(tmp_path: Path):
    main, companion, prior, late = (files(tmp_path / name, n=n) for n, name in ((4, "a"), (6, "b"), (8, "c"), (5, "d")))
    decoding = Decoding()
    decoding.goes_on.set()
    prefetcher = Prefetcher(decoding)
    prefetcher.begin(main, companion, (), prior)
    read = prefetcher.reader(main)
    taken = [read(paths) for paths in (main, companion, prior)]
    assert decoding.decoded == [4, 6, 8], "before a pipeline asks"
    assert [series.volume().spatial_shape[0] for series in taken] == [4, 6, 8]
    assert decoding.decoded == [4, 6, 8]
    assert len(read(late).datasets) == 5, "another series is read"


def test_a_fault_while_decoding_ahead_leaves_nobody_waiting(tmp_path: Path, monkeypatch):
    main, companion = files(tmp_path / "a"), files(tmp_path / "b", n=6)
    monkeypatch.setattr(threading, "excepthook", lambda _: None)

    def fails_once(*arguments: Any, **named: Any) -> npt.NDArray[np.float32]:
        if not failed:
            failed.append(True)
            raise MemoryError
        return decode_here(*arguments, **named)

    failed: list[bool] = []
    prefetcher = Prefetcher(fails_once)
    prefetcher.begin(main, companion)
    read = prefetcher.reader(main)
    assert [read(paths).volume().spatial_shape[0] for paths in (main, companion)] == [4, 6]


def test_what_nobody_takes_is_dropped(tmp_path: Path):
    series = [files(tmp_path / name, n=number) for name, number in (("a", 4), ("b", 6), ("c", 8))]
    prefetcher = Prefetcher()
    for paths in series:
        prefetcher.begin(paths)
    assert len(prefetcher._begun) == MOST
    prefetcher.drop()
    assert not prefetcher._begun


def test_what_cannot_be_read_ahead_is_said_by_the_run(tmp_path: Path):
    paths = files(tmp_path)
    paths[1].write_bytes(b"no DICOM")
    prefetcher = Prefetcher()
    prefetcher.begin(paths)
    with pytest.raises(InputError, match=paths[1].name):
        prefetcher.reader(paths)(paths)


@pytest.mark.thorough
def test_a_worker_prepares_the_next_task_while_it_runs_one(tmp_path: Path):
    def task(name: str, **options: object) -> Task:
        table = PipelineTable(factory="job_pipelines:create", options=options)
        paths = files(tmp_path / name)
        return Task(job_id=name, pipeline="scripted", table=table, paths=paths, folder=tmp_path / f"{name} out")

    worker = ModelProcess("cpu", 1, 240.0, tmp_path / "trays")
    outcomes = []
    try:
        next_one = replace(task("next"), companions={"other": files(tmp_path / "companion", n=6)})
        worker.prepare(next_one)  # no child yet: nothing to do
        running = threading.Thread(
            target=lambda: outcomes.append(worker.run(task("first", does="sleep", seconds=1), lambda: True).outcome)
        )
        running.start()
        while not (tmp_path / "first").exists() or worker._tasks is None:
            running.join(0.1)
        worker.prepare(next_one)
        running.join()
        outcomes.append(worker.run(next_one, lambda: True).outcome)
    finally:
        worker.close()
    assert outcomes == ["findings", "findings"]
