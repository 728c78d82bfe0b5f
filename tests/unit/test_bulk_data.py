"""Pictures, surfaces and waveforms in items of an image, which no check has looked at, leave to nobody."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from dicom_files import bare_object, ct_series, text_report, write
from pydicom import DataElement, Dataset, dcmread
from pydicom.dataelem import RawDataElement
from pydicom.dataset import FileDataset
from pydicom.encaps import encapsulate
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.sequence import Sequence
from pydicom.tag import Tag
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian, RTStructureSetStorage

from node.deidentify.calls import deidentify_file
from node.deidentify.profile_of_destination import Profile
from node.errors import GateError

FACE = b"a face that nobody has looked at"
LINE = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
PROFILE = Profile(key=b"k" * 32, destination="research", options=())


def sent(image: FileDataset, folder: Path) -> tuple[bytes, FileDataset]:
    """Bytes of what a destination gets, and what is read in them."""
    (path,) = write([image], folder / "source")
    assert FACE in path.read_bytes()
    deidentify_file(path, PROFILE, folder / "out.dcm", is_result=False)
    return (folder / "out.dcm").read_bytes(), dcmread(folder / "out.dcm")


def picture(keyword: str = "PixelData", value: bytes = FACE) -> Dataset:
    """An item that refers to an image, and holds it."""
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = CTImageStorage, "1.2.3.4"
    item.Rows, item.Columns, item.BitsAllocated = 4, 8, 8
    item.add_new(keyword, "OB" if keyword == "PixelData" else "OF" if keyword == "FloatPixelData" else "OD", value)
    return item


def around(item: Dataset, *keywords: str) -> Dataset:
    for keyword in keywords:
        outer = Dataset()
        outer.add_new(keyword, "SQ", [item])
        item = outer
    return item


def in_sequence(keyword: str, held: str = "PixelData") -> Callable[[FileDataset], None]:
    return lambda image: image.add_new(keyword, "SQ", [picture(held)])


def three_deep(image: FileDataset) -> None:
    image.update(around(picture(), "SourceImageSequence", "DerivationImageSequence", "ReferencedImageSequence"))


def in_a_private_sequence(image: FileDataset) -> None:
    image.private_block(0x0099, "TEST", create=True).add_new(1, "SQ", [around(picture(), "SourceImageSequence")])


def unknown_sequence(image: FileDataset) -> None:
    """A sequence that a sender who did not know it has passed on as UN (PS3.5 6.2.2)."""
    written = DicomBytesIO()
    written.is_little_endian, written.is_implicit_VR = True, True
    write_dataset(written, around(picture(), "SourceImageSequence"))
    items = written.getvalue()[8:]
    tag = Tag("SourceImageSequence")
    image[tag] = RawDataElement(tag, "UN", len(items), items, 0, is_implicit_VR=False, is_little_endian=True)


def of_undefined_length(image: FileDataset) -> None:
    item = around(picture(), "SourceImageSequence")
    item["SourceImageSequence"].is_undefined_length = True
    item.is_undefined_length_sequence_item = True
    image.ReferencedImageSequence = Sequence([item])
    image["ReferencedImageSequence"].is_undefined_length = True


def encapsulated(image: FileDataset) -> None:
    item = picture(value=encapsulate([FACE]))
    item["PixelData"].is_undefined_length = True
    image.SourceImageSequence = [item]


def written_as_text(image: FileDataset) -> None:
    item = Dataset()
    item[Tag("PixelData")] = DataElement(Tag("PixelData"), "UT", FACE.decode())
    image.SourceImageSequence = [item]


def in_a_text(image: FileDataset) -> None:
    """An attribute of the table of options, with a VR that it does not have."""
    image[Tag("ImageComments")] = DataElement(Tag("ImageComments"), "OB", FACE)


def in_the_icon(image: FileDataset) -> None:
    image.IconImageSequence = [picture()]


def waveform(image: FileDataset) -> None:
    item = Dataset()
    item.WaveformBitsAllocated, item.WaveformSampleInterpretation = 8, "SB"
    item.add_new("WaveformData", "OB", FACE)
    image.WaveformSequence = [item]


def surface(image: FileDataset) -> None:
    points = Dataset()
    points.add_new("PointCoordinatesData", "OF", FACE)
    image.update(around(points, "SurfacePointsSequence", "SurfaceSequence"))


def spectrum(image: FileDataset) -> None:
    image.add_new("SpectroscopyData", "OF", FACE)


@pytest.mark.parametrize(
    "hide",
    [
        in_sequence("SourceImageSequence"), in_sequence("ReferencedImageSequence", "FloatPixelData"),
        in_sequence("RequestAttributesSequence", "DoubleFloatPixelData"), in_sequence("VOILUTSequence"), three_deep,
        in_a_private_sequence, unknown_sequence, of_undefined_length, encapsulated, written_as_text, in_a_text,
        in_the_icon, waveform, surface, spectrum,
    ],
)  # fmt: skip
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_nothing_of_it_leaves_and_the_image_does(
    hide: Callable[[FileDataset], None], syntax: str, tmp_path: Path
) -> None:
    (image,) = ct_series(1, 16)
    image.file_meta.TransferSyntaxUID = syntax
    hide(image)
    data, out = sent(image, tmp_path)
    assert FACE not in data
    assert out.PixelData == image.PixelData


def drawn(keyword: str) -> Dataset:
    """An item with a line, whose coordinates are letters, and a text next to it."""
    item = Dataset()
    if keyword == "ContourData":
        item.ContourGeometricType, item.ContourData = "CLOSED_PLANAR", LINE
    else:
        item.GraphicType, item.GraphicData, item.UnformattedTextValue = "POLYLINE", LINE, "next to it"
    return item


@pytest.mark.parametrize(
    ("keyword", "sequences"),
    [
        ("ContourData", ("ContourSequence", "ROIContourSequence")),
        ("ContourData", ("ContourSequence", "ROIContourSequence", "ReferencedImageSequence")),
        ("ContourData", ()),
        ("GraphicData", ("GraphicObjectSequence", "GraphicAnnotationSequence")),
        ("GraphicData", ("TextObjectSequence", "GraphicAnnotationSequence", "SourceImageSequence")),
        ("GraphicData", ("ContentSequence", "ContentSequence")),
    ],
)
def test_contours_and_graphics_leave_with_no_image(keyword: str, sequences: tuple[str, ...], tmp_path: Path) -> None:
    (image,) = ct_series(1, 16)
    image.update(around(drawn(keyword), *sequences))
    (path,) = write([image], tmp_path / "source")
    deidentify_file(path, PROFILE, tmp_path / "out.dcm", is_result=False)
    out = dcmread(tmp_path / "out.dcm")
    lines = [element for element in out.iterall() if element.keyword in ("ContourData", "GraphicData")]
    assert lines == []
    assert "GraphicAnnotationSequence" not in [element.keyword for element in out.iterall()]
    assert out.PixelData == image.PixelData


def test_coordinates_of_results_stay(tmp_path: Path) -> None:
    """A report, whose content items are nested, and a structure set."""
    report, structures = text_report(), bare_object(RTStructureSetStorage, "RTSTRUCT")
    report.ContentSequence = [around(drawn("GraphicData"), *["ContentSequence"] * 3)]
    structures.update(around(drawn("ContourData"), "ContourSequence", "ROIContourSequence"))
    for result, keyword in ((report, "GraphicData"), (structures, "ContourData")):
        (path,) = write([result], tmp_path / keyword)
        deidentify_file(path, PROFILE, tmp_path / f"{keyword}.dcm", is_result=True)
        (line,) = [e for e in dcmread(tmp_path / f"{keyword}.dcm").iterall() if e.keyword == keyword]
        assert list(line.value) == LINE


def test_tables_and_references_stay(tmp_path: Path) -> None:
    (image,) = ct_series(1, 16)
    table = Dataset()
    table.LUTDescriptor = [4, 0, 16]
    table.add_new("LUTData", "OW", np.arange(4, dtype="<u2").tobytes())
    image.VOILUTSequence = [table]
    image.SourceImageSequence = [picture()]
    _, out = sent(image, tmp_path)
    assert out.VOILUTSequence[0].LUTData == table.LUTData
    assert out.SourceImageSequence[0].ReferencedSOPClassUID == CTImageStorage
    assert "PixelData" not in out.SourceImageSequence[0]


def test_an_image_with_pixels_of_two_kinds_is_withheld(tmp_path: Path) -> None:
    (image,) = ct_series(1, 16)
    image.add_new("FloatPixelData", "OF", FACE)
    with pytest.raises(GateError, match="it has PixelData and FloatPixelData, of which an image has one"):
        sent(image, tmp_path)
    assert not (tmp_path / "out.dcm").exists()
