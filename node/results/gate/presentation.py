"""Presentation states: outlines lie within the images they are drawn on."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from pydicom import Dataset

from node.results.analysis import Source
from node.results.headers import by_instance


def graphic_faults(state: Dataset, source: Source) -> Iterator[str]:
    """Check that outlines lie within the images they are drawn on."""
    images = by_instance(source.datasets)
    for annotation in state.GraphicAnnotationSequence:
        image = images[str(annotation.ReferencedImageSequence[0].ReferencedSOPInstanceUID)]
        limits = [float(image.Columns), float(image.Rows)]
        for graphic in annotation.GraphicObjectSequence:
            points = np.reshape(np.asarray(graphic.GraphicData, float), (-1, 2))
            if (points < 0).any() or (points > limits).any():
                yield "an outline leaves its image"
