"""QIDO-RS and WADO-RS of the node, asked by a client that others wrote: what it holds, and nothing else."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import httpx
import numpy as np
import pytest
import sqlalchemy as sa
from dashboards import analysed
from dicomweb_client.api import DICOMwebClient
from dicomweb_services import TOKENS, service_config
from ledgers import open_copy
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless
from requests.exceptions import HTTPError

from node.dicomweb import search as searching
from node.dicomweb.server import serving
from node.ledger.tables import decision, instance, job, notice, result
from node.spool import Spool


@dataclass(frozen=True)
class Held:
    """A node that holds one study with results."""

    study: str
    job_id: str
    engine: sa.Engine
    folder: Path
    url: str
    client: DICOMwebClient

    def get(self, path: str, **headers: str) -> httpx.Response:
        headers = {"authorization": f"Bearer {TOKENS['viewer']}", **headers}
        return httpx.get(f"{self.url}{path}", headers=headers, timeout=60.0)

    @property
    def series(self) -> str:
        with self.engine.connect() as connection:
            return str(connection.scalar(sa.select(instance.c.series_instance_uid).limit(1)))

    def files(self) -> dict[str, Path]:
        """Every file of the study by SOP Instance UID."""
        with self.engine.connect() as connection:
            rows = [*connection.execute(sa.select(instance)), *connection.execute(sa.select(result))]
        return {row.sop_instance_uid: self.folder / row.path for row in rows}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    folder = tmp_path_factory.mktemp("made") / "node"
    return folder, *analysed(folder)


@pytest.fixture
def node(made: tuple[Path, str, str], tmp_path: Path) -> Iterator[Held]:
    pattern, study, job_id = made
    folder = tmp_path / "node"
    shutil.copytree(pattern, folder)
    config = service_config(folder, 11112, tmp_path)
    engine = open_copy(f"sqlite:///{folder / 'ledger.sqlite'}")
    url = f"http://127.0.0.1:{config.dicomweb.port}"
    with serving(config, engine, Spool(folder)):
        client = DICOMwebClient(url, headers={"authorization": f"Bearer {TOKENS['viewer']}"})
        yield Held(study, job_id, engine, folder, url, client)
    engine.dispose()


def test_a_study_is_found_by_what_its_images_say(node: Held):
    image = dcmread(next(iter(node.files().values())))
    for key, text in (
        ("PatientID", image.PatientID),
        ("PatientName", str(image.PatientName).lower()),
        ("PatientName", f"{str(image.PatientName)[:3]}*"),
        ("AccessionNumber", image.AccessionNumber),
        ("StudyDate", image.StudyDate),
        ("StudyDate", f"19000101-{image.StudyDate}"),
        ("StudyInstanceUID", node.study),
        ("ModalitiesInStudy", "CT"),
        ("00100020", image.PatientID),
    ):
        (answer,) = node.client.search_for_studies(search_filters={key: text})
        study = Dataset.from_json(answer)
        assert (study.StudyInstanceUID, study.PatientID) == (node.study, image.PatientID), key
        assert study.NumberOfStudyRelatedInstances == len(node.files())
        assert set(study.ModalitiesInStudy) >= {"CT", "SEG", "SR"}
    for key, text in (
        ("PatientID", f"{image.PatientID}0"),
        ("StudyDate", "19000101-19000102"),
        ("StudyInstanceUID", "1.2.3"),
        ("ModalitiesInStudy", "MR"),
    ):
        assert node.client.search_for_studies(search_filters={key: text}) == [], key


def test_a_condition_that_is_not_known_finds_nobody_elses_images(node: Held):
    with pytest.raises(HTTPError, match="400"):
        node.client.search_for_studies(search_filters={"PatientMotherBirthName": "X"})


def test_series_and_objects_of_a_study_are_listed_with_its_results(node: Held):
    series = [Dataset.from_json(answer) for answer in node.client.search_for_series(node.study)]
    assert {header.Modality for header in series} >= {"CT", "SEG", "SR"}
    listed = {
        Dataset.from_json(answer).SOPInstanceUID
        for header in series
        for answer in node.client.search_for_instances(node.study, header.SeriesInstanceUID)
    }
    assert listed == set(node.files())
    assert sum(header.NumberOfSeriesRelatedInstances for header in series) == len(listed)
    (ct,) = node.client.search_for_series(
        node.study, search_filters={"Modality": "CT", "SeriesInstanceUID": node.series}
    )
    assert Dataset.from_json(ct).SeriesInstanceUID == node.series


def test_every_object_is_sent_as_it_is_stored(node: Held):
    files = node.files()
    sent = {dataset.SOPInstanceUID: dataset for dataset in node.client.retrieve_study(node.study)}
    assert sent.keys() == files.keys()
    for uid, path in files.items():
        assert sent[uid] == dcmread(path)
    answer = node.get(
        f"/studies/{node.study}/series/{node.series}", accept='multipart/related; type="application/dicom"'
    )
    boundary = answer.headers["content-type"].split("boundary=")[1]
    parts = answer.content.split(f"--{boundary}".encode())[1:-1]
    wanted = {path.read_bytes() for path in files.values()}
    assert all(part.split(b"\r\n\r\n", 1)[1][:-2] in wanted for part in parts)
    first_uid = next(iter(files))
    place = f"/studies/{node.study}/series/{node.series}/instances/{first_uid}"
    assert node.get(place, accept="application/dicom").content == files[first_uid].read_bytes()


def test_metadata_are_the_attributes_without_pixels(node: Held):
    files = node.files()
    for metadata in node.client.retrieve_series_metadata(node.study, node.series):
        header = Dataset.from_json(metadata)
        stored = dcmread(files[header.SOPInstanceUID], stop_before_pixels=True)
        assert header.SpecificCharacterSet == "ISO_IR 192"
        for keyword in ("PatientName", "ImagePositionPatient", "Rows", "RescaleSlope", "SeriesDescription"):
            assert header.get(keyword) == stored.get(keyword), keyword
        assert "PixelData" not in header


@pytest.mark.parametrize("syntax", [None, JPEGLSLossless, JPEG2000Lossless, RLELossless], ids=str)
def test_frames_are_the_pixels_in_every_transfer_syntax(node: Held, syntax: str | None):
    uid, path = next((uid, path) for uid, path in node.files().items() if dcmread(path).Modality == "CT")
    image = dcmread(path)
    pixels = image.pixel_array
    if syntax is not None:
        image.compress(syntax, generate_instance_uid=False)
        image.save_as(path, enforce_file_format=True)
        with node.engine.begin() as connection:
            connection.execute(
                instance.update().where(instance.c.sop_instance_uid == uid).values(transfer_syntax_uid=str(syntax))
            )
    place = f"/studies/{node.study}/series/{node.series}/instances/{uid}/frames/1"
    plain = node.get(place, accept='multipart/related; type="application/octet-stream"')
    samples = plain.content.split(b"\r\n\r\n", 1)[1].rsplit(b"\r\n--", 1)[0]
    assert np.array_equal(np.frombuffer(samples, pixels.dtype).reshape(pixels.shape), pixels)
    as_stored = node.get(place, accept='multipart/related; type="application/octet-stream"; transfer-syntax=*')
    assert as_stored.headers["content-type"].startswith("multipart/related")
    if syntax is not None:
        assert f"transfer-syntax={syntax}".encode() in as_stored.content
        assert len(as_stored.content) < len(plain.content)
    assert node.get(f"{place[:-1]}2").status_code == 404
    assert node.get(f"{place[:-1]}0").status_code == 404
    assert node.get(f"{place[:-1]}x").status_code == 400


def test_frames_in_colour_are_the_bytes_that_the_metadata_describe(node: Held):
    uid, path = next((uid, path) for uid, path in node.files().items() if dcmread(path).Modality == "CT")
    image = dcmread(path)
    planes = np.random.default_rng(1).integers(0, 255, (3, image.Rows, image.Columns), np.uint8)
    image.SamplesPerPixel, image.PlanarConfiguration, image.PhotometricInterpretation = 3, 1, "RGB"
    image.BitsAllocated = image.BitsStored = 8
    image.HighBit, image.PixelRepresentation = 7, 0
    image.PixelData = planes.tobytes()
    image.save_as(path, enforce_file_format=True)
    frame = node.client.retrieve_instance_frames(node.study, node.series, uid, [1])[0]
    assert frame == planes.tobytes()


def test_the_frames_of_a_segmentation_are_its_masks(node: Held):
    uid, path = next((uid, path) for uid, path in node.files().items() if dcmread(path).Modality == "SEG")
    segmentation = dcmread(path)
    frames = node.client.retrieve_instance_frames(node.study, segmentation.SeriesInstanceUID, uid, [1, 2])
    for stored, frame in zip(segmentation.pixel_array[:2], frames, strict=True):
        bits = np.unpackbits(np.frombuffer(frame, np.uint8), bitorder="little")[: stored.size]
        assert np.array_equal(bits.reshape(stored.shape), stored)


def test_what_does_not_stand_is_not_shown(node: Held):
    everything = set(node.files())
    with node.engine.connect() as connection:
        results = set(connection.scalars(sa.select(result.c.sop_instance_uid)))
    uid = next(iter(results))

    def shown() -> set[str]:
        answers = node.client.search_for_instances(node.study)
        return {Dataset.from_json(entry).SOPInstanceUID for entry in answers}

    assert shown() == everything
    of_result = result.c.sop_instance_uid == uid
    for change, back, lacking in (
        (result.update().where(of_result).values(quarantine="x"), result.update().values(quarantine=None), {uid}),
        (job.update().values(shadow="trial"), job.update().values(shadow=None), results),
        (result.update().where(of_result).values(kind="rejection"), result.update().values(kind=None), results),
    ):
        with node.engine.begin() as connection:
            connection.execute(change)
        assert shown() == everything - lacking
        with node.engine.begin() as connection:
            connection.execute(back)
    with node.engine.begin() as connection:
        connection.execute(decision.update().values(outcome="held"))
    assert shown() == results
    assert node.get(f"/studies/{node.study}/series/{node.series}").status_code == 404


def test_only_clients_that_may_retrieve_see_anything(node: Held):
    paths = [
        "/studies", f"/studies/{node.study}", f"/studies/{node.study}/series", f"/studies/{node.study}/metadata",
        f"/studies/{node.study}/instances", f"/studies/{node.study}/series/{node.series}/instances/1/frames/1",
        f"/studies/{node.study}/series/{node.series}/instances/1/document",
    ]  # fmt: skip
    for path in paths:
        assert httpx.get(node.url + path).status_code == 401, path
        assert node.get(path, authorization=f"Bearer {TOKENS['vna']}").status_code == 403, path
    posted = httpx.post(f"{node.url}/studies", headers={"authorization": f"Bearer {TOKENS['viewer']}"})
    assert posted.status_code == 403


def test_retrievals_are_in_the_audit_trail_once_for_each_study(node: Held):
    for _ in range(3):
        node.client.retrieve_series_metadata(node.study, node.series)
    with node.engine.connect() as connection:
        notes = connection.execute(sa.select(notice)).all()
    assert [(note.who, note.address, note.detail) for note in notes] == [
        ("viewer", "127.0.0.1", f"retrieved objects of study {node.study} by DICOMweb")
    ]


def test_a_search_says_when_it_has_not_looked_at_everything(node: Held, monkeypatch: pytest.MonkeyPatch):
    assert "warning" not in node.get("/studies").headers
    assert "more results" in node.get("/studies?limit=0").headers["warning"]
    monkeypatch.setattr(searching, "MOST_STUDIES", 0)
    answer = node.get("/studies?PatientID=nobody")
    assert (answer.json(), "Only the latest 0 studies" in answer.headers["warning"]) == ([], True)
    assert "literal matching" in node.get("/studies?fuzzymatching=true").headers["warning"]


def test_a_damaged_file_hides_no_other(node: Held):
    path = next(iter(node.files().values()))
    path.chmod(0o640)
    path.write_bytes(path.read_bytes()[:50])
    answers = node.client.search_for_instances(node.study)
    assert {Dataset.from_json(entry).SOPInstanceUID for entry in answers} == set(node.files())
    with pytest.raises(httpx.RemoteProtocolError):  # a list that lacks an image must not look whole
        node.get(f"/studies/{node.study}/series/{node.series}/metadata")


def test_an_address_that_is_not_known_is_not_found(node: Held):
    for path in ("/studies/1.2.3", "/studies/1.2.3/series", "/studies/1.2.3/metadata", "/patients", "/studies/"):
        assert node.get(path).status_code == 404, path
    assert node.get(f"/studies/{node.study}", accept="image/jpeg").status_code == 406


def test_images_are_rendered_for_a_client_that_others_wrote(node: Held):
    place = f"/studies/{node.study}/series/{node.series}"
    images = {uid: path for uid, path in node.files().items() if dcmread(path).SeriesInstanceUID == node.series}
    uid, path = next(iter(images.items()))
    stored = dcmread(path)
    jpeg = node.client.retrieve_instance_rendered(
        node.study, node.series, uid, media_types=("image/jpeg",), params={"quality": 95}
    )
    assert picture(jpeg) == ("JPEG", (stored.Columns, stored.Rows))
    png = node.client.retrieve_instance_rendered(
        node.study, node.series, uid, media_types=("image/png",), params={"viewport": "64,64"}
    )
    assert picture(png) == ("PNG", (64, 64))
    frame = node.client.retrieve_instance_frames_rendered(
        node.study, node.series, uid, [1], media_types=("image/png",), params={"window": "-500,1500,linear"}
    )
    assert picture(frame)[0] == "PNG"
    assert picture(node.client.retrieve_series_rendered(node.study, node.series, media_types=("image/jpeg",)))
    several = node.get(f"{place}/rendered", accept='multipart/related; type="image/png"')
    assert several.headers["content-type"].startswith('multipart/related; type="image/png"; boundary=')
    assert several.content.count(b"\x89PNG\r\n") == len(images)
    for address, wanted in ((f"/studies/{node.study}", "JPEG"), (place, "JPEG"), (f"{place}/instances/{uid}", "JPEG")):
        small = node.get(f"{address}/thumbnail")
        assert small.headers["content-type"] == "image/jpeg"
        kind, size = picture(small.content)
        assert (kind, max(size)) == (wanted, 256)
    noted = node.get(f"{place}/instances/{uid}/rendered?annotation=patient")
    assert (noted.status_code, "annotation" in noted.headers["warning"]) == (200, True)


def test_what_is_not_rendered_is_answered_with_the_reason(node: Held):
    places = {}
    for uid, path in node.files().items():
        of = dcmread(path, stop_before_pixels=True)
        places[of.Modality] = f"/studies/{node.study}/series/{of.SeriesInstanceUID}/instances/{uid}"
    image, report = places["CT"], places["SR"]
    for address, accept, status in (
        (f"{image}/rendered", "text/html", 406),
        (f"{image}/rendered", "image", 400),
        (f"{image}/rendered?accept=video/mp4", "*/*", 406),
        (f"{image}/rendered?window=40", "*/*", 400),
        (f"{image}/rendered?annotation=name", "*/*", 400),
        (f"{image}/frames/2/rendered", "*/*", 404),
        (f"{image}/frames/1,2/rendered", "*/*", 404),
        (f"{image}/frames/1,1/rendered", "image/jpeg", 406),
        (f"{report}/rendered", "*/*", 406),
        (f"{report}/frames/1/thumbnail", "*/*", 406),
        ("/studies/1.2.3/rendered", "*/*", 404),
    ):
        answer = node.get(address, accept=accept)
        assert (answer.status_code, bool(answer.text)) == (status, True), address


def picture(content: bytes) -> tuple[str | None, tuple[int, int]]:
    image = Image.open(BytesIO(content))
    image.load()
    return image.format, image.size
