"""Images that are small, and huge when they are decoded: the dashboard shows that they cannot be shown, and goes on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from dicom_files import ct_series
from parsing_bombs import PIXEL_BOMBS, encoded, peak_mib, reset_peak

from node.confined import Bounds, ConfinedProcess
from node.errors import InputError
from node.studies.source import SourceSeries
from node.web.study_view import JobFiles, slice_picture, view_of

PEAK_MIB = 1024
"""Of the process that decodes: it has 300 MiB of libraries."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pictures")


@pytest.fixture(scope="module")
def reader(folder: Path) -> Iterator[ConfinedProcess]:
    reader = ConfinedProcess("image reader", readable=[folder], bounds=Bounds(memory_mib=3072, cpu_seconds=30))
    yield reader
    reader.close()


def write(folder: Path, contents: list[bytes]) -> JobFiles:
    folder.mkdir()
    paths = tuple(folder / f"{number}.dcm" for number in range(len(contents)))
    for path, data in zip(paths, contents, strict=True):
        path.write_bytes(data)
    return JobFiles(source=paths, segmentations=(), derived=(), reports=())


@pytest.mark.parametrize("kind", PIXEL_BOMBS)
def test_a_bomb_is_an_image_that_cannot_be_shown(reader: ConfinedProcess, folder: Path, kind: str) -> None:
    bombs = write(folder / kind, [PIXEL_BOMBS[kind](image) for image in ct_series(3, 16)])
    reset_peak()
    before = peak_mib()
    with pytest.raises(InputError, match=r"PixelData of [0-9.]+|series"):
        reader.call("job", view_of, bombs, ("en",))
    with pytest.raises(InputError):
        reader.call("job", slice_picture, bombs, 1, "", outlined=False, derived=False)
    assert peak_mib() - before < 64
    assert reader.call("job", peak_mib) < PEAK_MIB
    sound = write(folder / f"{kind} sound", [encoded(image) for image in ct_series(3, 16)])
    assert reader.call("job", slice_picture, sound, 1, "", outlined=False, derived=False).startswith(b"\xff\xd8")


@pytest.mark.parametrize("kind", PIXEL_BOMBS)
def test_no_decoder_is_asked_for_more_than_the_header_states(folder: Path, kind: str) -> None:
    """In this process, as the stages infer and encode do."""
    files = write(folder / f"{kind} here", [PIXEL_BOMBS[kind](image) for image in ct_series(3, 16)])
    reset_peak()
    before = peak_mib()
    with pytest.raises(InputError, match="PixelData of"):
        SourceSeries.read(files.source).image(0)
    assert peak_mib() - before < 600
