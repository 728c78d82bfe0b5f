"""Results that come back under pseudonyms: what the configuration allows, and what is read of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from dicom_files import ct_series, write
from lesion_studies import with_lesion
from pydicom import Dataset, dcmread
from reader_edits import workstation_seg

from node.config import parse
from node.deidentify.pseudonyms import Pseudonyms
from node.errors import ConfigError, ReturnedError
from node.result_parts import references_of
from node.studies.source import SourceSeries
from pipelines.returned.pipeline import identify

PACS = '[destinations.pacs]\ntitle = "P"\nhost = "h"\nport = 104\n'
CLOUD = '[destinations.cloud]\ntitle = "C"\nhost = "h"\nport = 105\ndeidentify = "basic"\nresults_to = ["pacs"]\n'
MASS = '[pipelines.mass]\nfactory = "returned:cloud"\n'
RULE = '[[rules]]\nname = "r"\npipelines = ["mass"]\n'


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (PACS + MASS, "pipelines.mass.factory names destination 'cloud', which is not defined"),
        (PACS + MASS.replace("cloud", "pacs"), "names 'pacs', which needs deidentify = \"basic\""),
        (PACS + CLOUD, '0 pipelines read what comes back from it; give one of them factory = "returned:cloud"'),
        (PACS + CLOUD + MASS + MASS.replace("mass", "more"), "2 pipelines read what comes back"),
        (CLOUD + MASS, "results_to names 'pacs'; name another defined destination"),
        (PACS + CLOUD + MASS + RULE, "rule 'r' names pipeline 'mass', which runs when results come back"),
        (PACS + 'results_to = ["pacs"]\n', "results_to is for results under pseudonyms"),
    ],
)
def test_a_round_trip_that_cannot_work_is_refused_by_name(text: str, words: str):
    with pytest.raises(ConfigError) as refused:
        parse(text)
    assert words in str(refused.value)


def test_a_configured_round_trip_names_pipeline_and_source():
    assert parse(PACS + CLOUD + MASS).returned == {"mass": "cloud"}


@pytest.fixture
def returned(tmp_path: Path) -> tuple[Dataset, dict[str, str], Dataset]:
    """A SEG under pseudonyms, the UIDs by their pseudonyms, and the header of an image that was sent."""
    datasets = ct_series(volume=with_lesion((6, 32, 32)))
    pseudonym = Pseudonyms(b"k" * 32, "cloud").uid
    uids = {
        pseudonym(str(dataset[keyword].value)): str(dataset[keyword].value)
        for dataset in datasets
        for keyword in KEYWORDS
    }
    header = dcmread(write(datasets, tmp_path / "own")[0])
    for dataset in datasets:
        for keyword in (*KEYWORDS, "FrameOfReferenceUID"):
            dataset[keyword].value = pseudonym(str(dataset[keyword].value))
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dataset.PatientID = dataset.PatientName = "P-1"
    source = SourceSeries.read(write(datasets, tmp_path / "away"))
    return workstation_seg(source, {"Mass": source.volume().array > 0}), uids, header


KEYWORDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")


def test_pseudonyms_become_the_uids_of_the_images(returned: tuple[Dataset, dict[str, str], Dataset]):
    seg, uids, header = returned
    assert set(references_of(seg).series) <= uids.keys()
    identify(seg, uids, header, {str(seg.SOPInstanceUID)})
    text = str(seg)
    assert [pseudonym for pseudonym in uids if pseudonym in text] == []
    assert seg.StudyInstanceUID == header.StudyInstanceUID
    assert seg.FrameOfReferenceUID == header.FrameOfReferenceUID
    assert set(references_of(seg).series) == {header.SeriesInstanceUID}
    assert "PatientID" not in seg
    assert "PatientName" not in seg


def test_a_result_of_another_study_or_about_other_images_is_refused(
    returned: tuple[Dataset, dict[str, str], Dataset],
):
    seg, uids, header = returned
    seg.StudyInstanceUID = f"{seg.StudyInstanceUID}1"
    with pytest.raises(ReturnedError, match="of another study than the images"):
        identify(seg, uids, header, set())
    seg.StudyInstanceUID = seg.StudyInstanceUID[:-1]
    known = dict(list(uids.items())[:-1])  # one image fewer was sent
    with pytest.raises(ReturnedError, match=r"names \d+ images that were not sent, or of another series"):
        identify(seg, known, header, set())
