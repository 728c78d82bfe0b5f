"""Identity: UIDs, patient and study, equipment and time of every result.

Identity is copied as bytes from the source file and never decoded, so that a name in any character set, or in the
wrong one, leaves the node exactly as the scanner wrote it.
"""

from __future__ import annotations

import hmac
import json
import unicodedata
import uuid
from dataclasses import dataclass, fields
from datetime import datetime, timedelta, timezone, tzinfo
from functools import cache
from io import SEEK_END, BufferedReader, BytesIO
from pathlib import Path

from highdicom import ContributingEquipment
from highdicom._standard_utils import get_module_attribute_map
from pydicom import DataElement, Dataset, dcmread, dcmwrite
from pydicom.datadict import dictionary_VR, keyword_for_tag, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import FileMetaDataset
from pydicom.filewriter import correct_ambiguous_vr
from pydicom.sr.codedict import codes
from pydicom.tag import BaseTag
from pydicom.uid import UID, ExplicitVRLittleEndian

from node import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME, MAKER, SOFTWARE, __version__
from node.results.analysis import Analysis, Source
from node.wording import NOTICE

MANUFACTURER = MAKER
_NAMESPACE = uuid.UUID("7b1f2c9e-52f1-5d0c-9a53-0f4b6c1f7e21")
IDENTITY_MODULES = ("patient", "general-study", "patient-study", "clinical-trial-subject", "clinical-trial-study")
_TYPE_2 = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex",
    "StudyDate", "StudyTime", "ReferringPhysicianName", "StudyID", "AccessionNumber",
)  # fmt: skip


def derive_uid(*parts: object) -> str:
    """Derive a UID from its parts (PS3.5 B.2, name-based UUID), so that a retry makes the same instance."""
    return f"2.25.{uuid.uuid5(_NAMESPACE, json.dumps([str(p) for p in parts])).int}"


def analysis_key(analysis: Analysis, source: Source, identity: Identity | None = None) -> str:
    """Digest (HMAC-SHA-256 with the node's secret) of everything that distinguishes one analysis from another.

    ``identity``: of the source; ``None``: it is read.

    Not the findings and not the time: the same pipeline on the same images makes the same instances, whenever it runs.
    """
    algorithm, first = analysis.algorithm, source.datasets[0]
    parts = [
        [str(first.get("StudyInstanceUID", "")), source.series_instance_uid],
        sorted(str(d.SOPInstanceUID) for d in source.datasets),
        [(int(e.tag), _text(e.value)) for e in (identity or Identity.read(source)).elements],
        sorted(analysis.inputs),
        analysis.pipeline,
        {f.name: getattr(algorithm, f.name) for f in fields(algorithm)},
        __version__,
        [analysis.generation, analysis.version],
        [analysis.outcome, analysis.reason, analysis.caveat, analysis.withheld],
        analysis.title,
    ]
    message = json.dumps(parts, sort_keys=True, default=dict)  # parameters may be any mapping
    return hmac.digest(analysis.salt.encode(), message.encode(), "sha256").hex()


def _text(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)


def plain(text: str, limit: int = 64) -> str:
    """Return text that every character set can carry: ASCII without control characters and backslash."""
    ascii_text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return " ".join(ascii_text.replace("\\", "/").split())[:limit].strip()


def noted(text: str, limit: int = 64) -> str:
    """``plain`` text with the notice behind it, which is never cut."""
    return f"{plain(text, limit - len(NOTICE) - 2).rstrip('.')}. {NOTICE}"


@cache
def identity_tags() -> frozenset[BaseTag]:
    """Attributes that must be the source's: Patient and Study modules, character set and time zone (PS3.3 C.7.1-2).

    References to other objects stay behind: their targets are not known here, and sources often leave them broken.
    """
    modules = get_module_attribute_map()
    keywords = {str(a["keyword"]) for m in IDENTITY_MODULES for a in modules[m] if not a["path"]}
    keywords |= {"SpecificCharacterSet", "TimezoneOffsetFromUTC"}
    keywords |= {"EthnicGroup", "OtherPatientIDs"}  # retired, and sent all the same
    keywords -= {"ReferencedStudySequence", "ReferencedPatientSequence", "ReferencedPatientPhotoSequence"}
    tags = {tag_for_keyword(k) for k in keywords}
    return frozenset(BaseTag(t) for t in tags if t is not None)


@dataclass(frozen=True, kw_only=True, eq=False)
class Identity:
    """The source's patient and study, undecoded."""

    elements: tuple[DataElement | RawDataElement, ...]
    time_zone: tzinfo | None
    """Of Timezone Offset From UTC; ``None`` when the source states none: its times are local."""

    @classmethod
    def read(cls, source: Source) -> Identity:
        """Of the first file of a series."""
        return cls.of(source.paths[0])

    @classmethod
    def of(cls, path: Path) -> Identity:
        """Read the file again, so that its elements are undecoded."""
        header = dcmread(path, stop_before_pixels=True)
        elements = tuple(_undecoded(header, tag) for tag in sorted(identity_tags() & set(header.keys())))
        return cls.from_elements(elements)

    @classmethod
    def from_elements(cls, elements: tuple[DataElement | RawDataElement, ...]) -> Identity:
        """Of elements of the modules that ``identity_tags`` names."""
        return cls(elements=elements, time_zone=_time_zone(elements))

    def stamp(self, dataset: Dataset) -> None:
        """Replace patient and study of ``dataset`` by the source's; what the source lacks is left empty or out."""
        for tag in identity_tags():
            if tag in dataset:
                del dataset[tag]
        for keyword in _TYPE_2:
            setattr(dataset, keyword, None)
        for element in self.elements:
            dataset[element.tag] = element

    def local(self, moment: datetime) -> datetime:
        """``moment`` on the clock that the source's times are read by."""
        return moment.astimezone(self.time_zone)


