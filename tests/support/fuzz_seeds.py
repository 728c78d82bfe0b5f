"""Writes the synthetic examples that fuzzing starts from: ``python tests/support/fuzz_seeds.py tests/support/corpus``.

No patient is in them. Examples that a long run has added, and inputs that were findings once, stay beside them.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import torch
from analyses import ALGORITHM, analysis, saved, source_of
from bundles import write_bundle
from dicom_files import ct_series, mr_series, write
from enhanced_files import enhanced, with_private_groups
from every_object import everything
from nnunet_models import write_results
from pydicom import FileDataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

from node.inference.handover import Handover, save
from node.pipeline import Findings
from node.results.encode import encode
from node.studies.source import SourceSeries

PIXELS = 8
"""Rows and columns of an image: what is fuzzed is the header."""
LESION_PIXELS = 24
"""The same, where lesions are drawn."""
OPTIONS = {
    "sha256": "ab" * 32, "name": "Spleen", "version": "1", "modality": "CT", "spacing_mm": [2.0, 1.5, 1.5],
    "roi": [16, 16, 16], "window": [-100.0, 200.0], "looked_for": ["Spleen"],
    "segments": [
        {
            "channel": 1, "label": "Spleen", "category": ["123037004", "SCT", "Anatomical structure"],
            "type": ["78961009", "SCT", "Spleen"],
        }
    ],
}  # fmt: skip
CONFIG = """
[ae]
title = "AINODE"
callers = [{ title = "CT1", address = "10.1.2.0/24", services = ["store"] }]
[storage]
folder = "/tmp/node"
[pipelines.nodule]
[pipelines.p]
factory = "package:create"
options = { threshold = 0.5 }
[destinations.pacs]
title = "PACS"
host = "pacs.example"
port = 104
[[rules]]
name = "chest"
pipelines = ["nodule"]
destinations = ["pacs"]
[rules.match]
Modality = "CT"
SliceThickness = "..3.0"
"""


def _images() -> Iterator[tuple[str, list[FileDataset]]]:
    yield "ct", ct_series(3, PIXELS)
    yield "mr", mr_series(3, PIXELS)
    yield "enhanced-ct", list(enhanced(ct_series(3, PIXELS)))
    yield "enhanced-mr", list(enhanced(mr_series(3, PIXELS), shuffle=2))
    yield "private-groups", [with_private_groups(2)]  # type: ignore[list-item]


def _encodings(dataset: FileDataset) -> Iterator[tuple[str, FileDataset]]:
    for name, syntax in (("implicit", ImplicitVRLittleEndian), ("deflated", DeflatedExplicitVRLittleEndian)):
        dataset.file_meta.TransferSyntaxUID = syntax
        yield name, dataset
    dataset.compress(RLELossless)
    yield "rle", dataset


def images() -> Iterator[tuple[str, bytes]]:
    """Whole files."""
    for name, datasets in _images():
        yield f"{name}.dcm", saved(datasets[0])
    for name, dataset in _encodings(ct_series(1, PIXELS)[0]):
        yield f"{name}.dcm", saved(dataset)


def results(folder: Path) -> Iterator[tuple[str, str, bytes]]:
    """Reports and segmentations as target, name and bytes."""
    for name, datasets in (("ct", ct_series(8, LESION_PIXELS)), ("enhanced", enhanced(mr_series(8, LESION_PIXELS)))):
        source = source_of(folder / name, list(datasets))
        for made in encode(analysis(everything(source)), source, ["seg", "labelmap", "sr"]):
            yield ("report" if made.kind == "sr" else "masks"), f"{name}-{made.kind}.dcm", made.data


def handovers(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Findings of every kind, and none."""
    source = SourceSeries.read(write(ct_series(8, LESION_PIXELS), folder / "images"))
    for name, findings in (("everything", everything(source)), ("nothing", Findings())):
        save(
            folder / name,
            Handover(
                findings=findings,
                algorithm=ALGORITHM,
                device="cpu",
                analysed_at=datetime(2026, 3, 4, tzinfo=UTC),
                timings={"run": 1.0},
                peak_memory_mib={"host": 1.0},
            ),
        )
        yield f"{name}.npz", (folder / name / "findings.npz").read_bytes()


def models(folder: Path) -> Iterator[tuple[str, str, bytes]]:
    """Metadata of a bundle, plans and data set of nnU-Net, options of a model file."""
    for name, detection in (("segmentation", False), ("detection", True)):
        root = write_bundle(folder / name, detection=detection, inputs=1 + detection)
        yield "bundle", f"{name}.json", (root / "configs" / "metadata.json").read_bytes()
    labels = {"background": 0, "whole": [1, 2], "core": 2, "ignore": 3}
    root = write_results(folder / "nnunet", weights=[{"w": torch.zeros(1)}], labels=labels)
    both = [(root / name).read_bytes() for name in ("plans.json", "dataset.json")]
    yield "nnunet", "regions.json", b"\n".join(both)
    yield "model-options", "spleen.json", json.dumps(OPTIONS).encode()


def main(corpus: Path) -> None:
    """Write every example that is not there yet."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        made = [(target, name, data) for name, data in images() for target in ("header", "frames", "objects")]
        made += results(folder / "results")
        made += [("handover", name, data) for name, data in handovers(folder / "handover")]
        made += models(folder / "models")
        made.append(("config", "small.toml", CONFIG.encode()))
        made += [("objects", name, data) for target, name, data in made if target in ("report", "masks")]
        body = b"".join(b"\r\n--b\r\nContent-Type: application/dicom\r\n\r\n" + data for _, data in list(images())[:2])
        kind = b'multipart/related; type="application/dicom"; boundary=b'
        query = b"PatientName=A*&StudyDate=20250101-&limit=5&00100020=1"
        made.append(("requests", "two.http", b"\n".join((kind, query, body + b"\r\n--b--\r\n"))))
    for number, path in enumerate(sorted((corpus / "forms").glob("*.form"))):
        made.append(("pages", path.name, bytes([number, 0]) + b"q=CT\n" + path.read_bytes()))
    for number, kind in enumerate(("explicit", "implicit", "big", "deflated")):
        made += [("walk", p.name, bytes([number]) + p.read_bytes()) for p in sorted(corpus.glob(f"*.{kind}"))]
    for path in sorted(corpus.glob("*.pdu")):
        data = path.read_bytes()
        request = data[: 6 + int.from_bytes(data[2:6], "big")]
        made.append(("pdu", path.name, request))
        rest = data[len(request) :]
        if rest[11:12] == b"\3":
            made.append(("pdu", f"{path.stem}.command", b"\4" + rest[12 : 10 + int.from_bytes(rest[6:10], "big")]))
    for target, name, data in made:
        path = corpus / target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.write_bytes(data)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
