"""Delivery to DICOMweb services and to folders."""

from __future__ import annotations

import json
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import delivery_jobs as jobs
import pytest
import real_peers
from dicom_files import ct_series, text_report
from pydicom import dcmread
from pydicom.uid import JPEGLSLossless

from node.deliver import echo
from node.errors import DeliveryError, UnreachableError


def test_a_dicomweb_service_gets_every_object_and_is_asked_for_them(tmp_path: Path, pacs: real_peers.Orthanc) -> None:
    images = ct_series(n=3)
    images[0].compress(JPEGLSLossless, generate_instance_uid=False)
    table = {"url": f"{pacs.http_url}/dicom-web", "find": True}
    datasets = [*images, text_report(study=images[0].StudyInstanceUID)]
    job = jobs.FinishedJob(tmp_path / "node", datasets, {"web": table})
    job.deliver("web")
    assert pacs.instances() == sorted(job.uids)
    for uid in job.uids:
        assert pacs.download(uid) == dcmread(job.spool.absolute(f"results/{jobs.JOB}/{uid}.dcm"))
    answer = echo("web", job.config.destinations["web"], "AINODE")
    assert (answer.ok, answer.reason) == (True, "")
    status = job.status("web")
    assert (status.state, status.stored, status.committed, status.error) == ("CONFIRMED", 4, 4, None)


def test_what_a_dicomweb_service_lost_is_sent_again_before_the_delivery_is_confirmed(
    tmp_path: Path, pacs: real_peers.Orthanc
) -> None:
    url = f"{pacs.http_url}/dicom-web/"
    job = jobs.FinishedJob(tmp_path / "node", ct_series(n=2), {"web": {"url": url}})
    job.deliver("web")
    pacs.delete(job.uids[0])
    proving = {"url": url, "find": True, "commitment_timeout_seconds": 0.001}
    job.config = jobs.config_for(job.folder, web=proving)
    with pytest.raises(DeliveryError, match="1 of 2 stored objects are not found there"):
        job.deliver("web")
    assert (job.status("web").state, job.status("web").stored) == ("SCHEDULED", 1)
    job.deliver("web")
    assert pacs.instances() == sorted(job.uids)
    assert job.status("web").state == "CONFIRMED"


class Web:
    """An HTTPS service that answers each request with the next of its script, the last one for ever."""

    def __init__(self, folder: Path, script: list[tuple[int, Any]]) -> None:
        self.requests: list[tuple[str, str, bytes]] = []
        self.ca = folder / "certificate.pem"
        key = folder / "key.pem"
        command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
        command += ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(self.ca)]
        subprocess.run(command, check=True, capture_output=True)
        web = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                web.requests.append((self.command, self.headers.get("Authorization", ""), body))
                status, told = script.pop(0) if len(script) > 1 else script[0]
                data = json.dumps(told).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = answer  # noqa: N815 - the library's names

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.ca, key)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.url = f"https://localhost:{self.server.server_address[1]}/dicom-web"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@contextmanager
def web(folder: Path, *script: tuple[int, Any]) -> Iterator[Web]:
    folder.mkdir(exist_ok=True)
    service = Web(folder, list(script))
    try:
        yield service
    finally:
        service.server.shutdown()
        service.server.server_close()


def reason(tag: str, status: int, sequence: str) -> dict[str, Any]:
    return {sequence: {"vr": "SQ", "Value": [{tag: {"vr": "US", "Value": [status]}}]}}


STORED = {"00081199": {"vr": "SQ", "Value": [{}]}}


def test_each_object_has_the_answer_of_the_service_over_tls_with_the_token(tmp_path: Path) -> None:
    refused = reason("00081197", 0xC000, "00081198")
    warned = reason("00081196", 0xB000, "00081199")
    with web(tmp_path / "web", (200, STORED), (409, refused), (202, warned), (200, STORED)) as service:
        token = tmp_path / "token"
        token.write_text("first\n")
        table = {"url": service.url, "ca_file": str(service.ca), "token_file": str(token)}
        job = jobs.FinishedJob(tmp_path / "node", ct_series(n=3, size=16), {"web": table})
        with pytest.raises(DeliveryError, match=r"2 of 3 objects stored; first refusal: status 0xC000.*\(HTTP 409\)"):
            job.deliver("web")
        assert [job.answers()[uid][0] for uid in job.uids] == [0x0000, 0xC000, 0xB000]
        token.write_text("renewed")
        job.deliver("web")
    assert job.status("web").state == "STORED"
    sent = [authorization for _, authorization, _ in service.requests]
    assert sent == ["Bearer first"] * 3 + ["Bearer renewed"]
    file = job.spool.absolute(f"results/{jobs.JOB}/{job.uids[1]}.dcm").read_bytes()
    assert file in service.requests[1][2]


