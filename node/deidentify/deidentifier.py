"""Application of the profile to one object: every attribute, in every item, and File Meta Information."""

from __future__ import annotations

import re
from collections.abc import Collection

from pydicom import DataElement, Dataset
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence
from pydicom.uid import UID

from node.deidentify.descriptions import cleaned
from node.deidentify.profile import BASIC, CONTENT, METHODS, UIDS_OF_KINDS, action, vr_of
from node.deidentify.pseudonyms import Pseudonyms, shifted
from node.errors import InputError

REMOVED = "Removed"
_DUMMIES: dict[str, object] = {
    "AE": "REMOVED", "AS": "000Y", "AT": 0, "CS": "REMOVED", "DA": "19000101", "DS": "0", "DT": "19000101000000",
    "FD": 0.0, "FL": 0.0, "IS": "0", "LO": REMOVED, "LT": REMOVED, "PN": REMOVED, "SH": REMOVED, "SL": 0, "SS": 0,
    "ST": REMOVED, "SV": 0, "TM": "000000", "UC": REMOVED, "UL": 0, "UR": "urn:removed", "US": 0, "UT": REMOVED,
    "UV": 0,
}  # fmt: skip
"""Values of action D by VR; others are bytes."""
_TEXT = {"LO", "LT", "SH", "ST", "UC", "UT"}
_PERSONS_AND_TIMES = {"PN", "DA", "DT", "TM"}
"""VRs of attributes that are removed although the table does not have them."""
_TEXT_VALUE, _CONTENT_SEQUENCE = 0x0040A160, 0x0040A730
_PATIENT_AGE = 0x00101010
_WORDS = re.compile(r"[^\W\d_]+")
_LONG_NAME = 4
"""Letters; shorter words of names are words of languages too often."""
_OLDEST = 90
"""Years: older patients are few enough to be recognised by their age."""


