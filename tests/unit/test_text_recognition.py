"""Text in the pixels of images that leave under pseudonyms: it is read, also within the confined process."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import delivery_jobs as jobs
import numpy as np
import numpy.typing as npt
import pytest
from dicom_files import ct_series, secondary_capture, write
from PIL import Image, ImageDraw, ImageFont
from pydicom import dcmread
from pydicom.dataset import FileDataset
from pydicom.uid import DigitalXRayImageStorageForPresentation

from node.check.machine import text_recognition
from node.config import parse
from node.config.deidentify import Deidentify
from node.confined import Bounds, ConfinedProcess
from node.deidentify.burned_in import may_have_text
from node.deidentify.calls import deidentify_file
from node.deidentify.profile_of_destination import PixelMask, Profile
from node.deidentify.text_recognition import is_text
from node.deliver import deidentified
from node.errors import DeliveryError, GateError, InputError

NAME = "DOE^JANE 1957-03-02"
MASK = PixelMask(manufacturer="*", model="*", rows=480, columns=640, areas=((0, 0, 640, 40),))


def drawn(*texts: str, at: int = 10, bits: int = 8) -> npt.NDArray[np.uint16]:
    """Noise as of tissue, with texts below one another from row ``at``."""
    picture = Image.fromarray(np.random.default_rng(2).normal(60, 20, (480, 640)).clip(1, 255).astype(np.uint8))
    for number, text in enumerate(texts):
        ImageDraw.Draw(picture).text((12, at + 20 * number), text, fill=255, font=ImageFont.load_default(14))
    return np.asarray(picture).astype(np.uint16) << (bits - 8)


def image(pixels: npt.NDArray[np.uint16], modality: str = "DX") -> FileDataset:
    """An X-ray of 12 bits, or an ultrasound image of 8."""
    dataset = secondary_capture()
    is_ray = modality == "DX"
    dataset.SOPClassUID = DigitalXRayImageStorageForPresentation if is_ray else "1.2.840.10008.5.1.4.1.1.6.1"
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.Modality, dataset.Manufacturer, dataset.ManufacturerModelName = modality, "Maker", "Model"
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = *pixels.shape, 1
    dataset.PhotometricInterpretation, dataset.PixelRepresentation = "MONOCHROME2", 0
    dataset.BitsAllocated, dataset.BitsStored = (16, 12) if is_ray else (8, 8)
    dataset.HighBit = dataset.BitsStored - 1
    for keyword in ("ConversionType", "PlanarConfiguration", "ImageType", "BurnedInAnnotation"):
        if keyword in dataset:
            del dataset[keyword]
    dataset.PixelData = pixels.astype("<u2" if is_ray else "u1").tobytes()
    dataset["PixelData"].VR = "OW" if is_ray else "OB"
    return dataset


def sent(dataset: FileDataset, folder: Path, *masks: PixelMask, read_text: bool = True) -> FileDataset:
    (path,) = write([dataset], folder / "source")
    profile = Profile(key=b"k" * 32, destination="research", options=(), masks=masks, read_text=read_text)
    deidentify_file(path, profile, folder / "out.dcm", is_result=False)
    return dcmread(folder / "out.dcm")


@pytest.mark.parametrize(
    ("words", "is_one"),
    [("DOE^JANE", True), ("4711-22", True), ("山田", True), ("李", True), ("R", False), ("L  AP", False),
     ("RMLO", False), ("PORTABLE ERECT", False), ("--- ..", False), ("R MLO DOE", True), ("Li|Bo", True),
     ("R|L|AP", False), ("J.D.|O", False), ("1/2/3", True)],
)  # fmt: skip
def test_sides_and_views_are_no_text(words: str, *, is_one: bool):
    assert is_text(words.split("|")) is is_one


def on_tissue(tissue: float, text: float, window: tuple[float, float] | None, *, padding: int | None = None, **header):
    """An X-ray whose text is hardly brighter than its tissue, and what its header says of the values."""
    letters = Image.new("L", (640, 480))
    ImageDraw.Draw(letters).text((12, 60), NAME, fill=255, font=ImageFont.load_default(18))
    bright = np.asarray(letters) > 100
    values = np.random.default_rng(3).normal(tissue, max(tissue / 100, 1), (480, 640))
    values[bright] = text
    if padding is not None:
        values[:20] = padding
    dataset = image(values.astype(np.int64).astype(np.uint16))
    dataset.BitsStored, dataset.HighBit = 16, 15
    if window is not None:
        dataset.WindowCenter, dataset.WindowWidth = window
    for keyword, value in header.items():
        setattr(dataset, keyword, value)
    return dataset


@pytest.mark.thorough
@pytest.mark.parametrize(
    "dataset",
    [
        on_tissue(30000, 33000, (31500, 6000), padding=0),
        on_tissue(1000, 1400, None, padding=65535, PixelPaddingValue=65535),
        on_tissue(100, 250, (150, 300), padding=4095),
        on_tissue(3, 15, None),
    ],
    ids=["window", "padding", "marker", "few values"],
)
def test_text_is_read_as_a_viewer_shows_it(dataset: FileDataset, tmp_path: Path):
    with pytest.raises(GateError, match="text is read in its pixels"):
        sent(dataset, tmp_path)


@pytest.mark.thorough
def test_a_long_strip_costs_no_more_than_a_picture_and_a_thin_one_nothing(tmp_path: Path):
    for rows, columns in ((2, 1600), (40, 600)):
        strip = image(np.full((rows, columns), 100, np.uint16))
        assert sent(strip, tmp_path / str(rows)).Rows == rows
    with pytest.raises(InputError, match="9000 x 9 is too long a strip"):
        sent(image(np.full((9, 9000), 100, np.uint16)), tmp_path)


def test_a_contradiction_of_modality_and_sop_class_leaves_nothing_unread():
    x_ray = image(drawn())
    x_ray.Modality = "CT"
    assert may_have_text(x_ray)
    assert not may_have_text(ct_series(1, 16)[0])


def test_palette_colour_is_refused(tmp_path: Path):
    dataset = image(drawn())
    dataset.PhotometricInterpretation = "PALETTE COLOR"
    with pytest.raises(GateError, match="palette colour cannot be read"):
        sent(dataset, tmp_path)


@pytest.mark.thorough
def test_an_x_ray_with_a_name_in_its_pixels_is_not_sent_and_one_with_its_side_is(tmp_path: Path):
    named = image(drawn(NAME, "ID 4711-22", bits=12))
    with pytest.raises(GateError) as refused:
        sent(named, tmp_path)
    assert "text is read in its pixels, in 2 places" in str(refused.value)
    assert "JANE" not in str(refused.value).upper()
    assert not (tmp_path / "out.dcm").exists()
    assert sent(named, tmp_path / "unread", read_text=False).PixelData == named.PixelData
    marked = image(drawn("R", "PORTABLE", bits=12))
    assert sent(marked, tmp_path / "marked").PixelData == marked.PixelData


@pytest.mark.thorough
def test_text_beside_the_areas_of_a_mask_is_found_within_the_confined_process(tmp_path: Path):
    """A mask that hides all of it lets the image pass."""
    (tmp_path / "out").mkdir()
    bounds = Bounds(memory_mib=8192, cpu_seconds=60, wall_seconds=120.0)
    process = ConfinedProcess("reader", readable=[tmp_path], writable=[tmp_path / "out"], bounds=bounds)
    profile = Profile(key=b"k" * 32, destination="research", options=(), masks=(MASK,), read_text=True)
    try:
        for name, row, is_refused in (("hidden", 12, False), ("beside", 300, True)):
            (path,) = write([image(drawn(NAME, at=row), "US")], tmp_path / name)
            to = tmp_path / "out" / name
            if is_refused:
                with pytest.raises(GateError, match="in 1 place; state where"):
                    process.call(name, deidentify_file, path, profile, to, is_result=False)
                assert not to.exists()
            else:
                process.call(name, deidentify_file, path, profile, to, is_result=False)
                assert to.exists()
    finally:
        process.close()


@pytest.mark.thorough
def test_an_image_that_is_not_searched_in_time_is_withheld_as_one_with_text_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next image of the job has its turn, and nothing of either is sent; with time enough both are."""
    bounds = deidentified._BOUNDS
    monkeypatch.setattr(deidentified, "_BOUNDS", replace(bounds, wall_seconds=0.05))  # it does not even start then
    (site := tmp_path / "site").mkdir()
    table = {"folder": str(site), "deidentify": "basic"}
    ray, (slice_,) = image(drawn()), ct_series(1, 16)
    slice_.StudyInstanceUID = ray.StudyInstanceUID
    job = jobs.FinishedJob(tmp_path / "node", [ray, slice_], {"research": table})
    job.config = job.config.model_copy(update={"deidentify": Deidentify(read_text=True)})
    late = (
        r"de-identification and the search for text in its pixels \(read_text\) took longer than 0\.05 s; it is tried"
    )
    with pytest.raises(DeliveryError, match=rf"0 of 2 objects stored; first that is withheld: not sent: its {late}"):
        job.deliver("research")
    assert [status for status, _ in job.answers().values()] == [None, None]
    assert list(site.rglob("*.dcm")) == []
    monkeypatch.setattr(deidentified, "_BOUNDS", bounds)
    job.deliver("research")
    assert len(list(site.rglob("*.dcm"))) == 2


def test_check_names_the_package_when_text_is_to_be_read(monkeypatch: pytest.MonkeyPatch):
    wanted = parse("[deidentify]\nread_text = true\n")
    assert list(text_recognition(parse(""))) == []
    monkeypatch.setitem(sys.modules, "rapidocr_onnxruntime", None)
    (missing,) = text_recognition(wanted)
    assert not missing.good
    assert "pip install 'ainode[ocr]'" in missing.found
