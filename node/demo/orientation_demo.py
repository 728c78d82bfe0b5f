"""The orientation phantom on its walk: written, analysed as ``ainode try`` does it, sent to the node."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom.presentation import build_context

from node.config import Config, Destination, PipelineTable
from node.deliver.association import Peer, Timeouts, associate
from node.demo.orientation_phantom import write_orientation
from node.errors import DeliveryError, GateError
from node.inference.try_pipeline import run_trial

KINDS = ("seg", "sr", "key images")
_READER = PipelineTable(factory="node.demo.orientation_reader:create")


@dataclass(frozen=True, kw_only=True)
class PhantomStudy:
    """One phantom study."""

    plane: str
    study_instance_uid: str
    images: tuple[Path, ...]
    results: tuple[Path, ...]
    """SEG, SR and key images."""


def make(folder: Path, plane: str) -> PhantomStudy:
    """Write the phantom in ``plane`` to ``folder/images`` and what is found in it to ``folder/results``.

    Raises ``GateError`` when the results are not fit to be sent.
    """
    truth = write_orientation(folder / "images", plane)
    trial = run_trial(
        "orientation", _READER, folder / "images", folder / "results", device="cpu", progress=_quietly, kinds=KINDS
    )
    (series,) = trial.series
    if series.fault or not series.files:
        raise GateError(f"orientation phantom, {plane}: {series.fault or series.reason}")
    return PhantomStudy(
        plane=plane, study_instance_uid=truth.study_instance_uid, images=truth.paths, results=series.files
    )


def _quietly(_what: str, _done: int, _total: int) -> None:
    """It takes seconds."""


def send_to_node(config: Config, images: Sequence[Path]) -> None:
    """C-STORE to the node of this machine. Raises ``DeliveryError`` when it does not take an image."""
    peer = Peer.of("this node", Destination.of_node(config.ae))
    context = build_context(CTImageStorage, ExplicitVRLittleEndian)
    with associate(peer, config.ae.title, [context], Timeouts()) as association:
        for path in images:
            answer = association.send_c_store(path)
            if answer.get("Status") != 0x0000:
                status = f"0x{answer.Status:04X}" if "Status" in answer else "none"
                raise DeliveryError(f"{peer}: status of C-STORE is {status}; its log says why")
