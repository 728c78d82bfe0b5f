"""Studies with a bright cube for a whole node, and what came of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import real_peers
from bright_pipeline import BRIGHT
from pydicom import FileDataset
from whole_node import WholeNode

SR3D = "1.2.840.10008.5.1.4.1.1.88.34"


CUBE = (slice(2, 4), slice(20, 24), slice(5, 10))


def with_lesion(shape: tuple[int, int, int] = (6, 32, 32), background: float = -800.0) -> np.ndarray:
    volume = np.full(shape, background)
    volume[CUBE] = BRIGHT + 100
    return volume.astype(np.int32)


def store(node: WholeNode, folder: Path, *options: str) -> None:
    real_peers.dcmtk("storescu", "-aec", "AINODE", *options, "+sd", "127.0.0.1", node.port, folder)


def results(found: dict[str, Any], pacs: real_peers.Orthanc) -> dict[str, list[FileDataset]]:
    """What the PACS holds of the results that the ledger lists, by SOP Class UID."""
    held: dict[str, list[FileDataset]] = {}
    for series in found["series"]:
        for job in series["jobs"]:
            for made in job["results"]:
                held.setdefault(made["sop_class_uid"], []).append(pacs.download(made["sop_instance_uid"]))
    return held
