"""Studies that leave a node under pseudonyms, and what an AI service outside makes of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import highdicom as hd
import identified
import real_peers
from dicom_files import ct_series, write
from lesion_studies import store, with_lesion
from pydicom import Dataset, FileDataset, dcmread
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid
from reader_edits import workstation_seg
from whole_node import WholeNode

from node.studies.source import SourceSeries

EXTRA = """
[destinations.cloud]
title = "CLOUD"
host = "127.0.0.1"
port = {}
deidentify = "basic"
results_to = ["pacs"]
[pipelines.cloud-mass]
factory = "returned:cloud"
[pipelines.cloud-mass.options]
name = "Mass finder"
version = "4.1"
modality = "CT"
looked_for = ["Mass"]
"""
SEG = "1.2.840.10008.5.1.4.1.1.66.4"


def until(found: Callable[[], list[FileDataset]], number: int = 1) -> list[FileDataset]:
    deadline = time.monotonic() + 120.0
    while len(there := found()) < number:
        assert time.monotonic() < deadline, there
        time.sleep(0.3)
    return there


def held(peer: real_peers.StoreScp, study: str = "", before: set[str] = frozenset()) -> list[FileDataset]:  # type: ignore[assignment]
    """What a peer has of a study, or what came since ``before``."""
    every = (dcmread(path, force=True) for path in peer.files())
    return [
        dataset
        for dataset in every
        if "SOPInstanceUID" in dataset
        and str(dataset.SOPInstanceUID) not in before
        and study in ("", str(dataset.StudyInstanceUID))
    ]


def sent_away(
    node: WholeNode, cloud: real_peers.StoreScp, folder: Path, frames: Sequence[str] = ("",)
) -> tuple[list[FileDataset], list[FileDataset]]:
    """A study with a mass as it is here, and as the AI service got it.

    ``frames``: frame of reference of each series; empty: one of its own.
    """
    before = {str(dataset.SOPInstanceUID) for dataset in held(cloud)}
    study = generate_uid()
    images = []
    for number, frame in enumerate(frames):
        series = identified.identify(ct_series(volume=with_lesion((6, 32, 32)), study=study))
        for image in series:
            image.SeriesNumber = number + 1
            image.FrameOfReferenceUID = frame or series[0].FrameOfReferenceUID
        write(series, folder / f"in{number}")
        store(node, folder / f"in{number}")
        images += series
    return images, until(lambda: held(cloud, before=before), len(images))


def series_of(images: Sequence[FileDataset], number: int) -> list[FileDataset]:
    """Images of the series of this number, from 0."""
    return sorted(
        (image for image in images if image.SeriesNumber == number + 1), key=lambda image: image.InstanceNumber
    )


def analysed(received: list[FileDataset], folder: Path) -> FileDataset:
    """What the AI service makes of the images."""
    paths = write(received, folder)
    source = SourceSeries.read(paths)
    mask = source.volume().array > 0
    assert 0 < mask.sum() < mask.size / 2
    order = [source.paths.index(path) for path in source.paths]
    return workstation_seg(source, {"Mass": mask[order]}, algorithm="AUTOMATIC", manufacturer="Cloud AI")


def also_made_of(seg: FileDataset, others: Sequence[FileDataset]) -> FileDataset:
    """The SEG with images of another series, which each frame and the SEG itself name first."""
    item = Dataset()
    item.SeriesInstanceUID = others[0].SeriesInstanceUID
    item.ReferencedInstanceSequence = [_reference(image) for image in others]
    seg.ReferencedSeriesSequence = [item, *seg.ReferencedSeriesSequence]
    for frame, other in zip(seg.PerFrameFunctionalGroupsSequence, others, strict=False):
        derivation = frame.DerivationImageSequence[0]
        source = _reference(other)
        source.PurposeOfReferenceCodeSequence = derivation.SourceImageSequence[0].PurposeOfReferenceCodeSequence
        derivation.SourceImageSequence = [source, *derivation.SourceImageSequence]
    return seg


def measured(groups: Sequence[tuple[float, Sequence[FileDataset]]], evidence: Sequence[FileDataset]) -> FileDataset:
    """A report with a lesion for each group: its diameter in mm, and the images that it names."""
    observer = hd.sr.ObservationContext(
        observer_device_context=hd.sr.ObserverContext(
            codes.DCM.Device, hd.sr.DeviceObserverIdentifyingAttributes(uid=generate_uid(), name="Cloud AI")
        )
    )
    made = [
        hd.sr.MeasurementsAndQualitativeEvaluations(
            tracking_identifier=hd.sr.TrackingIdentifier(generate_uid(), f"Lesion {millimetres:g}"),
            finding_type=codes.SCT.Lesion,
            source_images=[hd.sr.SourceImageForMeasurementGroup.from_source_image(image) for image in images] or None,
            measurements=[hd.sr.Measurement(name=codes.SCT.Diameter, value=millimetres, unit=codes.UCUM.Millimeter)],
        )
        for millimetres, images in groups
    ]
    content = hd.sr.MeasurementReport(
        observation_context=observer, procedure_reported=codes.LN.CTUnspecifiedBodyRegion, imaging_measurements=made
    )
    return hd.sr.Comprehensive3DSR(
        evidence=list(evidence),
        content=content,
        series_number=800,
        series_instance_uid=generate_uid(),
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="Cloud AI",
    )


def _reference(image: FileDataset) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = image.SOPClassUID, image.SOPInstanceUID
    return item


def send_back(node: WholeNode, results: Sequence[FileDataset], folder: Path) -> None:
    write(list(results), folder)
    store(node, folder, "-R", "-aet", "CLOUD")


def decision(node: WholeNode, study: str, series: str = "") -> str:
    """Why a series was decided on as it was."""
    deadline = time.monotonic() + 60.0
    while True:
        rows: list[dict[str, Any]] = node.explain(study).get("series", [])
        for row in rows:
            if row["decisions"] and series in ("", row["series_instance_uid"]):
                return str(row["decisions"][0]["reason"])
        assert time.monotonic() < deadline, rows
        time.sleep(0.3)


def masses(pacs: real_peers.StoreScp, study: str) -> list[FileDataset]:
    return [seg for seg in held(pacs, study) if seg.SOPClassUID == SEG and "Mass" in str(seg.SegmentSequence)]


def values(item: Dataset) -> list[float]:
    """Every measurement of a report, those of lesions and those of the study."""
    own = [float(item.MeasuredValueSequence[0].NumericValue)] if item.get("ValueType") == "NUM" else []
    return own + [value for below in item.get("ContentSequence", ()) for value in values(below)]
