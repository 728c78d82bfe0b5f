"""A whole node and a RIS: images come, the node is killed and started, and the RIS is told of everything over DIMSE."""

from __future__ import annotations

from pathlib import Path

from dicom_files import ct_series, write
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE, build_context
from pynetdicom.sop_class import UnifiedProcedureStepWatch
from real_peers import dcmtk, orthanc
from receivers import until
from ups_watcher import EVERY, SUBSCRIBE, WATCHER, Watcher, act
from whole_node import WholeNode

PROCEDURE = """
[procedures.bright]
code = "AI-NODULE"
scheme = "99SITE"
meaning = "Bright things"
pipeline = "bright"
destinations = ["pacs"]
"""


def test_a_subscriber_is_told_from_schedule_to_end_by_a_node_that_is_killed_meanwhile(tmp_path: Path) -> None:
    watcher = Watcher()
    with orthanc(tmp_path / "pacs") as pacs:
        node = WholeNode(tmp_path / "node", pacs.dicom_port, extra=PROCEDURE)
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
            dcmtk("storescu", "-aec", "AINODE", "127.0.0.1", node.port, *write(images, tmp_path / "images"))
            until(lambda: [one for one in node.explain(study).get("series", ()) if one["jobs"]])
            node.kill()
            node.start()
            node.finished(study, 1)
            with watcher.listening():  # it was away until now
                until(lambda: "COMPLETED" in states(watcher), seconds=120.0)
        finally:
            node.kill()
        assert len({uid for uid, _, _ in watcher.events}) == 1
        assert states(watcher)[-1] == "COMPLETED"


def states(watcher: Watcher) -> list[str]:
    return [str(of.ProcedureStepState) for _, kind, of in watcher.events if kind == 1]
