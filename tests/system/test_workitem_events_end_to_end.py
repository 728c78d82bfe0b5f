"""A whole node, a RIS and a screen: the node is killed amid an analysis, and both are told of its end all the same.

The RIS is told over DIMSE, the screen over a WebSocket.
"""

from __future__ import annotations

import json
from pathlib import Path

import httpx
from dicom_files import ct_series, write
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE, build_context
from pynetdicom.sop_class import UnifiedProcedureStepWatch
from real_peers import dcmtk, free_port, orthanc
from receivers import until
from ups_watcher import EVERY, SUBSCRIBE, WATCHER, Watcher, act
from websockets.sync.client import connect
from whole_node import WholeNode

PROCEDURE = """
[procedures.bright]
code = "AI-NODULE"
scheme = "99SITE"
meaning = "Bright things"
pipeline = "bright"
destinations = ["pacs"]
[dicomweb]
enabled = true
port = {port}
[dicomweb.clients.screen]
token_file = "{token}"
services = ["watch", "retrieve"]
title = "SCREEN"
"""
TOKEN = "s" * 32


def test_a_subscriber_is_told_from_schedule_to_end_by_a_node_that_is_killed_meanwhile(tmp_path: Path) -> None:
    watcher, port, token = Watcher(), free_port(), tmp_path / "token"
    token.write_text(TOKEN)
    headers = {"authorization": f"Bearer {TOKEN}"}
    with orthanc(tmp_path / "pacs") as pacs:
        node = WholeNode(tmp_path / "node", pacs.dicom_port, extra=PROCEDURE.format(port=port, token=token))
        host = f'host = "127.0.0.1", port = {watcher.port}'
        callers = f'callers = [{{ title = "{WATCHER}", {host} }}, {{ title = "STORESCU" }}]'
        node.config.write_text(node.config.read_text().replace("[ae]\n", f"[ae]\n{callers}\n"))
        images = ct_series(n=4, size=32)
        study = str(images[0].StudyInstanceUID)
        try:
            node.start()
            contexts = [build_context(UnifiedProcedureStepWatch, ExplicitVRLittleEndian)]
            peer = AE(ae_title=WATCHER).associate("127.0.0.1", node.port, contexts, ae_title="AINODE")
            assert act(peer, SUBSCRIBE, EVERY) == 0x0000
            peer.release()
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers) as http:
                assert http.post(f"/workitems/{EVERY}/subscribers/SCREEN").status_code == 201
            dcmtk("storescu", "-aec", "AINODE", "127.0.0.1", node.port, *write(images, tmp_path / "images"))
            until(lambda: [series for series in node.explain(study).get("series", ()) if series["jobs"]])
            node.kill()
            node.start()
            node.finished(study, 1)
            with watcher.listening():  # it was away until now
                until(lambda: "COMPLETED" in states(watcher), seconds=120.0)
            url = f"ws://127.0.0.1:{port}/subscribers/SCREEN"
            with connect(url, additional_headers=headers, proxy=None) as channel:
                for event in map(json.loads, channel):
                    assert event["00001000"]["Value"] == [watcher.events[0][0]]
                    if event.get("00741000", {}).get("Value") == ["COMPLETED"]:
                        break
            place = f"http://127.0.0.1:{port}/studies/{study}/thumbnail"
            assert httpx.get(place, headers=headers, timeout=120.0).content[:2] == b"\xff\xd8"  # a JPEG
        finally:
            node.kill()
        assert len({uid for uid, _, _ in watcher.events}) == 1
        assert states(watcher)[-1] == "COMPLETED"


def states(watcher: Watcher) -> list[str]:
    return [str(of.ProcedureStepState) for _, kind, of in watcher.events if kind == 1]
