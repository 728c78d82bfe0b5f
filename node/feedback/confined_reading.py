"""Entry of the confined process that reads readers' objects; what decodes is imported there only."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from node.errors import InputError
from node.feedback.object_reading import AnalysisFiles, ObjectReading
from node.studies.pydicom_errors import UNREADABLE


def read_segmentation(path: Path, analyses: Sequence[AnalysisFiles]) -> ObjectReading:
    """Read a received Segmentation; ``analyses``: of its study, the latest first.

    Raises ``InputError`` when it cannot be read, or lies on a grid of its own.
    """
    from node.feedback.segment_masks import read_object
    from node.feedback.segmentation_reader import answers

    try:
        return answers(read_object(path), analyses)
    except UNREADABLE as error:
        raise InputError(f"{path.name}: cannot be understood ({type(error).__name__}: {error})") from error
