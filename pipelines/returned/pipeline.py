"""Gives results that came back the identity of the images that they are about, and reads them as findings."""

from __future__ import annotations

from collections.abc import Mapping

import pydicom
from pydicom import DataElement, Dataset

from node.errors import PipelineError, ReturnedError
from node.pipeline import Algorithm, Findings, Needs, Series
from node.pipeline.outside import Outside
from node.result_parts import is_report, is_segmentation, keep_parts, references_of
from pipelines.container.options import ResultOptions
from pipelines.container.results import Results
from pipelines.options import parameters_of

ADAPTER = "returned 1"
"""Raised when the same options and objects give another result than before."""
_IDENTITY = ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "IssuerOfPatientID")
_MOST_FILES = 1000


class ReturnedPipeline:
    """Results of somebody else, with the description that the configuration gives them."""

    def __init__(self, *, source: str, outside: Outside, options: ResultOptions) -> None:
        """``source``: name of the destination from which they come back."""
        self._source, self._outside, self.options = source, outside, options

    @property
    def algorithm(self) -> Algorithm:
        """Identity as configured; nobody here has the weights."""
        settings = parameters_of(self.options.model_dump(exclude={"run"}))
        return Algorithm(
            name=self.options.name,
            version=self.options.version,
            parameters=settings | {"adapter": ADAPTER, "returned from": self._source},
        )

    @property
    def needs(self) -> Needs:
        """The configured modality on a regular grid."""
        return Needs(modalities=frozenset({self.options.modality}), min_slices=2)

    def run(self, series: Series) -> Findings:
        """Raises ``ReturnedError`` for results that are about anything but the images that were sent."""
        header = pydicom.dcmread(self._outside.files[""][0], stop_before_pixels=True)
        if (number := len(self._outside.returned)) > _MOST_FILES:
            raise ReturnedError(f"{number} objects came back from {self._source}; at most {_MOST_FILES} are read")
        try:
            self._lay(header)
        except ReturnedError:
            raise
        except Exception as error:  # the reader meets whatever a stranger wrote
            raise ReturnedError(f"an object that came back cannot be read: {type(error).__name__}: {error}") from error
        results = Results(folder=self._outside.outputs, options=self.options, images=series.volume(), source=header)
        try:
            return results.findings()
        except PipelineError as error:  # it is the service that has made it so, and it would be the same again
            raise ReturnedError(str(error)) from error

    def _lay(self, header: Dataset) -> None:
        """Lay of each SEG and SR what is about the series, with the identity of ``header``, where results are read."""
        returned = [pydicom.dcmread(path) for path in self._outside.returned]
        objects = {str(dataset.get("SOPInstanceUID", "")) for dataset in returned}
        wanted = [dataset for dataset in returned if is_segmentation(dataset) or is_report(dataset)]
        if not wanted:
            came = f"none of the {len(returned)} objects that came back from {self._source} is a SEG or an SR"
            raise ReturnedError(came if returned else f"nothing came back from {self._source} for this series")
        ours = [dataset for dataset in wanted if self._keep_ours(dataset, str(header.SeriesInstanceUID))]
        if not ours:
            raise ReturnedError(f"nothing that came back from {self._source} is about this series")
        for number, dataset in enumerate(ours):
            named = set(references_of(dataset).series)
            others = {image for image, series in self._outside.others.items() if series in named}
            identify(dataset, self._outside.uids, header, objects | others)
            dataset.save_as(self._outside.outputs / f"{number}.dcm", enforce_file_format=True)

    def _keep_ours(self, returned: Dataset, series: str) -> bool:
        """Remove the parts that are about other series of the study; whether any is left."""
        of, sent = references_of(returned), self._outside.sent

        def is_ours(part: tuple[str, ...]) -> bool:
            return self._outside.uids.get(of.series_of(part, sent)) == series

        if is_report(returned):
            keep_parts(returned, is_ours)
        return any(map(is_ours, of.parts))


def identify(returned: Dataset, uids: Mapping[str, str], header: Dataset, known: set[str]) -> None:
    """Replace pseudonyms by the UIDs of the images, and take away who the pseudonymous patient is.

    ``uids``: those of study, series and images by their pseudonyms; ``header``: of an image; ``known``: UIDs of other
    objects that it may name: what came back, and images of other series that it is about, too. The frame of reference
    becomes that of the images: every image that is named must be one of them, or known.

    Raises ``ReturnedError`` for an object of another study, or one that names images which were not sent.
    """
    study = str(returned.get("StudyInstanceUID", ""))
    if uids.get(study) != str(header.StudyInstanceUID):
        raise ReturnedError("a result that came back is of another study than the images that were sent")
    foreign = 0
    own = set(uids.values())

    def replace(_dataset: Dataset, element: DataElement) -> None:
        nonlocal foreign
        if element.VR != "UI" or element.is_empty:
            return
        values = list(element.value) if element.VM > 1 else [element.value]
        element.value = [uids.get(str(value), str(value)) for value in values]
        if element.keyword == "ReferencedSOPInstanceUID":
            foreign += sum(value not in own and value not in known for value in map(str, _values(element)))

    returned.walk(replace)
    if foreign:
        raise ReturnedError(f"a result that came back names {foreign} images that were not sent, or of another series")
    for keyword in _IDENTITY:
        if keyword in returned:
            del returned[keyword]
    if "FrameOfReferenceUID" in returned:
        returned.FrameOfReferenceUID = header.get("FrameOfReferenceUID")


def _values(element: DataElement) -> list[str]:
    return list(element.value) if element.VM > 1 else [element.value]
