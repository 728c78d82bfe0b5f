"""Images leave under pseudonyms to somebody else's AI, whose results come back and get the right identity again."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import identified
import numpy as np
import pytest
import real_peers
from dicom_files import ct_series, write
from lesion_studies import with_lesion
from pydicom.uid import generate_uid
from reader_edits import workstation_seg
from round_trips import EXTRA, analysed, decision, held, masses, send_back, sent_away, until
from whole_node import WholeNode, whole_node

from node.studies.source import SourceSeries

pytestmark = pytest.mark.rotating


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[real_peers.StoreScp]:
    with real_peers.storescp(tmp_path_factory.mktemp("cloud"), aet="CLOUD") as running:
        yield running


@pytest.fixture(scope="module")
def pacs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[real_peers.StoreScp]:
    with real_peers.storescp(tmp_path_factory.mktemp("pacs")) as running:
        yield running


@pytest.fixture(scope="module")
def node(
    tmp_path_factory: pytest.TempPathFactory, cloud: real_peers.StoreScp, pacs: real_peers.StoreScp
) -> Iterator[WholeNode]:
    extra = EXTRA.format(cloud.port)
    with whole_node(
        tmp_path_factory.mktemp("node"), pacs.port, title="STORESCP", extra=extra, rule='send = ["cloud"]'
    ) as running:
        yield running


def test_a_result_under_a_pseudonym_gets_the_identity_of_its_images_again(
    node: WholeNode, cloud: real_peers.StoreScp, pacs: real_peers.StoreScp, tmp_path: Path
):
    images, received = sent_away(node, cloud, tmp_path)
    assert identified.remains(b"".join(path.read_bytes() for path in cloud.files())) == []
    result = analysed(received, tmp_path / "away")
    send_back(node, [result], tmp_path / "back")
    study = str(images[0].StudyInstanceUID)
    (seg,) = until(lambda: masses(pacs, study))
    assert (seg.PatientID, seg.PatientName) == (images[0].PatientID, images[0].PatientName)
    assert seg.FrameOfReferenceUID == images[0].FrameOfReferenceUID
    uids = {str(image.SOPInstanceUID) for image in images}
    named = {uid for keyword, uid in identified.references(seg) if keyword == "ReferencedSOPInstanceUID"}
    assert named
    assert named <= uids
    assert seg.pixel_array.sum() == result.pixel_array.sum()
    assert [uid for uid in identified.uids(received) if uid in str(seg)] == [], "nothing of the pseudonyms"
    (report,) = until(
        lambda: [report for report in held(pacs, study) if report.Modality == "SR" and "Mass finder" in str(report)]
    )
    assert "4.1" in str(report)
    assert "it came back from cloud, and job" in decision(node, str(result.StudyInstanceUID))


def test_a_result_about_images_that_were_not_sent_becomes_a_report_of_failure(
    node: WholeNode, cloud: real_peers.StoreScp, pacs: real_peers.StoreScp, tmp_path: Path
):
    images, received = sent_away(node, cloud, tmp_path)
    result = analysed(received, tmp_path / "away")
    for frame in result.PerFrameFunctionalGroupsSequence:
        frame.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID = generate_uid()
    send_back(node, [result], tmp_path / "back")
    study = str(images[0].StudyInstanceUID)
    until(lambda: [report for report in held(pacs, study) if report.Modality == "SR" and "NOT ANALYSED" in str(report)])
    assert masses(pacs, study) == []


def test_what_nobody_sent_away_is_no_result_that_comes_back(node: WholeNode, tmp_path: Path):
    images = ct_series(volume=with_lesion((6, 32, 32)), study=generate_uid(prefix="2.25."))
    paths = write(images, tmp_path / "in")
    result = workstation_seg(SourceSeries.read(paths), {"Mass": np.ones((6, 32, 32), bool)})
    send_back(node, [result], tmp_path / "back")
    assert decision(node, str(result.StudyInstanceUID)) == "no rule matches"


def test_what_comes_later_waits_for_a_retry_that_reads_it_all(
    node: WholeNode, cloud: real_peers.StoreScp, pacs: real_peers.StoreScp, tmp_path: Path
):
    images, received = sent_away(node, cloud, tmp_path)
    study = str(images[0].StudyInstanceUID)
    first, second = (analysed(received, tmp_path / name) for name in ("first", "second"))
    send_back(node, [first], tmp_path / "one")
    until(lambda: masses(pacs, study))
    second.SegmentSequence[0].SegmentLabel = "Other mass"
    send_back(node, [second], tmp_path / "two")
    job = decision(node, str(second.StudyInstanceUID), str(second.SeriesInstanceUID)).partition("`ainode retry ")[2]
    assert job
    command = [sys.executable, "-m", "node", "retry", job.partition("`")[0], "--config", str(node.config)]
    subprocess.run(command, check=True, env=node.environment)
    (seg,) = until(lambda: [mass for mass in masses(pacs, study) if "Other mass" in str(mass.SegmentSequence)])
    assert len(seg.SegmentSequence) == 2


def test_results_that_arrive_one_after_another_are_read_together(
    node: WholeNode, cloud: real_peers.StoreScp, pacs: real_peers.StoreScp, tmp_path: Path
):
    """While the second one arrives, the router waits with the job, and no worker is kept waiting."""
    images, received = sent_away(node, cloud, tmp_path)
    study = str(images[0].StudyInstanceUID)
    first, second = (analysed(received, tmp_path / name) for name in ("first", "second"))
    second.SegmentSequence[0].SegmentLabel = "Other mass"
    send_back(node, [first], tmp_path / "one")
    time.sleep(1.0)
    send_back(node, [second], tmp_path / "two")
    (seg,) = until(lambda: masses(pacs, study))
    assert {str(segment.SegmentLabel) for segment in seg.SegmentSequence} == {"Mass", "Other mass"}
    for result in (first, second):
        why = decision(node, str(result.StudyInstanceUID), str(result.SeriesInstanceUID))
        assert why.startswith("it came back from cloud, and job")
    assert "other results of its study are arriving" in str(node.explain(str(first.StudyInstanceUID)))
