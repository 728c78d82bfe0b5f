"""A measurement beyond a limit of the rule goes through a whole node: RIS, webhook and queue are told, once."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import real_peers
from dicom_files import ct_series, write
from hl7apy.parser import parse_message
from lesion_studies import store, with_lesion
from receivers import until
from ris_receiver import ris
from whole_node import WholeNode

pytestmark = pytest.mark.rotating

LINK = "https://ainode.example"


@contextmanager
def webhook() -> Iterator[tuple[str, list[Any]]]:
    """URL, and what was posted."""
    got: list[Any] = []

    class Receiver(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/", got
        server.shutdown()


def test_a_large_lesion_is_told_at_once_and_a_small_one_is_not(tmp_path: Path) -> None:
    large, small = ct_series(volume=with_lesion(), spacing=(2.5, 3.0, 3.0)), ct_series(volume=with_lesion())
    uids = [images[0].StudyInstanceUID for images in (small, large)]
    with webhook() as (url, posted), ris() as receiver, real_peers.orthanc(tmp_path) as pacs:
        ris_table = f'[destinations.ris]\nhl7 = "127.0.0.1:{receiver.port}"\napplication = "RIS"\n'
        extra = f'[notify]\nwebhook = "{url}"\n[web]\nlink_base = "{LINK}"\n{ris_table}'
        node = WholeNode(tmp_path / "node", pacs.dicom_port, extra=extra, rule='escalate = ["Volume > 0.5 ml"]')
        both = node.config.read_text().replace('destinations = ["pacs"]', 'destinations = ["pacs", "ris"]')
        node.config.write_text(both)
        try:
            node.start()
            for images, uid in zip((small, large), uids, strict=True):
                write(images, tmp_path / uid)
                store(node, tmp_path / uid)
            jobs = {uid: node.finished(uid, 1)["series"][0]["jobs"][0] for uid in uids}
            until(lambda: bool(urgent_of(posted)))
            node.kill_role("router")  # the one that sends them; another one starts
            until(lambda: node.log().count("router ready") == 2)
            explained = node.ainode("explain", uids[1]).stdout
        finally:
            node.kill()
    (told,) = urgent_of(posted)
    of_large = jobs[uids[1]]
    assert told["study_instance_uid"] == uids[1]
    assert told["job"] == of_large["id"]
    assert told["link"] == f"{LINK}/study/{uids[1]}"
    assert "Volume of " in told["why"]
    assert "(limit Volume > 0.5 ml)" in told["why"]
    assert str(large[0].PatientID) not in json.dumps(posted)
    assert (of_large["priority"], jobs[uids[0]]["priority"]) == (1, 2)
    assert jobs[uids[0]]["urgent"] is None
    assert f"urgent: {told['why']}" in explained
    stat = {study_of(message): "TQ1|1||||||||S^Stat^HL70485" in message for message in receiver.messages}
    assert stat == {uids[0]: False, uids[1]: True}
    assert all(parse_message(message).msh.msh_9.value == "ORU^R01^ORU_R01" for message in receiver.messages)


def urgent_of(posted: list[Any]) -> list[Any]:
    return [result for body in posted for result in body.get("urgent", [])]


def study_of(message: str) -> str:
    return next(line.split("|")[5] for line in message.splitlines() if "|113014^" in line)
