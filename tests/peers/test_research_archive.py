"""A research destination gets images, segmentation and report of nobody: Orthanc as the foreign site."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import delivery_jobs as jobs
import identified
import numpy as np
import pytest
import real_peers
from analyses import analysis, halved, source_of, two_lesions
from dicom_files import ct_series, secondary_capture, write
from head_phantom import Head, ct
from pydicom import dcmread
from pydicom.dataset import FileDataset
from receipts import receipt

from node.config.deidentify import Deidentify
from node.deidentify.calls import deidentify_file
from node.deidentify.profile_of_destination import Profile
from node.deliver import deidentified
from node.deliver.reconcile import reconcile
from node.errors import DeliveryError, GateError, InputError
from node.ledger.engine import begin_immediate
from node.ledger.instances import record_instances
from node.pipeline import Findings
from node.results.encode import encode
from node.results.iod import iod_faults

ALL = ("clean pixel data", "clean descriptors", "modified dates", "device identity", "patient characteristics")


@dataclass(frozen=True)
class Study:
    """Images and results of one patient."""

    images: list[FileDataset]
    results: list[FileDataset]
    kinds: dict[str, str]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    images = identified.identify(ct_series(5, 32))
    source = source_of(tmp_path_factory.mktemp("source"), images)
    both = two_lesions(source)
    findings = Findings(
        lesions=both.lesions, derived=halved(source).derived, remarks=("Mrs Kowalska was born on 1953-07-17.",)
    )
    objects = encode(analysis(findings), source)
    return Study(
        images=[identified.reread(image) for image in images],
        results=[encoded.dataset for encoded in objects],
        kinds={str(encoded.dataset.SOPInstanceUID): encoded.kind for encoded in objects},
    )


@pytest.fixture
def research_site(tmp_path: Path) -> Iterator[real_peers.Orthanc]:
    """An Orthanc of its own: the index of one that other tests have used keeps bytes of what they have deleted."""
    with real_peers.orthanc(tmp_path / "site") as running:
        yield running


@pytest.mark.parametrize("options", [(), ALL])
def test_a_research_site_gets_images_seg_and_sr_without_anything_that_identifies(
    options: tuple[str, ...], study: Study, tmp_path: Path, research_site: real_peers.Orthanc
) -> None:
    everything = [*study.images, *study.results]
    assert identified.remains(b"".join(_bytes(dataset) for dataset in everything)), "the source has nothing to find"
    table = jobs.destination(research_site, deidentify="basic", deidentify_options=options, find=True)
    job = jobs.FinishedJob(tmp_path / "node", everything, {"research": table}, kinds=study.kinds)
    job.deliver("research")
    assert job.status("research").state == "CONFIRMED"

    received = [research_site.download(uid) for uid in research_site.instances()]
    assert sorted(dataset.Modality for dataset in received) == sorted(dataset.Modality for dataset in everything)
    stored = b"".join(path.read_bytes() for path in (tmp_path_of(research_site)).rglob("*") if path.is_file())
    assert len(stored) > 10_000
    searched = [text for text in identified.remains(stored) if text not in _retained(options)]
    assert searched == []
    assert [uid for uid in identified.uids(everything) if uid.encode() in stored] == []
    _references_resolve(received)
    faults = {fault for dataset in everything for fault in iod_faults(dataset)}
    assert [fault for dataset in received for fault in iod_faults(dataset) if fault not in faults] == []
    assert {dataset.PatientIdentityRemoved for dataset in received} == {"YES"}
    assert len({dataset.PatientID for dataset in received}) == 1
    pixels = {dataset.PixelData for dataset in everything if "PixelData" in dataset}
    assert {dataset.PixelData for dataset in received if "PixelData" in dataset} == pixels
    at = datetime.now().astimezone()
    assert reconcile(job.config, job.engine, "research", days=1, at=at).lost == ()


def tmp_path_of(pacs: real_peers.Orthanc) -> Path:
    """Where Orthanc keeps its files and its index."""
    return pacs.log.parent / "database"


def _retained(options: tuple[str, ...]) -> set[str]:
    return {"CTROOM7B", "SN-998877"} if "device identity" in options else set()


def _bytes(dataset: FileDataset) -> bytes:
    return repr(dataset).encode() + str(dataset.PatientName).encode()


def _references_resolve(received: list[FileDataset]) -> None:
    held = identified.uids(received)
    for dataset in received:
        for keyword, uid in identified.references(dataset):
            assert uid in held, f"{dataset.Modality}: {keyword} {uid}"
    seg = next(dataset for dataset in received if dataset.Modality == "SEG")
    images = {str(dataset.SOPInstanceUID) for dataset in received if dataset.Modality == "CT"}
    assert {uid for keyword, uid in identified.references(seg) if keyword == "ReferencedSOPInstanceUID"} & images


def test_what_may_have_text_in_its_pixels_is_withheld_and_stays_visible(
    study: Study, tmp_path: Path, pacs: real_peers.Orthanc
) -> None:
    screen = secondary_capture(study=str(study.images[0].StudyInstanceUID))
    table = jobs.destination(pacs, deidentify="basic")
    job = jobs.FinishedJob(tmp_path, [study.images[0], screen], {"research": table})
    with pytest.raises(DeliveryError, match=r"1 of 2 objects stored; first that is withheld: .*Secondary Capture"):
        job.deliver("research")
    assert len(pacs.instances()) == 1
    status, comment = job.answers()[str(screen.SOPInstanceUID)]
    assert status is None
    assert "may show text or a face" in comment
    assert "Kowalska" not in comment


def test_text_of_a_known_device_is_blanked_on_the_way(study: Study, tmp_path: Path, pacs: real_peers.Orthanc) -> None:
    screen = secondary_capture(study=str(study.images[0].StudyInstanceUID))
    screen.Manufacturer, screen.ManufacturerModelName = "Maker", "Screen 3"
    job = jobs.FinishedJob(tmp_path, [screen], {"research": jobs.destination(pacs, deidentify="basic")})
    size = {"rows": screen.Rows, "columns": screen.Columns}
    mask = {"manufacturer": "maker", "model": "screen*", **size, "areas": ((0, 0, screen.Columns, 2),)}
    job.config = job.config.model_copy(update={"deidentify": Deidentify.model_validate({"masks": (mask,)})})
    before = set(pacs.instances())
    job.deliver("research")
    (uid,) = set(pacs.instances()) - before
    received = pacs.download(uid)
    assert (received.BurnedInAnnotation, received.pixel_array[:2].any()) == ("NO", False)
    assert received.pixel_array[2:].any()


def test_a_head_leaves_without_its_surface_as_the_whole_series_shows_it(
    tmp_path: Path, pacs: real_peers.Orthanc
) -> None:
    kind = Head().tissue((30, 40, 36), (6.0, 6.0, 6.0), np.array([-105.0, -126.0, -125.0]))
    images = ct_series(volume=ct(kind), spacing=(6.0, 6.0, 6.0))
    chosen, study = images[15], str(images[0].StudyInstanceUID)
    options = ("clean recognizable visual features",)
    table = jobs.destination(pacs, deidentify="basic", deidentify_options=options)
    job = jobs.FinishedJob(tmp_path, [chosen], {"research": table}, kinds={str(chosen.SOPInstanceUID): "derived"})
    with begin_immediate(job.engine) as connection:
        for image in images:
            uid = str(image.SOPInstanceUID)
            buffer = BytesIO()
            image.save_as(buffer, enforce_file_format=True)
            kept = job.spool.keep(study, "1.2.3", uid, [buffer.getvalue()])
            of = {"study_instance_uid": study, "series_instance_uid": "1.2.3", "path": kept.path}
            record_instances(connection, [receipt(uid, at=0.5, **of)])
    before = set(pacs.instances())
    job.deliver("research")
    (uid,) = set(pacs.instances()) - before
    received = pacs.download(uid)
    blank = received.pixel_array == 24
    assert blank[0].all()
    assert 0.1 < blank[kind[15] > 0].mean() < 0.6
    np.testing.assert_array_equal(received.pixel_array[~blank], chosen.pixel_array[~blank])


def test_a_peer_without_the_transfer_syntax_gets_the_deidentified_object_converted(
    study: Study, tmp_path: Path
) -> None:
    with real_peers.storescp(tmp_path, "+xi") as peer:  # Implicit VR alone
        table = jobs.destination(peer, deidentify="basic")
        job = jobs.FinishedJob(tmp_path / "node", study.images[:1], {"research": table})
        job.deliver("research")
        (path,) = peer.files()
    assert identified.remains(path.read_bytes()) == []
    assert dcmread(path).file_meta.TransferSyntaxUID.is_implicit_VR


def test_an_archive_that_ends_idle_associations_gets_images_that_take_long(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = deidentified.deidentified

    @contextmanager
    def make_slowly(*of: Any) -> Iterator[Any]:
        with make(*of) as made:
            time.sleep(4.0)
            yield made

    monkeypatch.setattr(deidentified, "deidentified", make_slowly)
    monkeypatch.setattr(deidentified, "_IDLE_SECONDS", 1.0)
    with real_peers.orthanc(tmp_path / "site", DicomScpTimeout=2) as site:
        table = jobs.destination(site, deidentify="basic")
        job = jobs.FinishedJob(tmp_path / "node", study.images[:2], {"research": table})
        job.deliver("research")
        assert len(site.instances()) == 2


@pytest.mark.skipif("AINODE_DATA" not in os.environ, reason="AINODE_DATA names no data folder")
@pytest.mark.parametrize("options", [(), ALL])
@pytest.mark.parametrize("folder", ["studies", "zoo"])
def test_of_real_files_nothing_that_identifies_is_left(folder: str, options: tuple[str, ...], tmp_path: Path) -> None:
    done = 0
    for path in sorted((Path(os.environ["AINODE_DATA"]) / folder).rglob("*")):
        if not path.is_file() or path.suffix in (".md", ".json"):
            continue
        profile = Profile(key=bytes(32), destination="research", options=options)
        try:
            deidentify_file(path, profile, tmp_path / "out.dcm", is_result=False)
        except (GateError, InputError):
            continue
        before, after = dcmread(path, force=True), (tmp_path / "out.dcm").read_bytes()
        own = {str(before.get(keyword, "")) for keyword in ("PatientID", "PatientName", "AccessionNumber")}
        own |= identified.uids([before])
        assert [text for text in own if len(text) > 7 and text.encode() in after] == [], path
        done += 1
    assert done > 10


def test_the_same_image_is_the_same_at_one_destination_and_another_at_the_next(study: Study, tmp_path: Path) -> None:
    (path,) = write(study.images[:1], tmp_path / "image")
    files = []
    for number, (key, destination) in enumerate([(b"k", "one"), (b"k", "one"), (b"k", "two"), (b"l", "one")]):
        profile = Profile(key=key * 32, destination=destination, options=())
        deidentify_file(path, profile, tmp_path / str(number), is_result=False)
        files.append((tmp_path / str(number)).read_bytes())
    assert files[0] == files[1]
    assert identified.remains(b"".join(files)) == []
    assert len({dcmread(tmp_path / str(number)).PatientID for number in range(4)}) == 3
