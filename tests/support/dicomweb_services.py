"""The DICOMweb service of a node in this process, and a client of it."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from pydicom.dataset import Dataset
from real_peers import free_port
from receivers import Node, configuration

from node.config import Config, parse
from node.dicomweb.server import serving
from node.ledger.tables import instance
from node.spool import Spool

TOKENS = {"vna": "v" * 32, "viewer": "r" * 40}


@dataclass(frozen=True)
class Service:
    """The service of a node, and a client of it."""

    node: Node
    http: httpx.Client

    def store(
        self, parts: Sequence[bytes], *, path: str = "/studies", kind: str = "application/dicom", chunked: bool = False
    ) -> httpx.Response:
        body = related(parts, kind)
        headers = {"content-type": f'multipart/related; type="{kind}"; boundary=part'}
        content = (body[start : start + 5000] for start in range(0, len(body), 5000)) if chunked else body
        return self.http.post(path, content=content, headers=headers)

    @property
    def here(self) -> set[str]:
        return {row.sop_instance_uid for row in self.node.rows(instance)}


def related(parts: Sequence[bytes], kind: str = "application/dicom") -> bytes:
    head = f"\r\n--part\r\nContent-Type: {kind}\r\n\r\n".encode()
    return b"".join(head + part for part in parts) + b"\r\n--part--\r\n"


def encoded(images: Sequence[Dataset]) -> list[bytes]:
    made = []
    for image in images:
        buffer = io.BytesIO()
        image.save_as(buffer, enforce_file_format=True)
        made.append(buffer.getvalue())
    return made


def uids(answer: httpx.Response, sequence: str) -> set[str]:
    items = Dataset.from_json(answer.text).get(sequence) or ()
    return {item.ReferencedSOPInstanceUID for item in items}


def service_config(storage_folder: Path, port: int, folder: Path, extra: str = "", storage: str = "") -> Config:
    """Configuration of a node whose receiver is at ``port``; the tokens of the clients are written to ``folder``."""
    for name, token in TOKENS.items():
        (folder / name).write_text(f"{token}\n")
    text = configuration(storage_folder, port, storage=storage or "min_free_gib = 0.0")
    return parse(
        text
        + f"""
[dicomweb]
enabled = true
port = {free_port()}
{extra}
[dicomweb.clients.vna]
token_file = "{folder / "vna"}"
title = "VNA"
[dicomweb.clients.viewer]
token_file = "{folder / "viewer"}"
services = ["retrieve"]
"""
    )


@contextmanager
def serving_beside(node: Node, folder: Path, extra: str = "", storage: str = "") -> Iterator[Service]:
    config = service_config(node.config.storage.folder, node.port, folder, extra, storage)
    base = f"http://127.0.0.1:{config.dicomweb.port}"
    headers = {"authorization": f"Bearer {TOKENS['vna']}"}
    with (
        serving(config, node.engine, Spool(node.config.storage.folder)),
        httpx.Client(base_url=base, headers=headers, timeout=60.0) as http,
    ):
        yield Service(node, http)
