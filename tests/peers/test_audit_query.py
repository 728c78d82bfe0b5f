"""Questions that the node asks a PACS are in the audit trail, in the words of PS3.15 A.5.3.10."""

from __future__ import annotations

import time
from base64 import b64decode
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from xml.etree import ElementTree as ET

import delivery_jobs as jobs
import pytest
import real_peers
import sqlalchemy as sa
from dicom_files import ct_series
from pydicom import Dataset, dcmread
from pydicom.filereader import read_dataset
from pydicom.uid import UID

from node.config import PriorTable
from node.deliver.prior_studies import PriorStudies
from node.ledger.tables import notice
from node.operate.audit.auditor import Auditor


@pytest.fixture(scope="module")
def pacs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[real_peers.Orthanc]:
    with real_peers.orthanc(tmp_path_factory.mktemp("pacs")) as running:
        yield running


def header(job: jobs.FinishedJob) -> Dataset:
    return dcmread(job.spool.absolute(f"results/{jobs.JOB}/{job.uids[0]}.dcm"), stop_before_pixels=True)


def questions(job: jobs.FinishedJob) -> list[ET.Element]:
    """What the trail tells of them; the ledger keeps nothing of it."""
    Auditor(job.config, job.engine, job.spool).step(time.time())
    with job.engine.connect() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(notice)) == 0
    lines = (job.folder / "audit.log").read_text().splitlines()
    told = [ET.fromstring(line[65:]) for line in lines]
    return [root for root in told if root.find("EventIdentification/EventID").get("csd-code") == "110112"]


def asked(root: ET.Element) -> tuple[str, Dataset]:
    """SOP Class and identifier."""
    thing = root.find("ParticipantObjectIdentification")
    assert thing.find("ParticipantObjectIDTypeCode").get("csd-code") == "110181"
    syntax = UID(b64decode(thing.find("ParticipantObjectDetail").get("value")).decode())
    data = BytesIO(b64decode(thing.find("ParticipantObjectQuery").text))
    identifier = read_dataset(data, syntax.is_implicit_VR, syntax.is_little_endian)
    return UID(thing.get("ParticipantObjectID")).name, identifier


def test_a_delivery_that_is_proven_by_asking_tells_what_was_asked(pacs: real_peers.Orthanc, tmp_path: Path) -> None:
    job = jobs.FinishedJob(tmp_path, ct_series(n=2, size=16), {"pacs": jobs.destination(pacs, find=True)})
    job.deliver()
    (told,) = questions(job)
    source, destination = told.findall("ActiveParticipant")
    assert (source.get("UserID"), source.get("UserIsRequestor")) == ("AINODE", "true")
    assert source.find("RoleIDCode").get("csd-code") == "110153"
    assert (destination.get("UserID"), destination.get("NetworkAccessPointID")) == (pacs.aet, "127.0.0.1")
    assert destination.find("RoleIDCode").get("csd-code") == "110152"
    about, identifier = asked(told)
    assert about == "Study Root Query/Retrieve Information Model - FIND"
    assert (identifier.QueryRetrieveLevel, identifier.StudyInstanceUID) == ("IMAGE", header(job).StudyInstanceUID)


def test_a_dicomweb_query_is_audited_with_the_whole_request(pacs: real_peers.Orthanc, tmp_path: Path) -> None:
    url = f"{pacs.http_url}/dicom-web"
    job = jobs.FinishedJob(tmp_path, ct_series(n=1, size=16), {"pacs": {"url": url, "find": True}})
    job.deliver()
    told, *_ = questions(job)
    thing = told.find("ParticipantObjectIdentification")
    study, series = header(job).StudyInstanceUID, header(job).SeriesInstanceUID
    assert thing.get("ParticipantObjectID") == f"{url}/studies/{study}/series/{series}/instances"
    assert b"/instances?limit=500&offset=0" in b64decode(thing.find("ParticipantObjectQuery").text)
    assert told.findall("ActiveParticipant")[1].get("UserID") == url


def test_the_search_for_earlier_reports_tells_of_its_queries(pacs: real_peers.Orthanc, tmp_path: Path) -> None:
    job = jobs.FinishedJob(tmp_path, ct_series(n=1, size=16), {"pacs": jobs.destination(pacs)})
    search = PriorStudies(job.config, job.engine).reports
    assert list(search(PriorTable(source="pacs"), header(job), tmp_path / "prior")) == []
    (told,) = questions(job)
    about, identifier = asked(told)
    assert about.endswith("FIND")
    assert (identifier.QueryRetrieveLevel, identifier.PatientID) == ("STUDY", header(job).PatientID)
