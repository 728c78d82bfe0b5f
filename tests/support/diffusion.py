"""A diffusion series: several b-values of one body, whose apparent diffusion coefficient is known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from dicom_files import mr_series
from pydicom import FileDataset

ADC = 1.0e-3
"""mm2/s, inside of the body."""
SIGNAL = 2000.0
"""Without diffusion weighting; outside of the body there is none."""


def diffusion_series(b_values: Sequence[int] = (0, 500, 1000), n: int = 5, size: int = 32) -> list[FileDataset]:
    """Return all images of all b-values, in the order of their Instance Numbers: those of one slice together."""
    body = np.zeros((n, size, size))
    body[1:, size // 4 : -size // 4, size // 4 : -size // 4] = SIGNAL
    first = mr_series(n, size, volume=np.rint(body).astype(np.int32))[0]
    images = []
    for b_value in b_values:
        volume = np.rint(body * np.exp(-b_value * ADC)).astype(np.int32)
        for image in mr_series(n, size, volume=volume, study=first.StudyInstanceUID, series=first.SeriesInstanceUID):
            image.FrameOfReferenceUID = first.FrameOfReferenceUID
            image.ScanningSequence, image.SequenceVariant, image.SeriesDescription = ["EP", "SE"], "NONE", "DWI"
            image.RepetitionTime, image.EchoTime, image.DiffusionBValue = 5000.0, 80.0, float(b_value)
            del image.InversionTime
            images.append(image)
    images.sort(key=lambda image: (image.InstanceNumber, image.DiffusionBValue))
    for number, image in enumerate(images, 1):
        image.InstanceNumber = number
    return images
