"""STOW-RS into the node: what a client is told is what the receiver stored, whatever the request looks like."""

from __future__ import annotations

import gzip
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from certificates import Authority
from dicom_files import ct_series, mr_series
from dicomweb_services import TOKENS, Service, encoded, related, service_config, serving_beside, uids
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from receivers import receiving, until

from node.dicomweb.server import serving
from node.ledger.tables import association
from node.spool import Spool


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with receiving(tmp_path / "node") as node, serving_beside(node, tmp_path) as made:
        yield made


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunks"])
def test_instances_of_several_studies_are_stored_and_named(service: Service, *, chunked: bool):
    images = [*ct_series(5), *mr_series(3)]
    answer = service.store(encoded(images), chunked=chunked)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/dicom+json")
    assert service.here == uids(answer, "ReferencedSOPSequence") == {image.SOPInstanceUID for image in images}
    assert "FailedSOPSequence" not in Dataset.from_json(answer.text)
    assert {row.calling_ae for row in service.node.rows(association)} == {"VNA"}
    assert list(Spool(service.node.config.storage.folder).folder.glob("temporary/*/*")) == []


def test_many_instances_are_sent_in_parts_and_are_all_there(service: Service, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("node.dicomweb.store._BATCH_FILES", 4)
    images = ct_series(11)
    answer = service.store(encoded(images), chunked=True)
    assert answer.status_code == 200
    assert service.here == uids(answer, "ReferencedSOPSequence") == {image.SOPInstanceUID for image in images}


def test_what_cannot_be_stored_is_named_and_the_rest_is_stored(service: Service):
    good, damaged = ct_series(3), encoded(ct_series(1))[0][:-100]
    answer = service.store([*encoded(good), damaged, b"no DICOM at all"])
    assert answer.status_code == 202
    assert service.here == uids(answer, "ReferencedSOPSequence") == {image.SOPInstanceUID for image in good}
    said = Dataset.from_json(answer.text)
    assert [item.FailureReason for item in said.FailedSOPSequence] == [0xC000]
    assert "data set ends" in said.FailedSOPSequence[0].ErrorComment
    assert [item.FailureReason for item in said.OtherFailuresSequence] == [0x0110]


def test_an_instance_of_another_study_than_the_address_names_is_refused(service: Service):
    mine, other = ct_series(2), mr_series(1)
    answer = service.store(encoded([*mine, *other]), path=f"/studies/{mine[0].StudyInstanceUID}")
    assert answer.status_code == 202
    assert service.here == {image.SOPInstanceUID for image in mine}
    failed = Dataset.from_json(answer.text).FailedSOPSequence
    assert [(item.ReferencedSOPInstanceUID, item.FailureReason) for item in failed] == [
        (other[0].SOPInstanceUID, 0xA900)
    ]
    answer = service.store(encoded(other), path=f"/studies/{generate_uid()}")
    assert answer.status_code == 409


@pytest.mark.parametrize(
    ("credentials", "status"),
    [
        ({}, 401),
        ({"authorization": "Bearer wrong"}, 401),
        ({"authorization": "Bearer"}, 401),
        ({"authorization": "Basic !!"}, 401),
        ({"authorization": f"Bearer {TOKENS['viewer']}"}, 403),
        ({"authorization": httpx.BasicAuth("vna", TOKENS["viewer"])._auth_header}, 401),
        ({"authorization": httpx.BasicAuth("vna", TOKENS["vna"])._auth_header}, 200),
    ],
    ids=["none", "wrong", "empty", "no base64", "other service", "other name", "basic"],
)
def test_only_a_client_with_its_token_and_this_service_stores(
    service: Service, credentials: dict[str, str], status: int
):
    service.http.headers.pop("authorization")
    service.http.headers.update(credentials)
    answer = service.store(encoded(ct_series(1)))
    assert answer.status_code == status
    assert len(service.here) == (status == 200)


@pytest.mark.parametrize(
    ("content_type", "body", "status"),
    [
        ("application/dicom", b"x", 415),
        ("multipart/related", b"x", 415),
        ('multipart/related; type="application/dicom+json"; boundary=part', related([b"{}"]), 415),
        ('multipart/related; type="application/dicom"; boundary=part', related([b"{}"], "application/json"), 415),
        ('multipart/related; type="application/dicom"; boundary=part', b"--part--\r\n", 400),
        ('multipart/related; type="application/dicom"; boundary=part', b"--other\r\n\r\nx\r\n--other--", 400),
        ('multipart/related; type="application/dicom"; boundary=part', b"", 400),
        (f'multipart/related; type="application/dicom"; boundary={"b" * 400}', b"", 415),
        (
            'multipart/related; type="application/dicom"; boundary=part',
            b"--part\r\nContent-Type: " + b"x" * 5000 + b"\r\n\r\n\r\n--part--",
            400,
        ),
    ],
)
def test_other_requests_say_what_is_wrong(service: Service, content_type: str, body: bytes, status: int):
    answer = service.http.post("/studies", content=body, headers={"content-type": content_type})
    assert answer.status_code == status
    assert answer.text.endswith(".\n")
    assert service.here == set()


def test_a_request_that_ends_too_early_says_what_is_stored(service: Service, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("node.dicomweb.store._BATCH_FILES", 2)
    body = related(encoded(ct_series(3)))[:-1000]
    headers = {"content-type": 'multipart/related; type="application/dicom"; boundary=part'}
    answer = service.http.post("/studies", content=body, headers=headers)
    assert answer.status_code == 400
    assert "2 of its instances are stored" in answer.text
    assert len(service.here) == 2


def test_a_compressed_body_is_refused(service: Service):
    headers = {"content-type": 'multipart/related; type="application/dicom"; boundary=part', "content-encoding": "gzip"}
    answer = service.http.post("/studies", content=gzip.compress(related(encoded(ct_series(1)))), headers=headers)
    assert answer.status_code == 415


@pytest.mark.parametrize(
    "fields",
    [
        "1.1|Content-Length: 9|Transfer-Encoding: chunked",
        "1.1|Transfer-Encoding: chunked|Transfer-Encoding: chunked",
        "1.1|Transfer-Encoding: gzip, chunked",
        "1.1|Transfer-Encoding: xchunked",
        "1.0|Transfer-Encoding: chunked",
    ],
)
def test_a_request_whose_length_can_be_read_in_two_ways_is_refused(service: Service, fields: str):
    version, *rest = fields.split("|")
    head = [f"POST /studies HTTP/{version}", "Host: x", f"Authorization: Bearer {TOKENS['vna']}", *rest]
    smuggled = "POST /studies HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
    with socket.create_connection(("127.0.0.1", service.http.base_url.port or 0)) as opened:
        opened.sendall(("\r\n".join(head) + "\r\n\r\n0\r\n\r\n" + smuggled).encode())
        opened.settimeout(30.0)
        answer = b"".join(iter(lambda: opened.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 400")
    assert answer.count(b"HTTP/1.1") == 1


def test_addresses_in_responses_are_those_of_the_proxy(tmp_path: Path):
    extra = 'link_base = "https://viewer.example/dicom-web/"'
    with receiving(tmp_path / "node") as node, serving_beside(node, tmp_path, extra) as service:
        (item,) = Dataset.from_json(service.store(encoded(ct_series(1))).text).ReferencedSOPSequence
    assert item.RetrieveURL.startswith("https://viewer.example/dicom-web/studies/")


def test_a_client_that_goes_away_leaves_nothing(service: Service):
    port = service.http.base_url.port
    assert port is not None
    with socket.create_connection(("127.0.0.1", port)) as opened:
        head = f"POST /studies HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKENS['vna']}\r\n"
        head += 'Content-Type: multipart/related; type="application/dicom"; boundary=part\r\n'
        body = related(encoded(ct_series(2)))
        opened.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body[: len(body) - 500])
        until(lambda: _drafts(service))
    until(lambda: not _drafts(service))
    assert service.here == set()


def _drafts(service: Service) -> list[Path]:
    return list(service.node.config.storage.folder.glob("temporary/*/*"))


def test_too_large_a_request_and_too_full_a_disk_are_refused(tmp_path: Path):
    images = encoded(ct_series(2))
    with receiving(tmp_path / "node") as node:
        with serving_beside(node, tmp_path, "max_request_gib = 0.000001") as service:
            answer = service.store(images)
            assert (answer.status_code, "max_request_gib" in answer.text) == (413, True)
        with serving_beside(node, tmp_path, storage="min_free_gib = 1e9") as service:
            assert service.store(images).status_code == 507
        assert service.here == set()


def test_a_receiver_that_does_not_answer_is_said_and_nothing_is_called_stored(tmp_path: Path):
    with receiving(tmp_path / "node") as node:
        pass
    with serving_beside(node, tmp_path) as service:
        answer = service.store(encoded(ct_series(1)))
    assert (answer.status_code, "0 of its instances are stored" in answer.text) == (503, True)


def test_a_receiver_that_refuses_is_quoted(tmp_path: Path):
    with receiving(tmp_path / "node", storage="min_free_gib = 1e9") as node, serving_beside(node, tmp_path) as service:
        answer = service.store(encoded(ct_series(1)))
        (item,) = Dataset.from_json(answer.text).FailedSOPSequence
    assert (answer.status_code, item.FailureReason) == (409, 0xA700)


def test_tls_and_the_tokens_of_the_configuration(tmp_path: Path):
    authority = Authority(tmp_path / "tls")
    trusting = ssl.create_default_context(cafile=authority.pem("ca"))
    trusting.check_hostname = False
    extra = f'certificate = "{authority.pem("ainode")}"\nkey = "{authority.key("ainode")}"'
    with receiving(tmp_path / "node") as node:
        config = service_config(node.config.storage.folder, node.port, tmp_path, extra)
        with serving(config, node.engine, Spool(node.config.storage.folder)):
            base = f"https://127.0.0.1:{config.dicomweb.port}"
            headers = {"authorization": f"Bearer {TOKENS['vna']}"}
            with httpx.Client(base_url=base, headers=headers, verify=trusting) as http:
                service = Service(node, http)
                assert service.store(encoded(ct_series(1))).status_code == 200
                (tmp_path / "vna").write_text("short")
                answer = service.store(encoded(ct_series(1)))
                assert (answer.status_code, "the log says more" in answer.text) == (500, True)