def _undecoded(header: Dataset, tag: BaseTag) -> DataElement | RawDataElement:
    element = header.get_item(tag)
    if not isinstance(element, RawDataElement):
        return header[tag]
    vr = element.VR or dictionary_VR(tag)
    if vr == "SQ" or (vr == "US" and not element.is_little_endian):
        return header[tag]
    value = element.value or b""
    if len(value) % 2:
        value += b"\0" if vr == "UI" else b" "
    return element._replace(VR=vr, value=value, length=len(value), is_implicit_VR=False, is_little_endian=True)


def _time_zone(elements: tuple[DataElement | RawDataElement, ...]) -> tzinfo | None:
    for element in elements:
        if keyword_for_tag(element.tag) == "TimezoneOffsetFromUTC" and isinstance(element.value, bytes):
            text = element.value.decode("ascii", "replace").strip()
            if len(text) == 5 and text[0] in "+-" and text[1:].isdigit() and text[1:] < "2400":
                offset = timedelta(hours=int(text[1:3]), minutes=int(text[3:]))
                return timezone(-offset if text[0] == "-" else offset)
    return None


def equipment(analysis: Analysis, moment: datetime) -> ContributingEquipment:
    """The algorithm as Contributing Equipment (PS3.3 C.12.1; IHE AI Results asks for its Device UID)."""
    algorithm = analysis.algorithm
    timings = ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in analysis.timings.items())
    item = ContributingEquipment(
        manufacturer=MANUFACTURER,
        purpose_of_reference=codes.DCM.ProcessingEquipment,
        manufacturer_model_name=plain(algorithm.name),
        software_versions=software_versions(analysis),
        device_serial_number=serial_number(analysis),
        contribution_datetime=moment.replace(tzinfo=None),
        contribution_description=plain(f"Analysis: {analysis.title}" + (f"; {timings}" if timings else ""), 1024),
    )
    item.DeviceUID = device_uid(analysis)
    return item


def software_versions(analysis: Analysis) -> list[str]:
    """Version of the algorithm, then of the node."""
    return [plain(analysis.algorithm.version) or "unknown", f"{SOFTWARE} {__version__}"]


def serial_number(analysis: Analysis) -> str:
    """Device Serial Number: changes with the weights."""
    algorithm = analysis.algorithm
    return algorithm.weights_sha256 or plain(f"{algorithm.name} {algorithm.version}".strip())


def device_uid(analysis: Analysis) -> str:
    """Device UID and Device Observer UID: one per algorithm, version and weights, the same on every node.

    It names no instance, so there is nothing in foreseeing it; archives group results of several nodes by it.
    """
    algorithm = analysis.algorithm
    return derive_uid("device", algorithm.name, algorithm.version, algorithm.weights_sha256)


def finish(dataset: Dataset, analysis: Analysis, identity: Identity) -> bytes:
    """Stamp identity, equipment and time on a built object and return it as a Part 10 file."""
    moment = identity.local(analysis.analysed_at)
    date, time = moment.strftime("%Y%m%d"), moment.strftime("%H%M%S.%f")
    content = "PresentationCreation" if "PresentationCreationDate" in dataset else "Content"
    for prefix in ("InstanceCreation", content, "Series"):
        setattr(dataset, f"{prefix}Date", date)
        setattr(dataset, f"{prefix}Time", time)
    dataset.Manufacturer = MANUFACTURER
    dataset.ManufacturerModelName = plain(analysis.algorithm.name)
    dataset.SoftwareVersions = software_versions(analysis)
    dataset.DeviceSerialNumber = serial_number(analysis)
    contributors = list(dataset.get("ContributingEquipmentSequence") or [])
    for item in contributors:
        if item.get("ManufacturerModelName") == "highdicom":
            item.ContributionDateTime = moment.strftime("%Y%m%d%H%M%S.%f")
    dataset.ContributingEquipmentSequence = [*contributors, equipment(analysis, moment)]
    encoded = [e for e in dataset.elements() if isinstance(e, RawDataElement) and e.VR == "SQ"]
    for element in encoded:  # frames of a SEG, in thousands: they are right, and need not be taken apart
        del dataset[element.tag]
    correct_ambiguous_vr(dataset, is_little_endian=True)
    for element in encoded:
        dataset[element.tag] = element
    identity.stamp(dataset)
    # pydicom writes undecoded elements as they are only when it believes the dataset's encoding to be unchanged.
    dataset.set_original_encoding(
        is_implicit_vr=False,
        is_little_endian=True,
        character_encoding=dataset._character_set,  # noqa: SLF001
    )
    meta = getattr(dataset, "file_meta", None)
    syntax = ExplicitVRLittleEndian if meta is None else meta.TransferSyntaxUID
    dataset.file_meta = FileMetaDataset()  # fresh: the source's names its own sender and software
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.file_meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    dataset.file_meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
    pixels = dataset.get("PixelData")
    if isinstance(pixels, bytes):  # written from where they lie: pydicom copies what is not buffered once more
        dataset["PixelData"].value = BytesIO(pixels)
    buffer = BytesIO()
    if isinstance(pixels, BufferedReader):  # room for all at once: growing step by step ends with an eighth too much
        buffer.seek(pixels.seek(0, SEEK_END) * 17 // 16)
        buffer.write(b"\0")
        buffer.seek(pixels.seek(0))
    dcmwrite(buffer, dataset, enforce_file_format=True)
    buffer.truncate()
    return buffer.getvalue()
