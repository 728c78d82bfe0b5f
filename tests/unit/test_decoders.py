"""Decoders: other processes decode parts of a series into shared memory, with the same values and the same faults."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from dicom_files import ct_series, write
from pydicom import FileDataset, dcmread
from pydicom.encaps import encapsulate, generate_frames
from pydicom.pixels.processing import apply_modality_lut
from pydicom.uid import JPEG2000Lossless

from node.errors import InputError, PipelineError
from node.inference.decoders import MOST, Decoders
from node.pipeline import Unsuitable
from node.studies.source import SourceSeries
from node.studies.stored_image import StoredImage, decode_here


@pytest.fixture
def decoders() -> Iterator[Decoders]:
    before = children()
    started = Decoders(2)
    yield started
    started.close()
    wait_until_none_of(children() - before)


def children() -> set[int]:
    return {child.pid for child in psutil.Process().children()}


def wait_until_none_of(pids: set[int]) -> None:
    for pid in pids:
        os.waitpid(pid, 0)


def name_in(folder: Path) -> None:
    (folder / str(os.getpid())).touch()


def compressed_series(n: int) -> list[FileDataset]:
    series = ct_series(n=n, size=32)
    for image in series:
        image.compress(JPEG2000Lossless, generate_instance_uid=False)
    return series


def volumes(paths: list[Path], decoders: Decoders) -> tuple[np.ndarray, np.ndarray]:
    return SourceSeries.read(paths).volume().array, SourceSeries.read(paths, decoders).volume().array


@pytest.mark.parametrize("compressed", [False, True])
def test_volumes_are_those_of_one_process(tmp_path: Path, decoders: Decoders, *, compressed: bool) -> None:
    paths = write(compressed_series(n=5) if compressed else ct_series(n=5, size=32), tmp_path)
    here, there = volumes(paths, decoders)
    np.testing.assert_array_equal(here, there)
    assert there.dtype == np.float32
    assert np.ptp(there) > 0
    there[:] = 7
    np.testing.assert_array_equal(SourceSeries.read(paths, decoders).volume("FPL").array[::-1].shape, here.shape)


def test_faults_are_those_of_the_first_image_at_fault(tmp_path: Path, decoders: Decoders) -> None:
    paths = write(compressed_series(n=6), tmp_path)
    for index in (1, 4):
        image = dcmread(paths[index])
        (codestream,) = generate_frames(image.PixelData, number_of_frames=1)
        image.PixelData = encapsulate([codestream[:-100]])
        image.save_as(paths[index])
    faults = []
    for decode in (decode_here, decoders):
        with pytest.raises(InputError) as fault:
            SourceSeries.read(paths, decode).volume()
        faults.append(str(fault.value))
    assert faults[0] == faults[1]
    assert dcmread(paths[1]).SOPInstanceUID in faults[0]


def test_colour_images_are_unsuitable(tmp_path: Path, decoders: Decoders) -> None:
    paths = write(compressed_series(n=3), tmp_path)
    source = SourceSeries.read(paths, decoders)
    for path in paths:
        image = dcmread(path)
        image.SamplesPerPixel = 3
        image.save_as(path)
    with pytest.raises(Unsuitable, match="colour"):
        source.volume()


def test_a_decoder_that_dies_fails_one_series(tmp_path: Path) -> None:
    paths = write(compressed_series(n=4), tmp_path)
    before = children()
    decoders = Decoders(2)
    pids = children() - before
    os.kill(max(pids), signal.SIGKILL)
    uncompressed = write(ct_series(n=4, size=32), tmp_path / "uncompressed")
    np.testing.assert_array_equal(*volumes(uncompressed, decoders))
    with pytest.raises(PipelineError, match="was killed"):
        SourceSeries.read(paths, decoders).volume()
    wait_until_none_of(pids)
    here, there = volumes(paths, decoders)
    np.testing.assert_array_equal(here, there)


def test_decoders_end_with_their_process(tmp_path: Path) -> None:
    before = children()
    started = Decoders(MOST + 3, lambda: name_in(tmp_path))
    pids = children() - before
    assert len(pids) == MOST
    deadline = time.monotonic() + 60
    while {int(path.name) for path in tmp_path.iterdir()} != pids:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    started.close()
    wait_until_none_of(pids)


def test_openjpeg_is_the_first_decoder_of_reversible_codestreams(tmp_path: Path) -> None:
    (image,) = ct_series(n=1, size=32)
    image.compress(JPEG2000Lossless, generate_instance_uid=False)
    image.PixelData = encapsulate([next(generate_frames(image.PixelData, number_of_frames=1))[:-20]])
    paths = write([image], tmp_path)
    with pytest.raises(InputError) as fault:
        SourceSeries.read(paths).image(0)
    tried = [str(fault.value).find(f"{name}:") for name in ("pylibjpeg", "gdcm", "pillow")]
    assert 0 < tried[0] < tried[1] < tried[2]


@pytest.mark.parametrize(("slope", "intercept"), [("1", "-1024"), ("-3", "7"), ("0.37", "-12.5"), ("65", "1e9")])
@pytest.mark.parametrize("signed", [0, 1])
def test_values_are_those_of_the_modality_lut(tmp_path: Path, slope: str, intercept: str, signed: int) -> None:
    series = ct_series(n=3, size=32)
    for image in series:
        image.PixelRepresentation, image.RescaleSlope, image.RescaleIntercept = signed, slope, intercept
        image.BitsStored, image.HighBit = 16, 15
        noise = np.random.default_rng(1).integers(0, 1 << 16, (32, 32), dtype=np.uint16)
        noise[0, :2] = 0, 0xFFFF
        image.PixelData = noise.tobytes()
    paths = write(series, tmp_path)
    expected = np.stack([apply_modality_lut(d.pixel_array, d) for d in map(dcmread, paths)])
    assert expected.dtype == np.float64
    images = [StoredImage.of(path, dcmread(path), at, (0, 0)) for at, path in enumerate(paths)]
    values = decode_here(images, expected.shape, padded=False)
    assert values.tobytes() == expected.astype(np.float32).tobytes()


def test_a_volume_larger_than_all_memory_is_a_lack_of_memory(tmp_path: Path, decoders: Decoders):
    series = SourceSeries.read(write(compressed_series(2), tmp_path))
    places = zip(series.paths, series.datasets, series.slices, strict=True)
    stored = [StoredImage.of(*place, (0, 0)) for place in places]
    with pytest.raises(MemoryError, match="60000"):
        decoders(stored, (1 << 20, 60000, 60000), padded=False)
