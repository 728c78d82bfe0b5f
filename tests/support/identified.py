"""Series full of identifying values, in every place where an object can have one, and the search for them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from io import BytesIO

from pydicom import Dataset, dcmread
from pydicom.dataset import FileDataset
from pydicom.sequence import Sequence

STRINGS = (
    "Kowalska", "Jadwiga", "Brzozowska", "KOWALSKA-77123", "77123001", "LEG-4711-X", "ACC20260102-9", "Mullerin",
    "Hausarzt", "Zentralklinik", "Musterstadt", "Radiologie West", "CTROOM7B", "SN-998877", "19530717", "20260102",
    "+49 170 5551234", "RIS-REQ-55", "Schreiber", "PRIVATE-KOWALSKA", "SENDERAE7",
)  # fmt: skip
"""Values, or parts of them, that ``identify`` puts into images."""
SCRIPTS = ("Ковальская", "Мюллерин")
"""Names in another script, of which each letter takes one byte in ISO_IR 144."""


def identify(images: Iterable[FileDataset]) -> list[FileDataset]:
    """Fill images with ``STRINGS`` and ``SCRIPTS``."""
    return [_identified(image) for image in images]


def _identified(image: FileDataset) -> FileDataset:
    image.SpecificCharacterSet = "ISO_IR 144"
    image.PatientName = "Kowalska^Jadwiga=Ковальская^Ядвига"
    image.PatientID, image.IssuerOfPatientID = "KOWALSKA-77123", "Zentralklinik Musterstadt"
    image.OtherPatientIDsSequence = Sequence([_item(PatientID="77123001", TypeOfPatientID="TEXT")])
    image.PatientBirthDate, image.PatientAge, image.PatientSex = "19530717", "072Y", "F"
    image.PatientMotherBirthName, image.PatientTelephoneNumbers = "Brzozowska", "+49 170 5551234"
    image.PatientComments = "Mrs Kowalska lives in Musterstadt"
    image.AccessionNumber, image.StudyID = "ACC20260102-9", "77123001"
    image.ReferringPhysicianName, image.OperatorsName = "Мюллерин^Hausarzt", ["Schreiber^Otto", "Mullerin^Eva"]
    image.InstitutionName, image.InstitutionAddress = "Zentralklinik", "Musterstadt"
    image.InstitutionalDepartmentName, image.StationName = "Radiologie West", "CTROOM7B"
    image.DeviceSerialNumber = "SN-998877"
    image.StudyDescription = "CT Thorax Kowalska"
    image.SeriesDescription = "Thorax 2.5 lung, Dr. Schreiber 02.01.2026"
    image.ProtocolName = "Lung LEG-4711-X"
    image.FilterMaterial = "COPPER"
    image.ConvolutionKernel = "LUNG"
    image.FilterType = "BODY"
    image.ReconstructionAlgorithm = "FBP"
    image.DetectorConfiguration = "AREA"
    image.ReceiveCoilName = "Kowalska coil"  # no attribute of the table
    image.RequestAttributesSequence = Sequence(
        [_item(RequestedProcedureID="RIS-REQ-55", ScheduledProcedureStepDescription="for Kowalska")]
    )
    reference = _item(ReferencedSOPClassUID=image.SOPClassUID, ReferencedSOPInstanceUID=image.SOPInstanceUID)
    reference.PatientName = "Kowalska^Jadwiga"
    nested = _item(ReferringPhysicianIdentificationSequence=Sequence([_item(InstitutionName="Zentralklinik")]))
    image.ReferencedImageSequence = Sequence([reference])
    image.PerformedProtocolCodeSequence = Sequence([nested])
    block = image.private_block(0x0029, "PRIVATE-KOWALSKA", create=True)
    block.add_new(0x01, "LO", "Kowalska^Jadwiga")
    block.add_new(0x02, "UN", b"77123001 LEG-4711-X ")
    image.file_meta.SourceApplicationEntityTitle = "SENDERAE7"
    image.file_meta.PrivateInformationCreatorUID = "1.2.826.0.1.77123001.1"
    image.file_meta.PrivateInformation = b"KOWALSKA-77123"
    image.preamble = b"KOWALSKA-77123".ljust(128, b" ")
    return image


def _item(**values: object) -> Dataset:
    item = Dataset()
    for keyword, value in values.items():
        setattr(item, keyword, value)
    return item


def remains(data: bytes) -> list[str]:
    """Identifying values of ``identify`` in some bytes, in any letters and character set."""
    small = data.lower()
    patterns = {text: {text.lower().encode(), text.lower().encode("utf-16-le")} for text in STRINGS}
    patterns |= {
        text: {form.encode(name) for form in (text, text.lower(), text.upper()) for name in ("utf-8", "iso8859-5")}
        for text in SCRIPTS
    }
    return [text for text, forms in patterns.items() if any(form in small or form in data for form in forms)]


def uids(datasets: Iterable[FileDataset]) -> set[str]:
    """UIDs of studies, series, instances and frames of reference."""
    keywords = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID")
    return {str(dataset[keyword].value) for dataset in datasets for keyword in keywords if keyword in dataset}


def references(dataset: Dataset) -> Iterator[tuple[str, str]]:
    """Keyword and value of every UID in an object that names an instance, a series or a frame of reference."""
    wanted = ("ReferencedSOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID")
    for element in dataset.iterall():
        if element.keyword in wanted and element.value:
            yield element.keyword, str(element.value)


def reread(dataset: FileDataset) -> FileDataset:
    """An object as another program would read it."""
    out = BytesIO()
    dataset.save_as(out, enforce_file_format=True)
    return dcmread(BytesIO(out.getvalue()))
