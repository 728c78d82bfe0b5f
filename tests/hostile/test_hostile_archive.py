"""An archive that answers a search for prior studies without end costs a remark, no result and no memory."""

from __future__ import annotations

import gc
import itertools
import resource
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from delivery_jobs import FinishedJob
from dicom_files import ct_series
from job_node import config_of
from pydicom import Dataset
from pydicom.uid import CTImageStorage
from pynetdicom import AE, evt
from pynetdicom.sop_class import (
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
)

from node.config import Config, Destination, PriorTable
from node.deliver import retrieve, stow
from node.deliver.association import Timeouts
from node.deliver.retrieve import archive
from node.deliver.stow import held
from node.errors import DeliveryError

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
PRIOR = PriorTable(source="pacs")


def _without_end(_event: evt.Event) -> Iterator[tuple[int, Dataset]]:
    for number in itertools.count():
        match = Dataset()
        match.QueryRetrieveLevel, match.StudyInstanceUID = "STUDY", f"1.2.{number}"
        yield 0xFF00, match


def _too_many(_event: evt.Event) -> Iterator[Any]:
    (image,) = ct_series(1, 8)
    yield 60_000
    for number in range(60_000):
        image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = f"1.2.{number}"
        yield 0xFF00, image


@pytest.fixture
def endless(tmp_path: Path) -> Iterator[Config]:
    """A node whose archive never comes to an end."""
    entity = AE(ae_title="ENDLESS")
    entity.add_supported_context(StudyRootQueryRetrieveInformationModelFind)
    entity.add_supported_context(StudyRootQueryRetrieveInformationModelGet)
    entity.add_supported_context(CTImageStorage, scu_role=True, scp_role=True)
    handlers = [(evt.EVT_C_FIND, _without_end), (evt.EVT_C_GET, _too_many)]
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    place = Destination(title="ENDLESS", host="127.0.0.1", port=int(server.server_address[1]))
    yield config_of(tmp_path).model_copy(update={"destinations": {"pacs": place}})
    server.shutdown()
    gc.collect()  # sockets that pynetdicom dropped without closing them are reported here, not in another test


def test_matches_without_end_are_not_collected(
    endless: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retrieve, "_MOST_MATCHES", 50)
    with (
        pytest.raises(DeliveryError, match="answers a query with more than 50 matches"),
        archive(endless, PRIOR, tmp_path / "prior") as opened,
    ):
        opened.find("STUDY", StudyInstanceUID="")


@pytest.mark.parametrize(("bound", "value"), [("_MOST_OBJECTS", 20), ("_MOST_BYTES", 20_000), ("_LONGEST_SECONDS", 2)])
def test_objects_without_end_are_not_kept(
    endless: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bound: str, value: int
) -> None:
    monkeypatch.setattr(retrieve, bound, value)
    begun = time.monotonic()
    with (
        pytest.raises(DeliveryError, match=r"was ended after|no response to C-GET"),
        archive(endless, PRIOR, tmp_path / "prior") as opened,
    ):
        opened.fetch("1.2", "1.2.3")
    assert len(list((tmp_path / "prior").iterdir())) < 5_000
    assert time.monotonic() - begun < 120


class _Web(BaseHTTPRequestHandler):
    """Answers every request with the bytes of ``answer``, again and again."""

    answer = b""
    times = 1
    pause_seconds = 0.0

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/dicom+json")
        self.end_headers()
        with suppress(OSError):
            for _ in range(self.times):
                self.wfile.write(self.answer)
                time.sleep(self.pause_seconds)

    def log_message(self, *_: object) -> None: ...


@contextmanager
def _web(answer: bytes, times: int = 1, pause_seconds: float = 0.0) -> Iterator[str]:
    handler = type("Handler", (_Web,), {"answer": answer, "times": times, "pause_seconds": pause_seconds})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/"
    finally:
        server.shutdown()
        server.server_close()


def test_a_response_without_end_is_not_collected(tmp_path: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with _web(bytes(1 << 20), times=2000) as url:
        job = FinishedJob(tmp_path, ct_series(n=1, size=8), {"pacs": {"url": url}})
        with pytest.raises(DeliveryError, match="its response has more than 16 MiB"):
            job.deliver()
        with pytest.raises(DeliveryError, match="its response has more than 16 MiB"), _client(job) as client:
            held(client, "1.2", "1.2.3")
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10 < 150


def test_a_response_that_trickles_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(stow.send_request.__kwdefaults__, "seconds", 2.0)
    with _web(b" ", times=600, pause_seconds=0.2) as url:
        job = FinishedJob(tmp_path, ct_series(n=1, size=8), {"pacs": {"url": url}})
        with pytest.raises(DeliveryError, match="its response does not end within 2 s"), _client(job) as client:
            held(client, "1.2", "1.2.3")


@pytest.mark.parametrize(
    "answer",
    [b"[" * 100_000, b"[1]", b'{"00081199": []}', b'{"00081199": {"Value": ["x"]}}', b'{"00081198": {"Value": [{}]}}',
     b'{"00081198": {"Value": [{"00081197": {"Value": ["x"]}}]}}'],
)  # fmt: skip
def test_a_result_that_is_none_is_a_refusal_with_a_reason(tmp_path: Path, answer: bytes) -> None:
    with _web(answer) as url:
        job = FinishedJob(tmp_path, ct_series(n=1, size=8), {"pacs": {"url": url}})
        with pytest.raises(DeliveryError, match="0 of 1 objects stored"):
            job.deliver()


def _client(job: FinishedJob) -> AbstractContextManager[httpx.Client]:
    return stow.service("pacs", job.config.destinations["pacs"], Timeouts())
