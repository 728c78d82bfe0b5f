"""De-identification by PS3.15 annex E: the table, the options, what is refused, and the search for what is left."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import identified
import numpy as np
import pytest
from click.testing import CliRunner
from dicom_files import ct_series, secondary_capture, write
from ledgers import open_copy
from projections import cine
from pydicom import dcmread
from pydicom.dataset import FileDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, RLELossless

from node.__main__ import main
from node.config import Config, parse
from node.config.secret_files import secret_files
from node.deidentify.calls import deidentify_file
from node.deidentify.descriptions import cleaned
from node.deidentify.identifiers import identifiers_of, traces
from node.deidentify.key import deidentify_key, key_file
from node.deidentify.profile import action, table
from node.deidentify.profile_of_destination import PixelMask, Profile
from node.deidentify.pseudonyms import Pseudonyms, shifted
from node.errors import ConfigError, GateError

KEY = b"k" * 32
PACS = '[destinations.r]\ntitle = "R"\nhost = "h"\nport = 104\n'


def sent(dataset: FileDataset, folder: Path, *options: str, key: bytes = KEY, to: str = "research") -> FileDataset:
    """The object as a destination gets it."""
    (path,) = write([dataset], folder / "source")
    deidentify_file(path, Profile(key=key, destination=to, options=options), folder / "out.dcm", is_result=False)
    return dcmread(folder / "out.dcm")


@pytest.fixture
def image() -> FileDataset:
    return identified.identify(ct_series(1, 16))[0]


def test_nothing_that_identifies_is_left_in_any_byte_of_the_file(image: FileDataset, tmp_path: Path) -> None:
    out = sent(image, tmp_path)
    data = (tmp_path / "out.dcm").read_bytes()
    assert identified.remains((tmp_path / "source").glob("*").__next__().read_bytes())
    assert identified.remains(data) == []
    assert [uid for uid in identified.uids([image]) if uid.encode() in data] == []
    assert out.PatientName == out.PatientID
    assert out.PatientIdentityRemoved == "YES"
    assert [code.CodeValue for code in out.DeidentificationMethodCodeSequence] == ["113100"]
    assert out.LongitudinalTemporalInformationModified == "REMOVED"
    assert out.StudyDate == ""
    assert out.PixelData == image.PixelData


def test_options_retain_what_they_name_and_say_so(image: FileDataset, tmp_path: Path) -> None:
    options = ("clean pixel data", "clean descriptors", "modified dates", "device identity", "patient characteristics")
    out = sent(image, tmp_path, *options)
    codes = {code.CodeValue for code in out.DeidentificationMethodCodeSequence}
    assert codes == {"113100", "113101", "113105", "113107", "113108", "113109"}
    assert (out.PatientAge, out.PatientSex) == ("072Y", "F")
    assert (out.StationName, out.DeviceSerialNumber) == ("CTROOM7B", "SN-998877")
    assert out.SeriesDescription == "Thorax 2.5 lung, Dr"
    assert out.BurnedInAnnotation == "NO"
    assert out.LongitudinalTemporalInformationModified == "MODIFIED"
    assert "1900" <= out.StudyDate[:4] < "2026"
    assert out.StudyDate == out.SeriesDate
    assert "PatientBirthDate" not in out or not out.PatientBirthDate
    left = identified.remains((tmp_path / "out.dcm").read_bytes())
    assert set(left) == {"CTROOM7B", "SN-998877"}


@pytest.mark.parametrize(
    ("tag", "place", "options", "expected"),
    [
        (0x00100010, "top", (), "Z"),  # PatientName
        (0x0008103E, "top", (), "X"),  # SeriesDescription
        (0x0008103E, "top", ("clean descriptors",), "C"),
        (0x00080022, "top", (), "X"),  # AcquisitionDate, X/Z: type 3 in CT
        (0x00080022, "item", (), "Z"),
        (0x00080023, "top", (), "Z"),  # ContentDate, Z/D: type 2C in CT
        (0x00081140, "top", (), "U"),  # ReferencedImageSequence
        (0x00181000, "top", ("device identity",), "K"),
        (0x0018700C, "top", ("device identity",), "X"),  # a date of the device is a date
        (0x0018700C, "top", ("device identity", "modified dates"), "C"),
        (0x00280010, "top", (), None),  # Rows
    ],
)
def test_an_attribute_gets_the_action_of_the_table(
    tag: int, place: str, options: tuple[str, ...], expected: str | None
) -> None:
    assert action(tag, options, CTImageStorage, is_nested=place == "item") == expected


def test_the_table_is_whole() -> None:
    assert len(table()) == 652
    assert {part for row in table().values() for part in row.basic} == {"X", "Z", "D", "U", "U*"}


def _says(**values: object) -> Callable[[FileDataset], None]:
    def change(image: FileDataset) -> None:
        for keyword, value in values.items():
            setattr(image, keyword, value)

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_says(BurnedInAnnotation="YES"), "BurnedInAnnotation is YES"),
        (_says(Modality="US"), "modality US may show"),
        (_says(Modality=""), "modality unknown"),
        (_says(ConversionType="WSD"), "captured from a screen"),
        (_says(ImageType=["DERIVED", "SECONDARY", "SCREEN SAVE"]), "ImageType has SCREEN SAVE"),
        (_says(SamplesPerPixel=3), "in colour"),
    ],
)
def test_what_says_or_looks_like_burned_in_text_is_refused(
    change: Callable[[FileDataset], None], words: str, image: FileDataset, tmp_path: Path
) -> None:
    change(image)
    with pytest.raises(GateError, match=words):
        sent(image, tmp_path)
    assert not (tmp_path / "out.dcm").exists()


def test_a_secondary_capture_is_refused_and_a_radiograph_when_it_does_not_say_no(
    image: FileDataset, tmp_path: Path
) -> None:
    with pytest.raises(GateError, match="Secondary Capture"):
        sent(secondary_capture(), tmp_path / "sc")
    image.Modality = "DX"
    sent(image, tmp_path / "basic")
    with pytest.raises(GateError, match="does not say NO"):
        sent(image, tmp_path / "clean", "clean pixel data")


@pytest.mark.parametrize(
    ("change", "keyword"),
    [
        (_says(ImageType=["ORIGINAL", "PRIMARY", "KOWALSKA"]), "PatientName"),
        (_says(PixelData=b"KOWALSKA-77123".ljust(512, b"\0")), "PatientID"),
    ],
)
def test_an_object_in_which_something_identifying_is_left_is_refused(
    change: Callable[[FileDataset], None], keyword: str, image: FileDataset, tmp_path: Path
) -> None:
    change(image)
    with pytest.raises(GateError, match=f"still has .*the value of {keyword}") as caught:
        sent(image, tmp_path)
    assert "kowalska" not in str(caught.value).lower()


def test_a_text_outside_the_table_that_names_the_patient_is_replaced(image: FileDataset, tmp_path: Path) -> None:
    image.SoftwareVersions = ["syngo", "of KOWALSKA-77123"]
    assert sent(image, tmp_path).SoftwareVersions == "Removed"


def test_the_search_finds_names_in_every_script_and_uids(image: FileDataset, tmp_path: Path) -> None:
    (path,) = write([image], tmp_path)
    before = dcmread(path)
    text = " ".join(traces(path.read_bytes(), before, identifiers_of(before, frozenset())))
    for part in ("PatientName", "PatientID", "AccessionNumber", "InstitutionName", "UID of the source", "private"):
        assert part in text
    names = identifiers_of(before, frozenset()).texts
    assert {"Ковальская", "Kowalska", "KOWALSKA-77123"} <= names.keys()


def test_pseudonyms_depend_on_key_and_destination_and_on_nothing_else() -> None:
    ours = Pseudonyms(KEY, "one")
    assert ours.patient("A", "1.2") == Pseudonyms(KEY, "one").patient("A ", "9.9")
    assert len({Pseudonyms(k, d).patient("A", "") for k in (KEY, b"l" * 32) for d in ("one", "two")}) == 4
    assert ours.patient("", "1.2") != ours.patient("", "1.3")
    assert ours.uid("1.2.3").startswith("2.25.")
    assert len(ours.uid("1.2.3")) <= 44
    assert ours.uid(CTImageStorage) == CTImageStorage
    assert all(365 <= ours.days(str(n), "") < 3650 for n in range(300))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("20260102", "20250102"),
        ("20260102101112.5+0100", "20250102101112.5+0100"),
        ("202601", "202501"),
        ("2026", "2025"),
        ("unknown", None),
        ("20261302", None),
    ],
)
def test_dates_go_back_and_times_stay(value: str, expected: str | None) -> None:
    assert shifted(value, 365) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("CT Thorax Kowalska 12.03.2020", "CT Thorax"),
        ("AX T2 FLAIR FS", "AX T2 FLAIR FS"),
        ("Chest 5551234 Musterstadt", "Chest"),
        ("Baker cyst of knee", "cyst of knee"),
        ("", ""),
    ],
)
def test_of_descriptions_only_words_of_the_terminology_and_short_numbers_stay(text: str, expected: str) -> None:
    assert cleaned(text, {"baker"}) == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[destinations.r]\nhl7 = "h:1"\ndeidentify = "basic"', "HL7 messages are about a named patient"),
        ('[destinations.r]\nfhir = "https://h"\ndeidentify = "basic"', "FHIR resources are about a named patient"),
        (PACS + 'deidentify = "basic"\ncommitment = true', "use find in place of commitment"),
        (PACS + 'deidentify = "basic"\nobjects = ["seg", "pdf"]', "'pdf' name the patient"),
        (PACS + 'deidentify_options = ["modified dates"]', "need deidentify"),
        (PACS + 'deidentify = "basic"\ndeidentify_options = ["dates"]', "deidentify_options"),
        (PACS + 'deidentify = "full"', "Input should be '' or 'basic'"),
        (
            PACS + 'deidentify = "basic"\n[pipelines.nodule]\n[[rules]]\nname = "x"\npipelines = ["nodule"]\n'
            'destinations = ["r"]\nprior = { source = "r" }',
            "knows patients by pseudonyms",
        ),
    ],
)
def test_a_destination_that_cannot_be_deidentified_is_refused(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parse(text)


def test_the_key_is_made_once_in_a_file_of_its_owner_and_a_lost_or_foreign_one_stops_everything(tmp_path: Path) -> None:
    config, engine = Config.model_validate({"storage": {"folder": tmp_path}}), open_copy(f"sqlite:///{tmp_path / 'l'}")
    key, file = deidentify_key(config, engine), key_file(config)
    assert deidentify_key(config, engine) == key
    assert file.stat().st_mode & 0o777 == 0o600
    assert file in {path for _, path in secret_files(config)}
    file.write_text("00" * 32)
    with pytest.raises(ConfigError, match="not the key that this node has used"):
        deidentify_key(config, engine)
    file.unlink()
    with pytest.raises(ConfigError, match="is missing: it is the key of the pseudonyms"):
        deidentify_key(config, engine)


def test_an_operator_looks_up_a_pseudonym_and_changes_the_key(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(f'[storage]\nfolder = "{tmp_path}"\n{PACS}deidentify = "basic"')

    def run(*arguments: str) -> str:
        result = CliRunner().invoke(main, ["pseudonyms", arguments[0], "--config", str(path), *arguments[1:]])
        assert result.exit_code == 0, result.output
        return result.output

    before = run("of", "r", "KOWALSKA-77123")
    assert run("of", "r", "KOWALSKA-77123") == before
    assert "deidentify-key.until-" in run("rotate", "--reason", "a copy was lost", "--yes")
    assert run("of", "r", "KOWALSKA-77123") != before
    assert len([*tmp_path.glob("deidentify-key*")]) == 2


def _ultrasound(pixels: np.ndarray, photometric: str, *, planar: int = 0) -> FileDataset:
    """A cine loop of a device that writes the name of the patient into its first rows."""
    dataset = identified.identify([cine(frames=pixels.shape[0])])[0]
    dataset.Manufacturer, dataset.ManufacturerModelName = "GE Healthcare", "LOGIQ E9"
    dataset.BurnedInAnnotation = "YES"
    dataset.NumberOfFrames, dataset.Rows, dataset.Columns = pixels.shape[:3]
    dataset.PhotometricInterpretation = photometric
    dataset.SamplesPerPixel = pixels.shape[3]
    dataset.PlanarConfiguration = planar
    dataset.BitsAllocated = 8 * pixels.itemsize
    dataset.BitsStored, dataset.HighBit = dataset.BitsAllocated, dataset.BitsAllocated - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    dataset.PixelData = (pixels.transpose(0, 3, 1, 2) if planar else pixels).tobytes()
    dataset["PixelData"].VR = "OB" if pixels.itemsize == 1 else "OW"
    return dataset


MASK = PixelMask(manufacturer="ge*", model="LOGIQ E?", rows=8, columns=10, areas=((0, 0, 10, 2), (7, 5, 3, 3)))


def masked(dataset: FileDataset, folder: Path, *masks: PixelMask) -> FileDataset:
    (path,) = write([dataset], folder / "source")
    profile = Profile(key=KEY, destination="research", options=(), masks=masks)
    deidentify_file(path, profile, folder / "out.dcm", is_result=False)
    return dcmread(folder / "out.dcm")


@pytest.mark.parametrize(
    ("photometric", "dtype", "planar", "black"),
    [
        ("RGB", np.uint8, 0, [0, 0, 0]),
        ("RGB", np.uint8, 1, [0, 0, 0]),
        ("YBR_FULL", np.uint8, 0, [0, 128, 128]),
        ("MONOCHROME2", np.uint8, 0, [0]),
        ("MONOCHROME2", np.int16, 0, [-32768]),
        ("MONOCHROME1", np.uint16, 0, [65535]),
    ],
)
def test_burned_in_text_of_a_known_device_is_blanked_and_nothing_else(
    photometric: str, dtype: type, planar: int, black: list[int], tmp_path: Path
) -> None:
    pixels = np.random.default_rng(3).integers(1, 100, (3, 8, 10, len(black))).astype(dtype)
    out = masked(_ultrasound(pixels, photometric, planar=planar), tmp_path, MASK)
    shape = (3, len(black), 8, 10) if planar else pixels.shape
    kept = np.frombuffer(out.PixelData, dtype).reshape(shape)
    kept = kept.transpose(0, 2, 3, 1) if planar else kept
    hidden = np.zeros((8, 10), bool)
    hidden[:2], hidden[5:8, 7:10] = True, True
    np.testing.assert_array_equal(kept[:, ~hidden], pixels[:, ~hidden])
    assert (kept[:, hidden] == np.array(black, dtype)).all()
    assert out.BurnedInAnnotation == "NO"
    assert "113101" in {code.CodeValue for code in out.DeidentificationMethodCodeSequence}
    assert identified.remains((tmp_path / "out.dcm").read_bytes()) == []


def test_compressed_images_are_decoded_to_be_blanked(tmp_path: Path) -> None:
    pixels = np.random.default_rng(3).integers(1, 100, (3, 8, 10, 3)).astype(np.uint8)
    dataset = _ultrasound(pixels, "RGB")
    dataset.compress(RLELossless, generate_instance_uid=False)
    out = masked(dataset, tmp_path, MASK)
    assert out.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert out.PhotometricInterpretation == "RGB"
    shown = out.pixel_array
    assert not shown[:, :2].any()
    np.testing.assert_array_equal(shown[:, 2:5], pixels[:, 2:5])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_says(ManufacturerModelName="LOGIQ P9"), "BurnedInAnnotation is YES"),
        (_says(Rows=10, Columns=8), "BurnedInAnnotation is YES"),
        (_says(PhotometricInterpretation="PALETTE COLOR"), "text in PALETTE COLOR pixels of 8 bits cannot be blanked"),
        (_says(SOPClassUID="1.2.840.10008.5.1.4.1.1.77.1.4"), "may show a face"),
    ],
)
def test_an_image_without_a_mask_or_that_a_mask_cannot_clean_is_refused(
    change: Callable[[FileDataset], None], words: str, tmp_path: Path
) -> None:
    dataset = _ultrasound(np.ones((3, 8, 10, 1), np.uint8), "MONOCHROME2")
    change(dataset)
    with pytest.raises(GateError, match=words):
        masked(dataset, tmp_path, MASK)
    assert not (tmp_path / "out.dcm").exists()


def test_a_mask_outside_of_its_images_is_refused_by_name() -> None:
    entry = 'manufacturer = "GE*"\nmodel = "*"\nrows = 8\ncolumns = 10\nareas = [[0, 7, 10, 2]]\n'
    with pytest.raises(
        ConfigError, match=r"deidentify.masks.*area \[0, 7, 10, 2\] is not within 10 columns and 8 rows"
    ):
        parse(f"[[deidentify.masks]]\n{entry}")
    mask = parse(f"[[deidentify.masks]]\n{entry.replace('10, 2', '10, 1')}").deidentify.masks[0]
    assert mask.areas == ((0, 7, 10, 1),)
