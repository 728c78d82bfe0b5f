"""Images that are small on the line, and huge or endlessly deep when they are read: refused at little cost."""

from __future__ import annotations

import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
from bombs import deep, header
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from node.errors import InputError
from node.receive.part10 import file_header
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


@pytest.mark.parametrize("undefined", [True, False], ids=["undefined length", "explicit length"])
def test_endless_nesting_stops_nobody_who_reads_it(tmp_path: Path, *, undefined: bool) -> None:
    names = {"sop_class_uid": CTImageStorage, "sop_instance_uid": "1.2.3", "sender": "CT1", "receiver": "AINODE"}
    path = tmp_path / "deep.dcm"
    meta = file_header(transfer_syntax_uid=ExplicitVRLittleEndian, **names)
    path.write_bytes(meta + header() + deep(5000, undefined=undefined))
    with pytest.raises(InputError, match="cannot be read as DICOM") if undefined else nullcontext():
        read_header(path)
