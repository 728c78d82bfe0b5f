"""Images that a node refuses, loses or mistakes: what its PACS then holds says so. One node, one PACS, ten losses."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import raw_peer
import real_peers
from bright_pipeline import BRIGHT
from dicom_files import ct_series, write
from pydicom import Dataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage
from receivers import associate, encode, send
from whole_node import WholeNode, whole_node

SR3D = "1.2.840.10008.5.1.4.1.1.88.34"
CALLERS = """
[[ae.callers]]
title = "CT1"
[[ae.callers]]
title = "SMALL1"
quota_gib = 0.00004
[[ae.callers]]
title = "SMALL2"
quota_gib = 0.00004
[[ae.callers]]
title = "RAW"
[[ae.callers]]
title = "ABORTS"
aborts_after_transfer = true
"""
"""The quota has room for about half a series."""


def chest(*, lesion: bool = False) -> list[Dataset]:
    """Eight images of some 10 KB."""
    volume = np.full((8, 64, 64), -800, np.int32)
    if lesion:
        volume[2:4, 20:24, 5:10] = BRIGHT + 100
    return list(ct_series(volume=volume))


def store(
    node: WholeNode, folder: Path, images: Sequence[Dataset], *options: str, calling: str = "CT1", refused: bool = False
) -> None:
    """With dcmtk's storescu, which goes on after a refusal. ``refused``: whether the node refuses some of them."""
    paths = write(images, folder)
    command = ("storescu", "-nh", *options, "-aet", calling, "-aec", "AINODE", "127.0.0.1", node.port, *paths)
    real_peers.dcmtk(*command, check=not refused)


def damaged(node: WholeNode, images: Sequence[Dataset], bad: Sequence[int], **changes: Any) -> None:
    """On one association; of the ``bad`` ones the data set is cut, or the request says something else."""
    peer = associate(node, [(CTImageStorage, ExplicitVRLittleEndian)], calling="CT1")  # type: ignore[arg-type]
    for index, image in enumerate(images):
        if index in bad:
            for keyword, value in changes.items():
                setattr(image, keyword, value)
        whole = encode(image)
        send(peer, CTImageStorage, image.SOPInstanceUID, whole[:-9] if index in bad and not changes else whole)
    peer.release()


def quota(node: WholeNode, folder: Path) -> str:
    images = chest()
    store(node, folder, images, calling="SMALL1", refused=True)
    return str(images[0].StudyInstanceUID)


def quota_with_a_lesion_in_what_came(node: WholeNode, folder: Path) -> str:
    images = chest(lesion=True)
    store(node, folder, images, calling="SMALL2", refused=True)
    return str(images[0].StudyInstanceUID)


def aborted(node: WholeNode, folder: Path) -> str:
    images = chest()
    store(node, folder, images[:5], "--abort")
    return str(images[0].StudyInstanceUID)


def aborted_as_usual(node: WholeNode, folder: Path) -> str:
    images = chest()
    store(node, folder, images, "--abort", calling="ABORTS")
    return str(images[0].StudyInstanceUID)


def cut_off(node: WholeNode, _folder: Path) -> str:
    images = chest()
    with raw_peer.associated(node) as peer:  # type: ignore[arg-type]
        for image in images[:6]:
            command = raw_peer.p_data(raw_peer.COMMAND, raw_peer.c_store(image.SOPInstanceUID))
            peer.sendall(command + raw_peer.p_data(raw_peer.LAST, encode(image)))
            assert raw_peer.status(raw_peer.answer(peer)) == 0x0000
        command = raw_peer.p_data(raw_peer.COMMAND, raw_peer.c_store(images[6].SOPInstanceUID))
        peer.sendall(command + raw_peer.p_data(raw_peer.MORE, encode(images[6])[:4000]))
    return str(images[0].StudyInstanceUID)


def collision(node: WholeNode, folder: Path) -> str:
    images = chest()
    for first, second in ((0, 6), (1, 7)):
        images[second].SOPInstanceUID = images[first].SOPInstanceUID
        images[second].file_meta.MediaStorageSOPInstanceUID = images[first].SOPInstanceUID
    store(node, folder / "one", images[:6])  # files are named by their UIDs
    store(node, folder / "other", images[6:])
    return str(images[0].StudyInstanceUID)


def first_of_all(node: WholeNode, _folder: Path) -> str:
    images = chest()
    damaged(node, images, [0])
    return str(images[0].StudyInstanceUID)


