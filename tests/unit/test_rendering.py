"""Pictures of images: what is bright, where it is, and how large it is."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_files import ct_series, put_pixels, secondary_capture, text_report
from PIL import Image
from pydicom import Dataset
from pydicom.sequence import Sequence

from node.dicomweb.rendering import Rendering, Viewport, Window, picture_of
from node.errors import InputError, NotFoundError

PNG = "image/png"


def drawn(tmp_path: Path, dataset: Dataset, frame: int = 1, **settings: Any) -> np.ndarray:
    path = tmp_path / "image.dcm"
    dataset.save_as(path, enforce_file_format=True)
    image = Image.open(BytesIO(picture_of(path, frame, Rendering(media_type=PNG, **settings))))
    assert not image.info.get("exif")
    return np.asarray(image)


@pytest.fixture
def ramp() -> Dataset:
    """A CT of 4 rows and 8 columns, from -300 HU at the left to 400 HU at the right."""
    (image,) = ct_series(n=1, size=8)
    values = np.tile(np.arange(-300, 500, 100, dtype=np.int16), (4, 1))
    image.RescaleSlope, image.RescaleIntercept = 1, -1024
    put_pixels(image, values + 1024, signed=True)
    image.Rows, image.Columns = values.shape
    image.PixelSpacing = [1, 1]
    for keyword in ("WindowCenter", "WindowWidth", "PixelPaddingValue"):
        if keyword in image:
            del image[keyword]
    return image


def test_a_window_of_the_query_comes_before_the_one_of_the_image(tmp_path: Path, ramp: Dataset) -> None:
    assert list(drawn(tmp_path, ramp)[0][[0, 7]]) == [0, 255]  # soft tissue
    ramp.Modality = "PT"
    assert list(drawn(tmp_path, ramp)[0]) == [0, 36, 73, 109, 146, 182, 219, 255]  # all of its values
    ramp.WindowCenter, ramp.WindowWidth = [50.0, 0.0], [100.0, 1000.0]
    assert list(drawn(tmp_path, ramp)[0]) == [0, 0, 0, 0, 255, 255, 255, 255]
    window = Window(centre=0.0, width=400.0, function="LINEAR_EXACT")
    assert list(drawn(tmp_path, ramp, window=window)[0]) == [0, 0, 64, 128, 191, 255, 255, 255]


def test_the_usual_window_of_an_mr_is_that_of_its_values_however_small_they_are(tmp_path: Path, ramp: Dataset) -> None:
    ramp.Modality, ramp.RescaleIntercept = "MR", 0
    shades = drawn(tmp_path, ramp)
    assert list(shades[0][[0, 7]]) == [0, 255]
    ramp.RescaleSlope = 0.00000123456789
    np.testing.assert_array_equal(drawn(tmp_path, ramp), shades)


def test_monochrome_1_is_bright_where_its_values_are_small(tmp_path: Path, ramp: Dataset) -> None:
    ramp.PhotometricInterpretation = "MONOCHROME1"
    assert list(drawn(tmp_path, ramp)[0][[0, 7]]) == [255, 0]


def test_a_viewport_shows_a_region_scaled_to_fit_and_flipped(tmp_path: Path, ramp: Dataset) -> None:
    assert drawn(tmp_path, ramp, viewport=Viewport(width=32, height=32)).shape == (16, 32)
    view = {"width": 4, "height": 4, "left": 4.0, "top": 0.0}
    right = drawn(tmp_path, ramp, viewport=Viewport(**view, columns=4.0, rows=4.0))
    assert list(right[0]) == list(drawn(tmp_path, ramp)[0][4:])
    flipped = drawn(tmp_path, ramp, viewport=Viewport(**view, columns=-4.0, rows=4.0))
    assert list(flipped[0]) == list(right[0][::-1])
    with pytest.raises(InputError, match="no pixel of the image, which is 8 x 4"):
        drawn(tmp_path, ramp, viewport=Viewport(width=4, height=4, left=8.0))


def test_pixels_that_are_no_squares_become_squares(tmp_path: Path, ramp: Dataset) -> None:
    ramp.PixelSpacing = [2.0, 1.0]
    assert drawn(tmp_path, ramp).shape == (8, 8)
    ramp.PixelSpacing = [1.0, 2.0]
    assert drawn(tmp_path, ramp).shape == (4, 16)
    ramp.PixelSpacing = [0.0, 1.0]
    assert drawn(tmp_path, ramp).shape == (4, 8)


def test_colours_stay_and_a_jpeg_has_the_quality_that_is_asked_for(tmp_path: Path) -> None:
    image = secondary_capture(size=32)
    assert drawn(tmp_path, image).shape[:2] == (32, 32)
    noise = np.random.default_rng(7).integers(0, 255, (32, 32, 3), np.uint8)
    image.SamplesPerPixel, image.PhotometricInterpretation, image.PlanarConfiguration = 3, "RGB", 0
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 8, 8, 7, 0
    image.PixelData = noise.tobytes()
    assert (drawn(tmp_path, image) == noise).all()
    path = tmp_path / "image.dcm"
    sizes = [len(picture_of(path, 1, Rendering(media_type="image/jpeg", quality=q))) for q in (10, 90)]
    assert sizes[0] < sizes[1]
    assert picture_of(path, 1, Rendering(media_type="image/gif"))[:4] == b"GIF8"


def test_each_frame_has_its_own_window(tmp_path: Path, ramp: Dataset) -> None:
    values = np.stack([ramp.pixel_array, ramp.pixel_array])
    ramp.PixelData, ramp.NumberOfFrames = values.tobytes(), 2
    groups = []
    for centre in (0.0, 200.0):
        group, voi = Dataset(), Dataset()
        voi.WindowCenter, voi.WindowWidth, voi.VOILUTFunction = centre, 200.0, "LINEAR_EXACT"
        group.FrameVOILUTSequence = Sequence([voi])
        groups.append(group)
    ramp.PerFrameFunctionalGroupsSequence = Sequence(groups)
    assert list(drawn(tmp_path, ramp, 1)[0][2:5]) == [0, 128, 255]
    assert list(drawn(tmp_path, ramp, 2)[0][4:7]) == [0, 128, 255]
    with pytest.raises(NotFoundError, match="2 frames"):
        drawn(tmp_path, ramp, 3)
    ramp.PerFrameFunctionalGroupsSequence = Sequence(groups[:1])  # fewer than frames: what is there is shown
    assert drawn(tmp_path, ramp, 2).shape == (4, 8)


def test_a_mask_that_is_full_is_white(tmp_path: Path, ramp: Dataset) -> None:
    ramp.BitsAllocated, ramp.BitsStored, ramp.HighBit, ramp.PixelRepresentation = 1, 1, 0, 0
    ramp.RescaleIntercept = 0
    ramp.PixelData = b"\xff" * 4
    assert (drawn(tmp_path, ramp) == 255).all()


def test_a_picture_that_is_too_large_to_wait_for_its_client_is_refused(
    tmp_path: Path, ramp: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.dicomweb.rendering.LARGEST_MIB", 0)
    with pytest.raises(InputError, match="ask for a smaller viewport"):
        drawn(tmp_path, ramp)


def test_what_is_no_image_or_is_damaged_is_refused(tmp_path: Path, ramp: Dataset) -> None:
    with pytest.raises(InputError, match="no image"):
        drawn(tmp_path, text_report())
    ramp.BitsStored = None
    with pytest.raises(InputError):
        drawn(tmp_path, ramp)
    ramp.BitsStored = 16
    ramp.PixelData = ramp.PixelData[:9]
    with pytest.raises(InputError):
        drawn(tmp_path, ramp)
    del ramp.PixelData
    with pytest.raises(InputError):
        drawn(tmp_path, ramp)
