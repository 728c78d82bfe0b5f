"""Results about several series of a study come back: each part is read once, by the job on the series it is about."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import real_peers
from pydicom import FileDataset
from pydicom.uid import generate_uid
from round_trips import (
    EXTRA,
    also_made_of,
    analysed,
    decision,
    held,
    masses,
    measured,
    send_back,
    sent_away,
    series_of,
    until,
    values,
)
from whole_node import WholeNode, whole_node

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
    folder, extra = tmp_path_factory.mktemp("node"), EXTRA.format(cloud.port)
    with whole_node(folder, pacs.port, title="STORESCP", extra=extra, rule='send = ["cloud"]') as running:
        yield running


def reports(pacs: real_peers.StoreScp, series: list[FileDataset]) -> list[FileDataset]:
    """Reports of the service on a series, as they are delivered."""
    study, uid = str(series[0].StudyInstanceUID), str(series[0].SeriesInstanceUID)
    every = [report for report in held(pacs, study) if report.Modality == "SR" and "Mass finder" in str(report)]
    return [report for report in every if uid in str(report.CurrentRequestedProcedureEvidenceSequence)]


def test_a_report_on_two_series_becomes_a_report_on_each_with_its_own_lesions(
    node: WholeNode, cloud: real_peers.StoreScp, pacs: real_peers.StoreScp, tmp_path: Path
):
    frame = generate_uid()
    images, received = sent_away(node, cloud, tmp_path, (frame, frame, frame))
    first, second, third = (series_of(received, number) for number in range(3))
    groups = [(11.0, first[2:3]), (22.0, second[2:4]), (33.0, [second[0], first[0]]), (44.0, [])]
    report = measured(groups, [*first, *second, *third])
    seg = analysed(second, tmp_path / "away")
    send_back(node, [report, seg], tmp_path / "back")
    ours = [series_of(images, number) for number in range(3)]
    (of_second,) = until(lambda: reports(pacs, ours[1]))
    (of_first,) = until(lambda: reports(pacs, ours[0]))
    assert {11.0, 44.0} <= set(values(of_first)), "what names no image is about the first series that the report names"
    assert {22.0, 33.0} <= set(values(of_second)), "what names several is about the first of them"
    assert not {22.0, 33.0} & set(values(of_first))
    assert not {11.0, 44.0} & set(values(of_second))
    assert len(masses(pacs, str(images[0].StudyInstanceUID))) == 1
    study = str(report.StudyInstanceUID)
    why = decision(node, study, str(report.SeriesInstanceUID))
    assert why.startswith("it came back from cloud about several series, each of which has a job that reads its part: ")
    jobs = why.partition("its part: ")[2].split(", ")
    assert len(jobs) == 2
    assert (
        decision(node, study, str(seg.SeriesInstanceUID))
        .removeprefix("it came back from cloud, and job ")
        .removesuffix(" reads it")
        in jobs
    )
    assert reports(pacs, ours[2]) == [], "nothing was measured on the third one"


def test_a_segmentation_made_of_two_series_is_read_on_the_one_on_which_it_lies(
    node: WholeNode, cloud: real_peers.StoreScp, pacs: real_peers.StoreScp, tmp_path: Path
):
    images, received = sent_away(node, cloud, tmp_path, (generate_uid(), generate_uid()))
    other, own = series_of(received, 0), series_of(received, 1)
    send_back(node, [also_made_of(analysed(own, tmp_path / "away"), other)], tmp_path / "back")
    (seg,) = until(lambda: masses(pacs, str(images[0].StudyInstanceUID)))
    assert {series.SeriesInstanceUID for series in seg.ReferencedSeriesSequence} == {
        series_of(images, 1)[0].SeriesInstanceUID
    }
    assert seg.FrameOfReferenceUID == series_of(images, 1)[0].FrameOfReferenceUID


def test_a_segmentation_of_series_in_one_frame_of_reference_is_read_on_the_first_that_it_names(
    node: WholeNode, cloud: real_peers.StoreScp, pacs: real_peers.StoreScp, tmp_path: Path
):
    frame = generate_uid()
    images, received = sent_away(node, cloud, tmp_path, (frame, frame))
    first, own = series_of(received, 0), series_of(received, 1)
    result = also_made_of(analysed(own, tmp_path / "away"), first)
    send_back(node, [result], tmp_path / "back")
    (seg,) = until(lambda: masses(pacs, str(images[0].StudyInstanceUID)))
    assert {series.SeriesInstanceUID for series in seg.ReferencedSeriesSequence} == {
        series_of(images, 0)[0].SeriesInstanceUID
    }
    assert seg.pixel_array.sum() == result.pixel_array.sum()


def test_a_segmentation_that_lies_on_none_of_its_series_is_ignored_with_the_reason(
    node: WholeNode, cloud: real_peers.StoreScp, tmp_path: Path
):
    _, received = sent_away(node, cloud, tmp_path, (generate_uid(), generate_uid()))
    result = also_made_of(analysed(series_of(received, 1), tmp_path / "away"), series_of(received, 0))
    result.FrameOfReferenceUID = generate_uid()
    send_back(node, [result], tmp_path / "back")
    assert decision(node, str(result.StudyInstanceUID)) == (
        "it came back from cloud, names 2 of the series that were sent there, and lies in the frame of reference of "
        "none of them: on which one it belongs cannot be known"
    )