def another_class(node: WholeNode, _folder: Path) -> str:
    images = chest()
    damaged(node, images, [7], SOPClassUID=MRImageStorage)
    return str(images[0].StudyInstanceUID)


def two_interleaved(node: WholeNode, _folder: Path) -> str:
    images, others = chest(), chest()
    both = [image for pair in zip(images, others, strict=True) for image in pair]
    damaged(node, both, [12, 14])
    return str(images[0].StudyInstanceUID)


def never_in_doubt(node: WholeNode, folder: Path) -> str:
    images = chest()
    store(node, folder, images)
    return str(images[0].StudyInstanceUID)


LOSSES: dict[str, tuple[Callable[[WholeNode, Path], str], str, str]] = {
    "quota": (quota, "partial", "refused: the upper"),
    "quota, lesion": (quota_with_a_lesion_in_what_came, "partial", "refused: the upper"),
    "aborted": (aborted, "no findings", "The sender broke off; the series may be incomplete."),
    "aborted as usual": (aborted_as_usual, "no findings", "Outcome: no findings"),
    "cut off": (cut_off, "partial", "6 images received, 1 cut off in transfer: the upper 2 mm were not analysed"),
    "collision": (collision, "partial", "6 images received, 2 not used because the UID was that of another image"),
    "first": (first_of_all, "partial", "7 images received, 1 refused: the lower 2 mm were not analysed"),
    "another class": (another_class, "partial", "7 images received, 1 refused: the upper 2 mm were not analysed"),
    "interleaved": (two_interleaved, "partial", "6 images received, 2 refused: the upper 5 mm were not analysed"),
    "none": (never_in_doubt, "no findings", "Outcome: no findings"),
}
"""How it is sent, the outcome, and words of the report."""


@pytest.fixture(scope="module")
def pacs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[real_peers.Orthanc]:
    with real_peers.orthanc(tmp_path_factory.mktemp("pacs")) as running:
        yield running


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory, pacs: real_peers.Orthanc) -> Iterator[WholeNode]:
    with whole_node(tmp_path_factory.mktemp("node"), pacs.dicom_port, extra=CALLERS) as running:
        yield running


@pytest.fixture(scope="module")
def studies(node: WholeNode, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """All are sent at once, so that they wait for their deadlines together."""
    return {name: loss[0](node, tmp_path_factory.mktemp("images")) for name, loss in LOSSES.items()}


def comments(found: dict[str, Any], pacs: real_peers.Orthanc) -> list[str]:
    """The texts of the newest report, as the PACS holds it."""
    job = max((job for series in found["series"] for job in series["jobs"]), key=lambda job: int(job["generation"]))
    (uid,) = [made["sop_instance_uid"] for made in job["results"] if made["sop_class_uid"] == SR3D]
    texts: list[str] = []

    def walk(items: Sequence[Dataset]) -> None:
        for item in items:
            if item.get("ValueType") == "TEXT":
                texts.append(str(item.TextValue))
            walk(item.get("ContentSequence", ()))

    walk(pacs.download(uid).ContentSequence)
    return texts


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", LOSSES)
def test_the_report_in_the_pacs_says_what_is_missing(
    node: WholeNode, pacs: real_peers.Orthanc, studies: dict[str, str], name: str
) -> None:
    _, outcome, words = LOSSES[name]
    explanation = node.finished(studies[name], 1, 300.0)
    (job,) = [job for series in explanation["series"] for job in series["jobs"]]
    assert job["outcome"] == outcome
    texts = comments(explanation, pacs)
    assert any(words in text for text in texts), texts
    assert any(text.startswith(f"Outcome: {outcome}") for text in texts)
    account = node.ainode("account").stdout
    told = f"NOT TAKEN: images of series {job['series_instance_uid']}" in account
    assert told is ("refused" in words or "cut off" in words)


@pytest.mark.timeout(600)
def test_what_was_refused_and_is_sent_again_gives_a_report_on_the_whole(
    node: WholeNode, pacs: real_peers.Orthanc, studies: dict[str, str], tmp_path: Path
) -> None:
    images = chest()
    damaged(node, images, [5, 6, 7])
    study = str(images[0].StudyInstanceUID)
    first = node.finished(study, 1, 300.0)
    assert "Outcome: partial" in " ".join(comments(first, pacs))
    store(node, tmp_path, images[5:])
    second = node.finished(study, 2, 300.0)
    assert "Outcome: no findings" in " ".join(comments(second, pacs))
    assert "refused" not in " ".join(comments(second, pacs))
