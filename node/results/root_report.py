"""Root report: the report references every other object of its analysis (IHE AI Results, Evidence Creator).

TID 1500 is extensible: they stand in a container of their own, Supplementary Data, below the title.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO

from highdicom.sr import CompositeContentItem, ContainerContentItem, ContentItem, ContentSequence, ImageContentItem
from pydicom import Dataset, dcmread
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from node.results.analysis import EncodedObject, Kind
from node.results.headers import reference

EncodedReference = tuple[Kind, Dataset]
"""An object of the analysis; of the data set at least its UIDs, those of study and series, and what names it."""
_NAMES: Mapping[str, Code] = {
    "seg": codes.DCM.Segmentation,
    "labelmap": codes.DCM.Segmentation,
    "image seg": codes.DCM.Segmentation,
    "key images": codes.DCM.IllustrationOfFinding,
    "pdf": codes.DCM.Document,
    "presentation state": codes.DCM.PresentationState,
    "key object selection": codes.DCM.KeyObjectSelection,
    "rtstruct": codes.DCM.RTStructureSet,
}
_WITHOUT_PIXELS = frozenset({"pdf", "presentation state", "key object selection", "rtstruct"})


def describe_object(encoded: EncodedObject) -> EncodedReference:
    """Return what the report needs to reference an encoded object."""
    tags = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "DerivationCodeSequence")
    return encoded.kind, dcmread(BytesIO(encoded.data), stop_before_pixels=True, specific_tags=list(tags))


def supplementary_data(others: Sequence[EncodedReference]) -> ContainerContentItem:
    """The container with a reference to each of ``others``."""
    container = ContainerContentItem(name=codes.DCM.SupplementaryData, relationship_type="CONTAINS")
    container.ContentSequence = ContentSequence([_item(kind, dataset) for kind, dataset in others])
    return container


def _item(kind: Kind, dataset: Dataset) -> ContentItem:
    item = CompositeContentItem if kind in _WITHOUT_PIXELS else ImageContentItem
    return item(_name(kind, dataset), *reference(dataset), relationship_type="CONTAINS")


def _name(kind: Kind, dataset: Dataset) -> Code:
    """What it is; images that were derived and maps name their derivation and their quantity."""
    if kind in _NAMES:
        return _NAMES[kind]
    if kind.startswith("derived"):
        code = dataset.DerivationCodeSequence[0]
    else:
        mapping = dataset.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence[0]
        code = mapping.QuantityDefinitionSequence[0].ConceptCodeSequence[0]
    return Code(str(code.CodeValue), str(code.CodingSchemeDesignator), str(code.CodeMeaning))
