"""Lists of studies to fetch over HTTP: what programs may ask for, and what they learn."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from ledgers import open_copy
from real_peers import free_port

from node.config import Config, parse
from node.dicomweb.server import serving
from node.ledger.engine import begin_immediate
from node.ledger.fetch_lists import due_item, end_item
from node.ledger.states import FetchState
from node.ledger.tables import fetch_item, notice
from node.spool import Spool

TOKENS = {"study": "s" * 32, "trial": "t" * 32, "viewer": "v" * 32}
WANTED = {"destination": "pacs", "studies": ["A1", "1.2.3.4", "A1"], "modalities": ["CT"]}


class Scene:
    """A DICOMweb service, and its clients."""

    def __init__(self, folder: Path) -> None:
        for name, token in TOKENS.items():
            (folder / name).write_text(f"{token}\n")
        self.port = free_port()
        clients = "".join(
            f'[dicomweb.clients.{name}]\ntoken_file = "{folder / name}"\nservices = ["{service}"]\n'
            for name, service in (("study", "fetch"), ("trial", "fetch"), ("viewer", "retrieve"))
        )
        text = f"[dicomweb]\nenabled = true\nport = {self.port}\n{clients}"
        storage = {"folder": folder / "node", "min_free_gib": 0.0}
        places = {"pacs": {"title": "PACS", "host": "127.0.0.1", "port": 104}, "disk": {"folder": str(folder)}}
        self.config = Config.model_validate({**parse(text).model_dump(), "storage": storage, "destinations": places})
        self.spool = Spool(folder / "node")
        self.engine = open_copy(f"sqlite:///{folder / 'node' / 'ledger.sqlite'}")

    def client(self, name: str) -> httpx.Client:
        address = f"http://127.0.0.1:{self.port}"
        return httpx.Client(base_url=address, headers={"authorization": f"Bearer {TOKENS[name]}"}, timeout=60.0)

    def values(self) -> list[str]:
        with self.engine.connect() as connection:
            return list(connection.scalars(sa.select(fetch_item.c.value)))


@contextmanager
def served(folder: Path) -> Iterator[Scene]:
    scene = Scene(folder)
    with serving(scene.config, scene.engine, scene.spool):
        yield scene
    scene.engine.dispose()


def test_a_program_queues_a_list_follows_it_and_cancels_it(tmp_path: Path):
    with served(tmp_path) as scene, scene.client("study") as http, scene.client("trial") as other:
        answer = http.post("/fetch-lists", json=WANTED)
        assert (answer.status_code, answer.json()) == (201, {"list": 1})
        assert answer.headers["location"] == f"http://127.0.0.1:{scene.port}/fetch-lists/1"
        with begin_immediate(scene.engine) as connection:
            item = due_item(connection)
            assert item is not None
            assert (item.keyword, item.value, item.modalities) == ("AccessionNumber", "A1", ("CT",))
            end_item(connection, item, FetchState.NOT_FOUND, error="pacs has no study A1")
        missing = [{"study": "A1", "state": "not found", "here": 0, "there": 0, "error": "pacs has no study A1"}]
        counted = {
            "list": 1,
            "items": {"not found": 1, "waiting": 1},
            "images": 0,
            "error": "",
            "waits": "",
            "missing": missing,
        }
        assert http.get("/fetch-lists/1").json() == counted
        assert [other.get("/fetch-lists/1").status_code, other.delete("/fetch-lists/1").status_code] == [404, 404]
        assert http.delete("/fetch-lists/1").json() == {"items": 1}
        assert http.get("/fetch-lists/1").json()["items"] == {"cancelled": 1, "not found": 1}
        with scene.engine.connect() as connection:
            acts = [(row.who, row.detail) for row in connection.execute(sa.select(notice))]
    assert acts == [
        ("study", "queued list 1 of studies to fetch from pacs"),
        ("study", "cancelled list 1 of studies to fetch"),
    ]


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ({}, "destination: Field required"),
        (WANTED | {"destination": "x"}, "destination: destination 'x' is not configured"),
        (WANTED | {"destination": "disk"}, "destination: disk has neither host nor url"),
        (WANTED | {"studies": []}, "studies: "),
        (WANTED | {"studies": ["A1", "*"]}, "studies: '*' names more than one study"),
        (WANTED | {"studies": [1]}, "studies.0: "),
        (WANTED | {"studies": ["A" * 65]}, "studies.0: "),
        (WANTED | {"modalities": "CT"}, "modalities: "),
        (WANTED | {"modality": ["CT"]}, "modality: "),
        ([], "the body: "),
    ],
)
def test_what_is_no_list_is_refused_with_the_name_of_the_key(tmp_path: Path, body: Any, why: str):
    with served(tmp_path) as scene, scene.client("study") as http:
        answer = http.post("/fetch-lists", json=body)
        assert answer.status_code == 400
        assert why in answer.text
        assert scene.values() == []


def test_others_fetch_nothing_and_hostile_requests_are_bounded(tmp_path: Path):
    with served(tmp_path) as scene, scene.client("viewer") as viewer, scene.client("study") as http:
        assert viewer.post("/fetch-lists", json=WANTED).status_code == 403
        assert httpx.post(f"http://127.0.0.1:{scene.port}/fetch-lists", json=WANTED).status_code == 401
        assert http.post("/fetch-lists", content=b"[" * 100_000).status_code == 400
        assert http.post("/fetch-lists", content=b" " * (2 << 20)).status_code == 413
        for number in ("0", "-1", "9" * 40, "1e1"):
            assert http.get(f"/fetch-lists/{number}").status_code == 404
        assert scene.values() == []