class Deidentifier:
    """De-identifies the objects of one patient and study for one destination."""

    def __init__(
        self, pseudonyms: Pseudonyms, options: Collection[str], names: Collection[str], texts: Collection[str]
    ) -> None:
        """``names``: words, in small letters, that no text may have; ``texts``: the same for whole values."""
        self._pseudonyms = pseudonyms
        self._options = options
        self._names = frozenset(name for name in names if len(name) > 1)
        self._texts = [text.casefold() for text in texts]
        self._long_names = frozenset(name for name in self._names if len(name) >= _LONG_NAME)
        self._days = 0
        self._sop_class = ""
        self._has_content = False

    def apply(self, dataset: FileDataset) -> None:
        """Change ``dataset`` and its File Meta Information. Raises ``InputError`` when it has no UIDs."""
        patient_id = str(dataset.get("PatientID") or "")
        study = str(dataset.get("StudyInstanceUID") or "")
        self._sop_class = str(dataset.get("SOPClassUID") or "")
        if not study or not self._sop_class or not dataset.get("SOPInstanceUID"):
            raise InputError("the object lacks SOPClassUID, SOPInstanceUID or StudyInstanceUID")
        self._days = self._pseudonyms.days(patient_id, study)
        prior = [
            code
            for code in dataset.get("DeidentificationMethodCodeSequence") or ()
            if str(code.get("CodingSchemeDesignator")) == "DCM" and str(code.get("CodeValue", "")).startswith("1131")
        ]
        codes = {str(code.CodeValue): (str(code.CodeValue), str(code.get("CodeMeaning", ""))) for code in prior}
        self._items(dataset, is_nested=False, is_dummy=False)
        dataset.PatientID = dataset.PatientName = self._pseudonyms.patient(patient_id, study)
        self._declare(dataset, codes)
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = UID(self._sop_class)
        meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        meta.TransferSyntaxUID = dataset.file_meta.TransferSyntaxUID
        dataset.file_meta = meta
        dataset.preamble = b"\0" * 128

    def _declare(self, dataset: Dataset, codes: dict[str, tuple[str, str]]) -> None:
        """State what was done (PS3.15 E.1.1, PS3.3 C.7.1.1 and C.12.1)."""
        applied = [BASIC, *(METHODS[name] for name in METHODS if name in self._options)]
        applied += [CONTENT] if self._has_content else []
        codes |= {value: (value, meaning) for value, meaning in applied}
        dataset.PatientIdentityRemoved = "YES"
        dataset.DeidentificationMethod = [meaning[:64] for _, meaning in applied]
        dataset.DeidentificationMethodCodeSequence = Sequence(_code(*code) for code in codes.values())
        modified = "modified dates" in self._options
        dataset.LongitudinalTemporalInformationModified = "MODIFIED" if modified else "REMOVED"
        if "clean pixel data" in self._options and "PixelData" in dataset:
            dataset.BurnedInAnnotation = "NO"

    def _items(self, dataset: Dataset, *, is_nested: bool, is_dummy: bool) -> None:
        """Apply the table to one data set; ``is_dummy``: to the item of a sequence whose text is to be replaced."""
        for tag in list(dataset.keys()):
            group = tag.group
            known = vr_of(tag)
            if group % 2 or group < 0x0008 or tag.element == 0 or group >> 8 in (0x50, 0x60) or not known:
                del dataset[tag]
                continue
            element = dataset[tag]
            what = action(tag, self._options, self._sop_class, is_nested=is_nested)
            if element.VR == "UN":
                del dataset[tag]  # the value of a known attribute that cannot be read
            elif what == "X":
                del dataset[tag]
            elif what == "Z":
                element.value = Sequence() if element.VR == "SQ" else None
            elif what == "D":
                self._dummy(element)
            elif what == "C":
                self._clean(dataset, element, is_nested=is_nested)
            elif what in ("K", "U"):
                self._keep(element, is_dummy=is_dummy)
            else:
                self._unlisted(dataset, element, is_dummy=is_dummy)

    def _dummy(self, element: DataElement) -> None:
        if element.VR == "SQ":
            for item in element.value:
                self._items(item, is_nested=True, is_dummy=True)
        elif element.VR == "UI":
            self._keep(element, is_dummy=True)
        else:
            element.value = _DUMMIES.get(element.VR, b"\0\0")

    def _clean(self, dataset: Dataset, element: DataElement, *, is_nested: bool) -> None:
        """Action C; what cannot be cleaned gets the action of the Basic Profile."""
        if element.tag == _CONTENT_SEQUENCE:
            self._has_content = True
        if element.VR == "SQ":
            for item in element.value:
                self._items(item, is_nested=True, is_dummy=False)
            return
        if element.is_empty or element.VR == "TM":
            return
        values = self._cleaned(element)
        basic = action(element.tag, (), self._sop_class, is_nested=is_nested)
        if values:
            element.value = values if len(values) > 1 else values[0]
        elif basic in ("D", "C"):
            self._dummy(element)
        elif basic == "Z":
            element.value = None
        else:
            del dataset[element.tag]

    def _cleaned(self, element: DataElement) -> list[str]:
        """Return the values without what identifies; none when nothing is left or they cannot be cleaned."""
        if element.VR in ("DA", "DT"):
            dates = [shifted(str(value), self._days) for value in _values(element)]
            return [day for day in dates if day is not None] if None not in dates else []
        if element.VR in _TEXT | {"CS", "AE"}:
            texts = [cleaned(str(value), self._names) for value in _values(element)]
            return texts if any(texts) else []
        return []

    def _keep(self, element: DataElement, *, is_dummy: bool) -> None:
        """Keep an attribute with the UIDs and the items in it replaced."""
        if element.VR == "SQ":
            for item in element.value:
                self._items(item, is_nested=True, is_dummy=is_dummy)
        elif element.VR == "UI" and element.keyword not in UIDS_OF_KINDS:
            uids = [self._pseudonyms.uid(str(value)) for value in _values(element)]
            element.value = uids if len(uids) > 1 else "".join(uids)
        elif element.tag == _PATIENT_AGE:
            age = str(element.value or "")
            if age.endswith("Y") and age[:-1].isdecimal() and int(age[:-1]) > _OLDEST:
                element.value = f"{_OLDEST:03}Y"

    def _unlisted(self, dataset: Dataset, element: DataElement, *, is_dummy: bool) -> None:
        """Treat an attribute that the table leaves as it is."""
        if element.VR in _PERSONS_AND_TIMES:
            del dataset[element.tag]
        elif element.VR in _TEXT and (is_dummy or element.tag == _TEXT_VALUE):
            self._text(element, is_dummy=is_dummy)
        elif element.VR in _TEXT and self._identifies(element):
            element.value = REMOVED
        else:
            self._keep(element, is_dummy=is_dummy)

    def _identifies(self, element: DataElement) -> bool:
        """Whether a text, which the table leaves as it is, has something that identifies the patient."""
        text = " ".join(" ".join(str(value) for value in _values(element)).split()).casefold()
        return any(value in text for value in self._texts) or not self._long_names.isdisjoint(_WORDS.findall(text))

    def _text(self, element: DataElement, *, is_dummy: bool) -> None:
        """Replace or clean the text of a content item; that of this node's own reports has no text of others."""
        text = str(element.value or "")
        if is_dummy or "clean descriptors" not in self._options:
            element.value = REMOVED
        elif text:
            element.value = cleaned(text, self._names) or REMOVED


def _values(element: DataElement) -> list[object]:
    value = element.value
    if value is None or value == "":
        return []
    return list(value) if isinstance(value, (MultiValue, list)) else [value]


def _code(value: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "DCM", meaning[:64]
    return item
