"""Images that are no slices of grey levels, whatever their Modality says: told, left out, never analysed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_files import ct_series, mr_series, write
from drawn_examples import examples
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import Dataset, FileDataset
from pydicom.tag import Tag
from pydicom.uid import generate_uid

from node.inference.run_pipeline import analyse
from node.pipeline import Algorithm, Findings, Needs, Series
from node.studies.preflight import unmet
from node.studies.source import SourceSeries
from node.studies.suitability import slice_fault

NEEDS = Needs(modalities=frozenset({"CT", "MR"}), min_slices=3, regular_grid=False)
Change = Callable[[FileDataset], None]


def put(**values: Any) -> Change:
    def change(image: FileDataset) -> None:
        for keyword, value in values.items():
            if value is None:
                delattr(image, keyword)
            else:
                setattr(image, keyword, value)
        if "SOPClassUID" in values:
            image.file_meta.MediaStorageSOPClassUID = values["SOPClassUID"]

    return change


def bytes_of(keyword: str, value: bytes) -> Change:
    """The value as a sender wrote it, which is none of its VR."""

    def change(image: FileDataset) -> None:
        del image[keyword]
        image.add_new(Tag(keyword), "LO", value.decode())

    return change


def palette(image: FileDataset) -> None:
    image.PhotometricInterpretation = "PALETTE COLOR"
    for colour in ("Red", "Green", "Blue"):
        setattr(image, f"{colour}PaletteColorLookupTableDescriptor", [2, 0, 16])
        setattr(image, f"{colour}PaletteColorLookupTableData", b"\0\0\xff\xff")


def eight_bits(image: FileDataset) -> None:
    image.BitsAllocated, image.BitsStored, image.HighBit = 8, 8, 7
    image.PixelData = bytes(int(image.Rows) * int(image.Columns))


CT: dict[str, tuple[Change, str]] = {
    "a palette": (palette, "in colour (PALETTE COLOR)"),
    "RGB": (put(SamplesPerPixel=3, PhotometricInterpretation="RGB"), "in colour (RGB)"),
    "nuclear medicine": (put(SOPClassUID="1.2.840.10008.5.1.4.1.1.20"), "Nuclear Medicine"),
    "ultrasound": (put(SOPClassUID="1.2.840.10008.5.1.4.1.1.6.1"), "stored as Ultrasound Image Storage"),
    "a radiograph": (put(SOPClassUID="1.2.840.10008.5.1.4.1.1.1"), "stored as Computed Radiography"),
    "dose": (put(SOPClassUID="1.2.840.10008.5.1.4.1.1.481.2"), "stored as RT Dose Storage, which holds no CT slices"),
    "a segmentation": (put(SOPClassUID="1.2.840.10008.5.1.4.1.1.66.4"), "stored as Segmentation Storage"),
    "MR": (put(SOPClassUID="1.2.840.10008.5.1.4.1.1.4"), "stored as MR Image Storage"),
    "a private class": (put(SOPClassUID="1.3.46.670589.5.0.10"), "in a private SOP Class"),
    "a result of an AI node": (put(Manufacturer="AI node"), "it is a result of an AI node (Manufacturer)"),
    "a localizer": (put(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]), "it is a localizer (ImageType LOCALIZER)"),
    "a MIP": (put(ImageType=["DERIVED", "SECONDARY", "AXIAL", "CT_SOM5 MIP"]), "computed view, not a slice"),
    "a MinIP": (put(ImageType=["DERIVED", "SECONDARY", "MIN_IP"]), "computed view"),
    "a rendering": (put(ImageType=["DERIVED", "SECONDARY", "VRT"]), "computed view"),
    "a screenshot": (put(ImageType=["DERIVED", "SECONDARY", "SCREEN SAVE"]), "computed view"),
    "a huge slope": (put(RescaleSlope="1e308"), "RescaleSlope more than 10000000 is not plausible"),
    "a slope of zero": (put(RescaleSlope="0"), "RescaleSlope 0 is not plausible"),
    "no slope": (put(RescaleSlope=None), "RescaleSlope is missing: its values are no Hounsfield units"),
    "no intercept": (put(RescaleIntercept=None), "RescaleIntercept is missing"),
    "a slope that is text": (bytes_of("RescaleSlope", b"one"), "RescaleSlope is no number"),
    "a huge intercept": (put(RescaleIntercept="-1e20"), "RescaleIntercept less than -10000000 is not plausible"),
    "electron density": (put(RescaleType="EDW"), "no Hounsfield units (RescaleType EDW)"),
    "values without air": (put(RescaleIntercept="0"), "can only be 0 to 65535: these are no Hounsfield units"),
    "values without bone": (eight_bits, "can only be -1024 to -769"),
    "more bits than there are": (put(BitsStored=17), "BitsStored 17 and BitsAllocated 16 contradict"),
    "no bits": (put(BitsStored=0), "BitsStored 0 and BitsAllocated 16 contradict"),
    "pixels of a metre": (put(PixelSpacing=[1000, 1000]), "pixels are 1000 x 1000 mm"),
    "pixels of nothing": (put(PixelSpacing=[1e-9, 1e-9]), "pixels are 0 x 0 mm, which is not plausible"),
}
MR: dict[str, tuple[Change, str]] = {
    "CT": (put(SOPClassUID="1.2.840.10008.5.1.4.1.1.2"), "stored as CT Image Storage, which holds no MR slices"),
    "a MIP": (put(ImageType=["DERIVED", "PRIMARY", "PROJECTION IMAGE", "M"]), "computed view"),
    "a huge slope": (
        put(RescaleSlope="1e308", RescaleIntercept="0"),
        "RescaleSlope more than 10000000 is not plausible",
    ),
}


def cases() -> list[Any]:
    return [pytest.param(ct_series, *case, id=f"CT: {name}") for name, case in CT.items()] + [
        pytest.param(mr_series, *case, id=f"MR: {name}") for name, case in MR.items()
    ]


@pytest.mark.filterwarnings("ignore")  # pydicom's, of the values
@pytest.mark.parametrize(("series", "change", "reason"), cases())
def test_a_series_of_such_images_is_not_applicable_and_says_why(
    tmp_path: Path, series: Callable[..., list[FileDataset]], change: Change, reason: str
) -> None:
    images = series(4, 16)
    for image in images:
        change(image)
    source = SourceSeries.read(write(images, tmp_path))
    assert reason in unmet(NEEDS, source)
    assert len(source.datasets) == 4  # the report on it names them all


class Looking:
    """Finds nothing, in a volume of finite values."""

    algorithm = Algorithm(name="Looking", version="1")
    needs = NEEDS

    def run(self, series: Series) -> Findings:
        assert np.isfinite(series.volume().array).all()
        return Findings()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("series", "change", "reason"), cases())
@pytest.mark.parametrize("place", [0, 2, 8])
def test_a_single_one_among_slices_is_left_out_and_the_outcome_is_partial(
    tmp_path: Path, series: Callable[..., list[FileDataset]], change: Change, reason: str, place: int
) -> None:
    images = series(9, 16)
    change(images[place])
    source = SourceSeries.read(write(images, tmp_path))
    assert images[place].SOPInstanceUID not in {header.SOPInstanceUID for header in source.datasets}
    assert source.left_out.startswith("1 image left out: ")
    assert reason in source.left_out
    outcome, told, _ = analyse(Looking(), source)
    assert (outcome, told) == ("partial", source.left_out)


def test_plain_images_are_slices(tmp_path: Path) -> None:
    for image in (*ct_series(2, 16), *mr_series(2, 16)):
        assert slice_fault(image) == ""


PLAIN: dict[str, Change] = {
    "a reformat": put(ImageType=["DERIVED", "SECONDARY", "REFORMATTED", "AVERAGE"]),
    "MONOCHROME1": put(PhotometricInterpretation="MONOCHROME1"),
    "signed values": put(PixelRepresentation=1, RescaleIntercept="0"),
    "twelve bits": put(BitsStored=12, HighBit=11),
    "an extended scale": put(RescaleSlope="10", RescaleIntercept="-10240"),
    "an unspecified unit": put(RescaleType="US"),
    "no unit": put(RescaleType=None),
}


@pytest.mark.parametrize("name", PLAIN)
def test_what_scanners_really_write_is_a_slice(name: str) -> None:
    (image,) = ct_series(1, 16)
    PLAIN[name](image)
    assert slice_fault(image) == ""


@pytest.mark.filterwarnings("ignore")
def test_images_of_two_modalities_are_not_applicable(tmp_path: Path) -> None:
    uids = {"study": generate_uid(), "series": generate_uid()}
    images = [*ct_series(3, 16, **uids), *mr_series(3, 16, **uids)]
    source = SourceSeries.read(write(images, tmp_path))
    needs = Needs(modalities=frozenset({"CT"}))
    assert unmet(needs, source) == "Modality is CT and MR, needed is CT"


NUMBERS = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True).map(lambda v: f"{v:.6g}"),
    st.sampled_from(["", "-", "1e", "1\\2", "nan", "inf", "-1e308", "1e-308", "0", "1,5", "999999999999999"]),
)


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=examples(150), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    slope=NUMBERS, intercept=NUMBERS, bits=st.integers(0, 65535), spacing=NUMBERS, kind=st.sampled_from(["CT", "MR"])
)
def test_whatever_the_numbers_are_the_values_of_a_slice_are_finite(
    slope: str, intercept: str, bits: int, spacing: str, kind: str
) -> None:
    (image,) = ct_series(1, 16) if kind == "CT" else mr_series(1, 16)
    header = Dataset()
    header.update(image)
    for keyword, value in (("RescaleSlope", slope), ("RescaleIntercept", intercept), ("PixelSpacing", spacing)):
        header.add_new(Tag(keyword), "LO", value)  # as text: what a sender may write
    header.BitsStored = bits
    if slice_fault(header) == "":
        highest = 2.0**32 * abs(float(header.RescaleSlope or 1)) + abs(float(header.RescaleIntercept or 0))
        assert np.isfinite(np.float32(highest))