def test_an_object_whose_transfer_syntax_is_refused_is_sent_decoded(tmp_path: Path) -> None:
    images = ct_series(n=1)
    plain = images[0].PixelData
    images[0].compress(JPEGLSLossless, generate_instance_uid=False)
    with web(tmp_path / "web", (409, reason("00081197", 0xC122, "00081198")), (200, STORED)) as service:
        table = {"url": service.url, "ca_file": str(service.ca)}
        job = jobs.FinishedJob(tmp_path / "node", images, {"web": table})
        job.deliver("web")
    assert plain not in service.requests[0][2]
    assert plain in service.requests[1][2]


def test_an_answer_that_does_not_name_the_object_as_stored_stores_nothing(tmp_path: Path) -> None:
    nothing = {"00081198": {"vr": "SQ"}, "00081199": {"vr": "SQ"}}  # what Orthanc answers to parts that it skips
    with web(tmp_path / "web", (200, nothing)) as service:
        table = {"url": service.url, "ca_file": str(service.ca)}
        job = jobs.FinishedJob(tmp_path / "node", ct_series(n=1, size=16), {"web": table})
        with pytest.raises(DeliveryError, match="HTTP 200 without a store result for the object"):
            job.deliver("web")
    assert job.status("web").stored == 0


@pytest.mark.parametrize(
    ("status", "words"),
    [(401, "HTTP 401 .*check token_file"), (503, "HTTP 503 .*check its log"), (404, "HTTP 404")],
)
def test_a_service_that_takes_nothing_is_told_in_words(tmp_path: Path, status: int, words: str) -> None:
    with web(tmp_path / "web", (status, "not DICOM JSON")) as service:
        table = {"url": service.url, "ca_file": str(service.ca)}
        job = jobs.FinishedJob(tmp_path / "node", ct_series(n=2, size=16), {"web": table})
        with pytest.raises(DeliveryError, match=words):
            job.deliver("web")
        assert len(service.requests) == 1
    assert (job.status("web").state, job.status("web").stored) == ("SCHEDULED", 0)


def test_a_service_whose_certificate_is_not_trusted_gets_nothing(tmp_path: Path) -> None:
    with web(tmp_path / "web", (200, STORED)) as service:
        job = jobs.FinishedJob(tmp_path / "node", ct_series(n=1, size=16), {"web": {"url": service.url}})
        with pytest.raises(UnreachableError, match="certificate"):
            job.deliver("web")
        assert service.requests == []
        assert "certificate" in echo("web", job.config.destinations["web"], "AINODE").reason


def test_a_folder_gets_the_bytes_of_the_files_and_nothing_else(tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    job = jobs.FinishedJob(tmp_path / "node", ct_series(n=2), {"archive": {"folder": str(archive)}})
    with pytest.raises(UnreachableError, match="folder does not exist; mount or create it"):
        job.deliver("archive")
    archive.mkdir()
    job.deliver("archive")
    assert job.status("archive").state == "STORED"
    files = sorted(path for path in archive.rglob("*") if path.is_file())
    kept = [job.spool.absolute(f"results/{jobs.JOB}/{uid}.dcm") for uid in sorted(job.uids)]
    assert [path.read_bytes() for path in files] == [path.read_bytes() for path in kept]
    header = dcmread(kept[0])
    assert files[0] == archive / header.StudyInstanceUID / header.SeriesInstanceUID / f"{header.SOPInstanceUID}.dcm"


def test_a_folder_that_is_full_or_read_only_keeps_the_objects_owed(tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    archive.mkdir()
    images = ct_series(n=2)
    (archive / images[0].StudyInstanceUID).write_text("a file where a folder should be")
    job = jobs.FinishedJob(tmp_path / "node", images, {"archive": {"folder": str(archive)}})
    with pytest.raises(DeliveryError, match=r"0 of 2 objects stored; .* cannot be written"):
        job.deliver("archive")
    assert (job.status("archive").state, job.status("archive").stored) == ("SCHEDULED", 0)
