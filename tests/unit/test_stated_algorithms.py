"""What results of somebody else say about who made them, and their texts."""

from __future__ import annotations

from pathlib import Path

import pytest
from dicom_files import ct_series, write
from lesion_studies import with_lesion
from pydicom import Dataset, dcmread
from reader_edits import workstation_seg

from node.studies.source import SourceSeries
from pipelines.container.options import ResultOptions
from pipelines.container.results import Results
from pipelines.container.stated_algorithms import stated_algorithms


@pytest.fixture
def made(tmp_path: Path) -> tuple[SourceSeries, Dataset]:
    """A series, and a SEG on it by somebody else."""
    source = SourceSeries.read(write(ct_series(volume=with_lesion((6, 32, 32))), tmp_path / "images"))
    return source, workstation_seg(source, {"Mass": source.volume().array > 0})


def item(code: str, value_type: str, **values: object) -> Dataset:
    name = Dataset()
    name.CodeValue = code
    made = Dataset()
    made.ConceptNameCodeSequence, made.ValueType = [name], value_type
    for keyword, value in values.items():
        setattr(made, keyword, value)
    return made


def report(*items: Dataset) -> Dataset:
    made = Dataset()
    made.Modality, made.ContentSequence = "SR", list(items)
    made.Manufacturer, made.ManufacturerModelName, made.SoftwareVersions = "Cloud Inc.", "Station", ["2", "3"]
    return made


def test_segments_and_reports_name_their_algorithms_once(made: tuple[SourceSeries, Dataset]):
    _, seg = made
    identified = Dataset()
    identified.AlgorithmName, identified.AlgorithmVersion = "LungSeg", "4.1"
    seg.SegmentSequence[0].SegmentationAlgorithmIdentificationSequence = [identified]
    group = item(
        "125007",
        "CONTAINER",
        ContentSequence=[
            item("111001", "TEXT", TextValue="NoduleFinder"),
            item("111003", "TEXT", TextValue="7\n beta"),
        ],
    )
    assert stated_algorithms([seg, seg, report(group), Dataset()]) == ["LungSeg 4.1", "NoduleFinder 7 beta"]
    seg.SegmentSequence[0].SegmentationAlgorithmIdentificationSequence = []
    seg.SegmentSequence[0].SegmentAlgorithmName = "Plain"
    assert stated_algorithms([seg]) == ["Plain"]


def test_where_no_algorithm_is_stated_the_equipment_is_and_names_are_bounded():
    assert stated_algorithms([report()]) == ["Cloud Inc. Station 2/3"]
    many = [report(item("111001", "TEXT", TextValue=f"{number} {'x' * 300}")) for number in range(9)]
    names = stated_algorithms(many)
    assert (len(names), {len(name) for name in names}) == (5, {100})
    assert stated_algorithms([Dataset()]) == []


def test_the_result_says_who_made_it_and_keeps_a_label_with_a_backslash(
    made: tuple[SourceSeries, Dataset], tmp_path: Path
):
    source, seg = made
    seg.SegmentSequence[0].SegmentLabel = ["Mass", "left"]
    seg.SegmentSequence[0].SegmentAlgorithmName = "CloudSeg"
    (tmp_path / "out").mkdir()
    seg.save_as(tmp_path / "out" / "result.dcm", enforce_file_format=True)
    header = dcmread(source.paths[0], stop_before_pixels=True)
    options = ResultOptions(name="Cloud", version="1", modality="CT")
    findings = Results(folder=tmp_path / "out", options=options, images=source.volume(), source=header).findings()
    assert [segment.label for segment in findings.all_segments] == ["Mass/left"]
    assert findings.remarks == ("Algorithm as the result itself states it: CloudSeg.",)
