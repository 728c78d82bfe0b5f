"""QIDO-RS and WADO-RS of an archive that answers as it likes: only what was asked for gets to the receiver."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from dicom_files import ct_series, mr_series
from dicomweb_services import encoded, related
from receivers import Node, receiving

import node.dicomweb.archive as archive_module
from node.config import parse
from node.deliver.fetch import incomplete_series
from node.deliver.reconcile import ArchivedSeries
from node.dicomweb.archive import WebArchive, web_archive
from node.errors import DeliveryError, NotFoundError
from node.ledger.tables import instance

TYPE = 'multipart/related; type="application/dicom"; boundary=part'


@dataclass
class Answers:
    """What the archive answers, and which media types it was asked for."""

    series: bytes = b"[]"
    status: int = 200
    body: bytes = b""
    refused: str = ""
    coding: str = ""
    accepted: list[str] = field(default_factory=list)


@contextmanager
def archive(node: Node, answers: Answers) -> Iterator[WebArchive]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if "?" in self.path:
                status, body, kind = answers.status, answers.series, "application/dicom+json"
            else:
                accept = self.headers["Accept"]
                answers.accepted.append(accept)
                is_refused = bool(answers.refused) and answers.refused in accept
                status, body, kind = (406, b"", "text/plain") if is_refused else (answers.status, answers.body, TYPE)
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            if answers.coding:
                self.send_header("Content-Encoding", answers.coding)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    config = parse(
        f'[ae]\naddress = "127.0.0.1"\nport = {node.port}\n'
        f'[storage]\nfolder = "{node.spool.folder}"\nmin_free_gib = 0.0\n'
        f'[destinations.pacs]\nurl = "http://127.0.0.1:{server.server_port}/rs"\n'
    )
    try:
        with web_archive(config, node.engine, node.spool, "pacs") as opened:
            yield opened
    finally:
        server.shutdown()
        server.server_close()


def listed(uid: str, modality: str = "CT", count: int = 0) -> dict[str, object]:
    values = {"0020000E": uid, "00080060": modality, "00201209": count}
    return {tag: {"vr": "UI", "Value": [value]} for tag, value in values.items()}


def wanted(study: str, series: str, there: int) -> ArchivedSeries:
    return ArchivedSeries(study_instance_uid=study, series_instance_uid=series, modality="CT", there=there, here=0)


def test_only_objects_of_the_series_that_was_asked_for_are_taken(tmp_path: Path):
    mine, others = ct_series(2), mr_series(2)
    answers = Answers(body=related(encoded([*mine, *others])), refused="transfer-syntax=*")
    with receiving(tmp_path / "node") as node, archive(node, answers) as opened:
        fetched = opened.fetch(wanted(mine[0].StudyInstanceUID, mine[0].SeriesInstanceUID, 2))
        assert {row.sop_instance_uid for row in node.rows(instance)} == {image.SOPInstanceUID for image in mine}
        assert fetched.error == "pacs sent what is no object of the series"
        assert len(answers.accepted) == 2, "a service that does not know the asterisk is asked without it"
        assert list(node.spool.folder.glob("temporary/*/*")) == []


@pytest.mark.parametrize(
    ("body", "status", "why"),
    [
        (related(encoded(ct_series(1)))[:-500], 200, "the body ends before its closing boundary"),
        (b"", 200, "the body ends before its closing boundary"),
        (b"", 503, "HTTP 503"),
    ],
    ids=["cut", "empty", "unavailable"],
)
def test_an_answer_that_is_not_whole_stores_nothing(tmp_path: Path, body: bytes, status: int, why: str):
    with receiving(tmp_path / "node") as node, archive(node, Answers(body=body, status=status)) as opened:
        assert why in opened.fetch(wanted("1.2", "1.2.3", 1)).error
        assert node.rows(instance) == []
        assert list(node.spool.folder.glob("temporary/*/*")) == []


def test_series_of_a_study_are_listed_once_and_those_that_are_here_are_left_out(tmp_path: Path):
    images = ct_series(2)
    study, series = images[0].StudyInstanceUID, images[0].SeriesInstanceUID
    answers = Answers(
        json.dumps([listed(series, count=2), listed("1.2.3", "SR")]).encode(), body=related(encoded(images))
    )
    with receiving(tmp_path / "node") as node, archive(node, answers) as opened:
        assert [archived.series_instance_uid for archived in incomplete_series(opened, study)] == [series, "1.2.3"]
        assert not opened.fetch(wanted(study, series, 2)).error
        assert [archived.modality for archived in incomplete_series(opened, study)] == ["SR"]


@pytest.mark.parametrize(
    ("series", "error"),
    [
        (b"[]", NotFoundError),
        (json.dumps([listed("../../tools")]).encode(), DeliveryError),
        (b'{"a": 1}', DeliveryError),
        (b"<html>", DeliveryError),
    ],
    ids=["none", "no UID", "no list", "no JSON"],
)
def test_a_list_of_series_that_is_none_is_said(tmp_path: Path, series: bytes, error: type[Exception]):
    with (
        receiving(tmp_path / "node") as node,
        archive(node, Answers(series)) as opened,
        pytest.raises(error),
    ):
        incomplete_series(opened, "1.2")


def test_a_service_that_does_not_match_by_what_was_asked_for_is_refused(tmp_path: Path):
    """It lists all its studies then; every one of them would be fetched."""
    study = {"0020000D": {"vr": "UI", "Value": ["1.2"]}, "00080050": {"vr": "SH", "Value": ["A2"]}}
    with (
        receiving(tmp_path / "node") as node,
        archive(node, Answers(json.dumps([study]).encode())) as opened,
        pytest.raises(DeliveryError, match="lists studies without AccessionNumber A1"),
    ):
        opened.studies({"AccessionNumber": "A1"})


@pytest.mark.parametrize("most", ["_MOST_BYTES", "_MOST_OBJECTS"])
def test_a_series_beyond_the_bounds_is_given_up_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: str
):
    """Also one object without end: nothing begins anew in it."""
    monkeypatch.setattr(archive_module, most, 1 if most == "_MOST_OBJECTS" else 200_000)
    body = related(encoded(ct_series(2) if most == "_MOST_OBJECTS" else ct_series(1, 512)))
    with receiving(tmp_path / "node") as node, archive(node, Answers(body=body)) as opened:
        assert "a series has more than" in opened.fetch(wanted("1.2", "1.2.3", 1)).error
        assert node.rows(instance) == []
        assert list(node.spool.folder.glob("temporary/*/*")) == []


def test_a_compressed_answer_is_refused(tmp_path: Path):
    answers = Answers(series=gzip.compress(b"[]"), coding="gzip")
    with (
        receiving(tmp_path / "node") as node,
        archive(node, answers) as opened,
        pytest.raises(DeliveryError, match="its response is compressed \\(gzip\\)"),
    ):
        incomplete_series(opened, "1.2")
