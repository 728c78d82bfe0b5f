"""Files that other tests are built on hold the values that those tests gave."""

from __future__ import annotations

import numpy as np
import pytest
from dicom_files import put_pixels
from pydicom import Dataset


@pytest.mark.parametrize(("lowest", "highest", "signed"), [(0, 65535, False), (-32768, 32767, True)])
def test_pixels_that_do_not_fit_their_bits_are_refused(lowest: int, highest: int, *, signed: bool):
    fits = np.array([[lowest, highest]])
    dataset = Dataset()
    put_pixels(dataset, fits, signed=signed)
    assert np.frombuffer(dataset.PixelData, "<i2" if signed else "<u2").tolist() == [lowest, highest]
    for beyond in ([[lowest - 1, 0]], [[0, highest + 1]]):
        with pytest.raises(ValueError, match="do not fit in"):
            put_pixels(dataset, np.array(beyond), signed=signed)
