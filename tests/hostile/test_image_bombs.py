"""Images that are small on the line, and huge or endlessly deep when they are read: refused at little cost."""

from __future__ import annotations

import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
from dicom_files import ct_series
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from raw_peer import COMMAND, LAST, MORE, RAW_CT, associate_rq, c_store, connection, p_data, status
from receivers import associate, encode, receiving, send_dataset
from tls_peers import hear

from node.errors import InputError
from node.ledger.tables import instance
from node.studies.header import read_header

DECODE = """
import resource, sys
from io import BytesIO
from pathlib import Path
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless, JPEGBaseline8Bit
resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))
from dicom_files import ct_series, write
from node.errors import InputError
from node.studies.source import SourceSeries

kind, folder = sys.argv[1:]
out = BytesIO()
more = {"no_jp2": True} if kind == "JPEG2000" else {}
Image.new("L", (16, 16)).save(out, kind, **more)
data = bytearray(out.getvalue())
if kind == "JPEG":
    at = data.index(b"\\xff\\xc0") + 5  # start of frame: lines and samples
    data[at : at + 4] = (65500).to_bytes(2, "big") * 2
else:
    at = data.index(b"\\xff\\x51")  # SIZ: image and tile size
    data[at + 6 : at + 14] = data[at + 22 : at + 30] = (65500).to_bytes(4, "big") * 2
images = ct_series(3, 16)
for image in images:
    image.Rows = image.Columns = 65500
    image.BitsAllocated = image.BitsStored = 8
    image.HighBit, image.PixelRepresentation = 7, 0
    image.PixelData = encapsulate([bytes(data)])
    image["PixelData"].is_undefined_length, image["PixelData"].VR = True, "OB"
    image.file_meta.TransferSyntaxUID = JPEGBaseline8Bit if kind == "JPEG" else JPEG2000Lossless
try:
    SourceSeries.read(write(images, Path(folder))).image(0)
except InputError as error:
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    print("refused", int(peak.split()[1]) // 1024)  # ru_maxrss counts the memory of the process that started this one
"""


@pytest.mark.parametrize("kind", ["JPEG", "JPEG2000"])
def test_an_image_that_claims_four_gigapixels_is_refused_without_the_memory(kind: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", DECODE, kind, str(tmp_path)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=(Path(__file__).parents[1] / "support")
    )
    assert done.stdout.startswith("refused"), done.stderr
    assert int(done.stdout.split()[1]) < 1024  # MiB


def deep(levels: int, *, undefined: bool) -> bytes:
    """Request Attributes Sequence (0040,0275) in an item of itself, again and again; Explicit VR Little Endian."""
    head, item = bytes.fromhex("40007502") + b"SQ\0\0", bytes.fromhex("feff00e0")
    if undefined:
        begin, end = head + b"\xff" * 4 + item + b"\xff" * 4, bytes.fromhex("feff0de000000000feffdde000000000")
        return begin * levels + end * levels
    inside = b""
    for _ in range(levels):
        inside = item + len(inside).to_bytes(4, "little") + inside
        inside = head + len(inside).to_bytes(4, "little") + inside
    return inside


@pytest.mark.parametrize("undefined", [True, False], ids=["undefined length", "explicit length"])
def test_endless_nesting_stops_nobody_who_receives_or_reads_it(tmp_path: Path, *, undefined: bool) -> None:
    (image,) = ct_series(1, 16)
    for element in [e.tag for e in image if e.tag > 0x00400275]:
        del image[element]
    data = encode(image) + deep(5000, undefined=undefined)
    with receiving(tmp_path / "node") as node, connection(node) as sender:
        sender.sendall(associate_rq(RAW_CT))
        assert hear(sender)[0] == 2
        sender.sendall(p_data(COMMAND, c_store(str(image.SOPInstanceUID))))
        sender.sendall(b"".join(p_data(MORE, data[at : at + 16000]) for at in range(0, len(data), 16000)))
        sender.sendall(p_data(LAST, b""))
        assert status(hear(sender)) == 0x0000  # its identity is sound; what is nested is not looked into
        (row,) = node.rows(instance)
        with pytest.raises(InputError, match="recursion") if undefined else nullcontext():
            read_header(node.spool.absolute(row.path))
        ordinary = associate(node, [(CTImageStorage, ExplicitVRLittleEndian)])
        assert send_dataset(ordinary, ct_series(1, 16)[0]).Status == 0x0000
        ordinary.release()
