"""Of the pixel data of an image only its frames leave: no bytes beside them, and no comments in their codestreams."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from struct import pack

import numpy as np
import pytest
from dicom_files import ct_series, secondary_capture, write
from PIL import Image
from pydicom import config, dcmread
from pydicom.dataset import FileDataset
from pydicom.encaps import encapsulate, encapsulate_extended, generate_frames, itemize_fragment
from pydicom.uid import (
    MPEG4HP41,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
)

from node.deidentify.calls import deidentify_file
from node.deidentify.profile_of_destination import PixelMask, Profile
from node.errors import GateError, NodeError

FACE = b"a face that nobody has looked at"
SYNTAXES = [JPEGBaseline8Bit, JPEGLSLossless, JPEG2000Lossless, RLELossless]
MASK = PixelMask(manufacturer="*", model="*", rows=64, columns=64, areas=((0, 0, 64, 8),))


def image(frames: int = 1, *, side: int = 64, bits: int = 8) -> FileDataset:
    """A CT image with noise, of some frames."""
    (dataset,) = ct_series(1, side)
    dataset.BitsAllocated = dataset.BitsStored = bits
    dataset.HighBit, dataset.PixelRepresentation = bits - 1, 0
    if frames > 1:
        dataset.NumberOfFrames = frames
    pixels = np.random.default_rng(5).integers(0, 200, (frames, side, side)).astype(f"<u{bits // 8}")
    dataset.PixelData = pixels.tobytes() + b"\0" * (pixels.nbytes % 2)
    dataset["PixelData"].VR = "OB" if bits == 8 else "OW"
    return dataset


def jpeg(pixels: np.ndarray, **options: object) -> bytes:
    out = BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", **options)
    return out.getvalue()


def compressed(syntax: str, frames: int = 1, **options: object) -> FileDataset:
    dataset = image(frames)
    if syntax == JPEGBaseline8Bit:
        pixels = dataset.pixel_array.reshape(frames, 64, 64)
        put(dataset, [jpeg(frame, **options) for frame in pixels])
        dataset.file_meta.TransferSyntaxUID = syntax
    else:
        dataset.compress(syntax, generate_instance_uid=False)
    return dataset


def frames_of(dataset: FileDataset) -> list[bytes]:
    return [*generate_frames(dataset.PixelData, number_of_frames=int(dataset.get("NumberOfFrames") or 1))]


def put(dataset: FileDataset, frames: list[bytes], *, has_bot: bool = True) -> None:
    dataset.PixelData = encapsulate(frames, has_bot=has_bot)
    dataset["PixelData"].VR, dataset["PixelData"].is_undefined_length = "OB", True


def sent(dataset: FileDataset, folder: Path, *masks: PixelMask, hides: bool = True) -> FileDataset:
    """What a destination gets; nothing of what the source hides is in its bytes."""
    (path,) = write([dataset], folder / "source")
    assert (FACE in path.read_bytes()) == hides
    profile = Profile(key=b"k" * 32, destination="research", options=(), masks=masks)
    deidentify_file(path, profile, folder / "out.dcm", is_result=False)
    assert FACE not in (folder / "out.dcm").read_bytes()
    return dcmread(folder / "out.dcm")


@pytest.mark.parametrize(
    ("frames", "side", "bits", "before"), [(1, 16, 16, b""), (1, 15, 8, b""), (3, 15, 8, b"x" * 33), (2, 16, 32, b"")]
)
def test_native_pixels_are_cut_to_their_frames(
    frames: int, side: int, bits: int, before: bytes, tmp_path: Path
) -> None:
    dataset = image(frames, side=side, bits=bits)
    pixels = dataset.PixelData
    assert sent(dataset, tmp_path / "clean", hides=False).PixelData == pixels
    dataset.PixelData = pixels + before + FACE
    out = sent(dataset, tmp_path)
    assert out.PixelData == pixels
    assert out.get("NumberOfFrames", 1) == frames


def test_native_pixels_have_no_table_of_offsets(tmp_path: Path) -> None:
    dataset = image()
    dataset.ExtendedOffsetTable, dataset.ExtendedOffsetTableLengths = FACE, FACE
    assert "ExtendedOffsetTable" not in sent(dataset, tmp_path)


def second_frame(dataset: FileDataset) -> None:
    put(dataset, [*frames_of(dataset), FACE])


def second_frame_without_offsets(dataset: FileDataset) -> None:
    put(dataset, [*frames_of(dataset), FACE], has_bot=False)


def second_image(dataset: FileDataset) -> None:
    """A complete one, of the same codec."""
    frames = frames_of(dataset)
    put(dataset, [*frames, frames[-1] + FACE], has_bot=False)


def fragment_after_the_last_frame(dataset: FileDataset) -> None:
    dataset.PixelData += itemize_fragment(FACE)


def extended_offsets(dataset: FileDataset) -> None:
    data, offsets, lengths = encapsulate_extended([*frames_of(dataset), FACE])
    dataset.PixelData, dataset.ExtendedOffsetTable, dataset.ExtendedOffsetTableLengths = data, offsets, lengths


def bytes_after_the_end(dataset: FileDataset) -> None:
    put(dataset, [frame + FACE for frame in frames_of(dataset)])


@pytest.mark.filterwarnings("ignore:The decoded RLE segment contains non-conformant padding")
@pytest.mark.parametrize("frames", [1, 3])
@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda syntax: syntax.keyword)
@pytest.mark.parametrize(
    "hide",
    [second_frame, second_frame_without_offsets, second_image, fragment_after_the_last_frame, extended_offsets,
     bytes_after_the_end],
)  # fmt: skip
def test_nothing_beside_the_frames_leaves(
    hide: Callable[[FileDataset], None], syntax: str, frames: int, tmp_path: Path
) -> None:
    """Pixels are as they were, in their own compression, or without one."""
    dataset = compressed(syntax, frames)
    shown = dataset.pixel_array
    clean = frames_of(dataset)
    hide(dataset)
    out = sent(dataset, tmp_path)
    assert len(shown.reshape(-1, 64, 64)) == frames == int(out.get("NumberOfFrames") or 1)
    np.testing.assert_array_equal(out.pixel_array, shown)
    assert "ExtendedOffsetTable" not in out
    if syntax == RLELossless:
        assert out.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    else:
        assert out.file_meta.TransferSyntaxUID == syntax
        assert len(frames_of(out)) == frames
        assert [len(a) - len(b) for a, b in zip(frames_of(out), clean, strict=True)] == [0] * frames


def segment(marker: int, content: bytes = FACE) -> bytes:
    return pack(">BBH", 0xFF, marker, len(content) + 2) + content


def at_start(marker: int) -> Callable[[bytes], bytes]:
    return lambda frame: frame[:2] + segment(marker) + frame[2:]


def after_size(frame: bytes) -> bytes:
    """A comment in the main header of JPEG 2000, which begins with SIZ."""
    end = 4 + int.from_bytes(frame[4:6])
    return frame[:end] + segment(0x64) + frame[end:]


def before_last_scan(frame: bytes) -> bytes:
    at = frame.rindex(b"\xff\xda")
    return frame[:at] + b"\xff" + segment(0xFE) + frame[at:]


def in_tile(frame: bytes) -> bytes:
    """A comment in the header of the only tile-part."""
    at = frame.index(b"\xff\x90")
    length = int.from_bytes(frame[at + 6 : at + 10]) + len(segment(0x64))
    header = frame[at : at + 6] + length.to_bytes(4) + frame[at + 10 : at + 12]
    return frame[:at] + header + segment(0x64) + frame[at + 12 :]


def in_tile_of_unknown_length(frame: bytes) -> bytes:
    frame = in_tile(frame)
    at = frame.index(b"\xff\x90")
    return frame[: at + 6] + bytes(4) + frame[at + 10 :]


@pytest.mark.parametrize(
    ("syntax", "hide"),
    [
        (JPEGBaseline8Bit, at_start(0xFE)), (JPEGBaseline8Bit, at_start(0xE1)), (JPEGBaseline8Bit, at_start(0xEF)),
        (JPEGBaseline8Bit, before_last_scan), (JPEGLSLossless, at_start(0xFE)), (JPEGLSLossless, at_start(0xE8)),
        (JPEGLSLossless, before_last_scan), (JPEG2000Lossless, after_size), (JPEG2000Lossless, in_tile),
        (JPEG2000Lossless, in_tile_of_unknown_length),
    ],
)  # fmt: skip
def test_comments_and_application_segments_are_blanked(
    syntax: str, hide: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    progressive = {"progressive": True} if syntax == JPEGBaseline8Bit else {}
    dataset = compressed(syntax, 2, **progressive)
    shown = dataset.pixel_array
    put(dataset, [hide(frame) for frame in frames_of(dataset)])
    np.testing.assert_array_equal(dataset.pixel_array, shown)
    np.testing.assert_array_equal(sent(dataset, tmp_path).pixel_array, shown)


def test_boxes_around_a_codestream_are_removed(tmp_path: Path) -> None:
    dataset = compressed(JPEG2000Lossless)
    shown = dataset.pixel_array
    put(dataset, [b"\0\0\0\x0cjP  \r\n\x87\n" + FACE + frame for frame in frames_of(dataset)])
    np.testing.assert_array_equal(sent(dataset, tmp_path).pixel_array, shown)


def without_end(dataset: FileDataset) -> None:
    put(dataset, [frame[: frame.rindex(b"\xff\xd9")] for frame in frames_of(dataset)])


def unknown_marker(dataset: FileDataset) -> None:
    put(dataset, [frame[:2] + segment(0xF3, b"what") + frame[2:] for frame in frames_of(dataset)])


def no_codestream(dataset: FileDataset) -> None:
    put(dataset, [b"no codestream" for _ in frames_of(dataset)])


def too_few_frames(dataset: FileDataset) -> None:
    put(dataset, frames_of(dataset)[:1])


def wrong_offsets(dataset: FileDataset) -> None:
    """A table of one offset for two frames: behind the first one is no rest, but the second."""
    frames = frames_of(dataset)
    dataset.PixelData = encapsulate(frames[:1]) + itemize_fragment(frames[1])


def video(dataset: FileDataset) -> None:
    dataset.file_meta.TransferSyntaxUID = MPEG4HP41


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (without_end, "no end or unknown markers"), (unknown_marker, "no end or unknown markers"),
        (no_codestream, "no end or unknown markers"),
        (too_few_frames, "1 frames are found in its pixel data, and its header says 2"),
        (wrong_offsets, "1 frames are found in its pixel data, and its header says 2"),
        (video, "a video may have speech"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("syntax", [JPEGBaseline8Bit, JPEGLSLossless])
def test_frames_that_cannot_be_told_from_the_rest_are_withheld(
    change: Callable[[FileDataset], None], words: str, syntax: str, tmp_path: Path
) -> None:
    dataset = compressed(syntax, 2)
    change(dataset)
    with pytest.raises(GateError, match=words):
        sent(dataset, tmp_path, hides=False)
    assert not (tmp_path / "out.dcm").exists()


def test_an_image_without_a_size_is_withheld(tmp_path: Path) -> None:
    dataset = image()
    del dataset.Rows
    with pytest.raises(GateError, match="Rows, Columns or BitsAllocated does not say"):
        sent(dataset, tmp_path, hides=False)


@pytest.mark.parametrize("at", range(0, 400, 7))
def test_a_frame_that_is_cut_off_or_damaged_ends_with_an_error_of_the_node(at: int, tmp_path: Path) -> None:
    for syntax in (JPEGBaseline8Bit, JPEGLSLossless, JPEG2000Lossless):
        dataset = compressed(syntax)
        (frame,) = frames_of(dataset)
        put(dataset, [frame[:at] + b"\xff" + frame[at + 1 : -2]])
        with pytest.raises(NodeError):
            sent(dataset, tmp_path / syntax, hides=False)


def test_colours_of_a_masked_image_stay_and_a_frame_beside_its_own_does_not(tmp_path: Path) -> None:
    """Application segments say how its colours are coded, so they stay until it is decoded."""
    dataset = secondary_capture()
    dataset.Manufacturer, dataset.ManufacturerModelName = "Maker", "Model"
    dataset.Rows = dataset.Columns = 64
    dataset.SamplesPerPixel, dataset.PlanarConfiguration, dataset.PhotometricInterpretation = 3, 0, "RGB"
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[..., 0] = 200
    put(dataset, [jpeg(pixels, keep_rgb=True, comment=FACE), jpeg(pixels, keep_rgb=True)])
    dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    out = sent(dataset, tmp_path, MASK)
    assert out.pixel_array.shape == pixels.shape
    assert int(out.get("NumberOfFrames") or 1) == 1
    assert not out.pixel_array[:8].any()
    np.testing.assert_allclose(out.pixel_array[8:], pixels[8:], atol=3)


def with_hidden_bit(dataset: FileDataset) -> np.ndarray:
    """Pixels of 12 bits, one of which has one more."""
    pixels = dataset.pixel_array.copy()
    pixels[3, 5] |= 1 << 13
    return pixels


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, RLELossless, JPEG2000Lossless])
@pytest.mark.parametrize("is_hidden", [False, True])
def test_what_bits_stored_does_not_cover_does_not_leave(syntax: str, tmp_path: Path, *, is_hidden: bool) -> None:
    """J2K as some devices write it: with 16 bits, whatever the header says."""
    dataset = image(bits=16)
    pixels = with_hidden_bit(dataset) if is_hidden else dataset.pixel_array
    dataset.PixelData = pixels.tobytes()
    if syntax.is_encapsulated:
        dataset.compress(syntax, generate_instance_uid=False)
    dataset.BitsStored, dataset.HighBit = 12, 11
    if is_hidden:
        with pytest.raises(GateError, match=r"bits that BitsStored \(12\) does not cover"):
            sent(dataset, tmp_path, hides=False)
    else:
        np.testing.assert_array_equal(sent(dataset, tmp_path, hides=False).pixel_array, pixels)


def test_a_sign_goes_on_in_unused_bits(tmp_path: Path) -> None:
    dataset = image(bits=16)
    dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 12, 11, 1
    pixels = np.random.default_rng(5).integers(-2048, 2048, (64, 64)).astype("<i2")
    dataset.PixelData = pixels.tobytes()
    np.testing.assert_array_equal(sent(dataset, tmp_path, hides=False).pixel_array, pixels)


@pytest.mark.parametrize(("stored", "high"), [(None, 11), (17, 16), (12, 15), (0, -1)])
def test_pixels_whose_used_bits_are_not_stated_are_withheld(stored: int, high: int, tmp_path: Path) -> None:
    dataset = image(bits=16)
    with config.disable_value_validation():
        dataset.BitsStored, dataset.HighBit = stored, max(high, 0)
    with pytest.raises(GateError, match="do not say which of 16 bits"):
        sent(dataset, tmp_path, hides=False)
