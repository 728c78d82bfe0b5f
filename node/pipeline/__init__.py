"""The plug-in contract: everything that a pipeline author needs.

A pipeline is made by a factory ``(*, weights, device, options) -> Pipeline`` and has ``algorithm``, ``needs`` and
``run(series) -> Findings``. It never sees a socket, a queue, a UID or a file to write.

Arrays are always indexed ``[slice, row, column]``. ``Volume`` is highdicom's: ``array`` and ``affine``, a 4 x 4
matrix from ``(slice, row, column, 1)`` to LPS millimetres (x to the patient's Left, y to Posterior, z to the Head;
PS3.3 C.7.6.2.1.1).
A pipeline may reorient, crop and resample freely: the node puts masks back on the grid of the source images.
"""

from highdicom import Volume
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from node.pipeline.algorithm import Algorithm, Factory, Needs, Pipeline, content_digest
from node.pipeline.assertion import Assertion, Presence
from node.pipeline.embedding import EmbeddingSpace
from node.pipeline.findings import DerivedSeries, Findings, Lesion, Map, Segment
from node.pipeline.measurement import Measurement, MeasurementGroup
from node.pipeline.picture import Picture
from node.pipeline.region import Region
from node.pipeline.series import VOLUME_KEYS, Prior, PriorFinding, Result, Series, SeriesVolume, Unsuitable
from node.pipeline.series_image import PixelSpacing, SeriesImage
from node.pipeline.shape import Shape
from node.translation import Sentence, joined, marked, sentence

__all__ = [
    "VOLUME_KEYS",
    "Algorithm",
    "Assertion",
    "Code",
    "DerivedSeries",
    "EmbeddingSpace",
    "Factory",
    "Findings",
    "Lesion",
    "Map",
    "Measurement",
    "MeasurementGroup",
    "Needs",
    "Picture",
    "Pipeline",
    "PixelSpacing",
    "Presence",
    "Prior",
    "PriorFinding",
    "Region",
    "Result",
    "Segment",
    "Sentence",
    "Series",
    "SeriesImage",
    "SeriesVolume",
    "Shape",
    "Unsuitable",
    "Volume",
    "codes",
    "content_digest",
    "joined",
    "marked",
    "sentence",
]
