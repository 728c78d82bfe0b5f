"""What costs memory when results are made: pixels are packed as they are written, values are summed image by image."""

from __future__ import annotations

import tracemalloc
from io import SEEK_SET
from pathlib import Path

import numpy as np
import pytest
from analyses import analysis, source_of
from dicom_files import ct_series

from node.pipeline import Findings, Segment, codes
from node.results.encode import encode
from node.results.finding import place_findings
from node.results.gate.check import check
from node.results.mask_measurement import Statistics
from node.results.seg_frames import frames_of, packed
from node.studies.source import SourceSeries


def _segments(source: SourceSeries, count: int, *, solid: bool = False) -> Findings:
    """Segments on every image: of single voxels, or ``solid``, whose outlines are quickly found."""
    grid = source.volume()
    shape = grid.spatial_shape
    rng, rows = np.random.default_rng(4), np.arange(shape[1])[:, np.newaxis]
    return Findings(
        segments=tuple(
            Segment(
                label=f"Part {number}",
                mask=grid.with_array(
                    np.broadcast_to(rows >= number if solid else rng.random(shape) < 0.5, shape).astype(np.uint8)
                ),
                category=codes.SCT.Tissue,
                type=codes.SCT.Tissue,
            )
            for number in range(count)
        )
    )


@pytest.mark.thorough
def test_a_seg_is_held_in_memory_once_while_it_is_made(tmp_path: Path) -> None:
    source = source_of(tmp_path, ct_series(24, 256))
    result = analysis(_segments(source, 12))
    encode(analysis(_segments(source, 1)), source, ["seg"])  # tables of the standard are loaded once
    tracemalloc.start()
    try:
        (seg,) = encode(result, source, ["seg"])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(seg.data) > 12 * 24 * 256 * 256 // 8
    assert peak < 1.5 * len(seg.data) + 2_000_000


@pytest.mark.thorough
def test_the_gate_copies_no_pixels_of_a_seg(tmp_path: Path) -> None:
    source = source_of(tmp_path, ct_series(4, 1024))
    check(encode(analysis(_segments(source, 1, solid=True)), source, ["seg"]), source)  # tables are loaded once
    objects = encode(analysis(_segments(source, 8, solid=True)), source, ["seg"])
    tracemalloc.start()
    try:
        check(objects, source)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(objects[0].data) > 8 * 4 * 1024 * 1024 // 8
    assert peak < len(objects[0].data) / 2


@pytest.mark.parametrize(("frames", "size"), [(3, 5), (8, 5), (11, 7), (16, 8)])
def test_pixels_are_the_same_in_whatever_pieces_they_are_read(tmp_path: Path, frames: int, size: int) -> None:
    source = source_of(tmp_path, ct_series(frames, size))
    findings = place_findings(_segments(source, 1), source, source.geometry, "key")
    shown = frames_of(findings)
    bits = np.stack([findings[0].mask.voxels[index - findings[0].mask.box[0].start] for _, index in shown])
    image = np.zeros((len(shown), size, size), np.bool_)
    image[(slice(None), *findings[0].mask.box[1:])] = bits
    expected = np.packbits(image, axis=None, bitorder="little").tobytes()
    expected += b"\0" * (len(expected) % 2)
    pixels = packed(shown, size, size)
    assert pixels.read() == expected
    for at in range(0, len(expected), 3):
        pixels.seek(at, SEEK_SET)
        assert pixels.read(4) == expected[at : at + 4]


def test_statistics_in_parts_are_those_of_the_whole() -> None:
    values = np.random.default_rng(5).normal(-800, 40, 1000)
    told = Statistics()
    for part in np.array_split(values, [1, 7, 400]):
        told = told.with_values(part)
    assert (told.count, told.least, told.greatest) == (1000, values.min(), values.max())
    assert told.mean == pytest.approx(values.mean(), rel=1e-12)
    assert told.deviation == pytest.approx(values.std(), rel=1e-12)
