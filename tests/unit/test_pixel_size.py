"""The size that an image states is compared with its bytes before any decoder is called."""

from __future__ import annotations

import pytest
from dicom_files import ct_series
from parsing_bombs import PIXEL_BOMBS, jpeg, jpeg_2000, jpeg_ls, rle
from pydicom import FileDataset
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless, JPEGBaseline8Bit, JPEGLSLossless, RLELossless

from node.errors import InputError
from node.studies.codestream import stated_size
from node.studies.pixel_size import check_pixel_size

FRAMES = {
    JPEGBaseline8Bit: jpeg(16),
    JPEG2000Lossless: jpeg_2000(16),
    JPEGLSLossless: jpeg_ls(16),
    RLELossless: rle(16),
}


def compressed(syntax: str, frames: list[bytes]) -> FileDataset:
    (image,) = ct_series(1, 16)
    image.BitsAllocated = image.BitsStored = 8
    image.HighBit, image.PixelRepresentation, image.NumberOfFrames = 7, 0, len(frames)
    image.PixelData = encapsulate(frames)
    image.file_meta.TransferSyntaxUID = syntax
    return image


@pytest.mark.parametrize("syntax", FRAMES)
def test_sound_images_pass(syntax: str) -> None:
    check_pixel_size(ct_series(1, 16)[0])
    check_pixel_size(compressed(syntax, [FRAMES[syntax]] * 3))


@pytest.mark.parametrize("syntax", [syntax for syntax in FRAMES if syntax != RLELossless])
def test_one_frame_of_another_size_is_refused(syntax: str) -> None:
    assert stated_size(FRAMES[syntax]) == (16, 16)
    large = {JPEGBaseline8Bit: jpeg, JPEG2000Lossless: jpeg_2000, JPEGLSLossless: jpeg_ls}[syntax](60000)
    with pytest.raises(InputError, match="it is 60000 x 60000, header says 16 x 16"):
        check_pixel_size(compressed(syntax, [FRAMES[syntax], large]))


@pytest.mark.parametrize("cut", range(0, 40, 3))
def test_a_frame_that_is_cut_off_states_no_size_or_its_own(cut: int) -> None:
    for frame in FRAMES.values():
        assert stated_size(frame[:cut]) in (None, (16, 16))


def test_more_frames_than_bytes_are_refused() -> None:
    (image,) = ct_series(1, 16)
    image.NumberOfFrames = 2**31 - 1
    with pytest.raises(InputError, match=r"has 512 bytes, header says 1099511627264 \(16 x 16, 2147483647 frames\)"):
        check_pixel_size(image)
    image = compressed(JPEGBaseline8Bit, [jpeg(16)])
    image.NumberOfFrames = 2**31 - 1
    with pytest.raises(InputError, match="fewer than 2147483647 frames need"):
        check_pixel_size(image)


def test_a_frame_beyond_the_limit_is_refused_whatever_its_bytes_are() -> None:
    (image,) = ct_series(1, 16)
    PIXEL_BOMBS["60000 x 60000"](image)
    with pytest.raises(InputError, match=r"frames of 6866 MiB \(60000 x 60000\); at most 256 MiB are decoded"):
        check_pixel_size(image)
