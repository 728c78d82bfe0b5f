"""Two studies walk from their orders to what the hospital's other systems get, while every process is killed once.

One order comes as an HL7 message (python-hl7), the other one is in a Modality Worklist (dcmtk). Results go to Orthanc,
to a receiver of HL7 messages (hl7apy) and to a FHIR server that validates (fhir.resources).
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest
import real_peers
from dicom_files import ct_series, write
from fhir_server import fhir_server
from hl7.client import MLLPClient
from hl7_orders import answer_of, order
from hl7apy.parser import parse_message
from lesion_studies import store, with_lesion
from pydicom.uid import Comprehensive3DSRStorage, SegmentationStorage
from receivers import until
from ris_receiver import ris
from whole_node import WholeNode
from worklists import Wlmscpfs, entry
from worklists import write as write_entries

pytestmark = pytest.mark.rotating

TABLES = """
[orders]
enabled = true
address = "127.0.0.1"
port = {orders}
senders = ["127.0.0.1"]
[orders.worklist]
title = "RISWL"
host = "127.0.0.1"
port = {worklist}
wait_seconds = 60
[destinations.ris]
hl7 = "127.0.0.1:{ris}"
application = "RIS"
first_retry_seconds = 0.5
max_retry_seconds = 1.0
[destinations.ehr]
fhir = "{fhir}"
first_retry_seconds = 0.5
max_retry_seconds = 1.0
"""


def study_of(accession: str, folder: Path) -> str:
    """Write a chest CT with a lesion, to be sent; return its UID."""
    images = ct_series(volume=with_lesion())
    for image in images:
        image.PatientID, image.IssuerOfPatientID, image.AccessionNumber = "PAT1", "HOSP", accession
    write(images, folder)
    return str(images[0].StudyInstanceUID)


def test_findings_reach_every_system_once_although_each_process_is_killed(tmp_path: Path) -> None:
    with ExitStack() as opened:
        pacs = opened.enter_context(real_peers.orthanc(tmp_path))
        receiver, ehr = opened.enter_context(ris()), opened.enter_context(fhir_server())
        worklist, orders = Wlmscpfs(tmp_path / "worklist"), real_peers.free_port()
        write_entries(worklist.folder, entry(AccessionNumber="A2"), entry(PatientID="PAT9", AccessionNumber="A9"))
        tables = TABLES.format(orders=orders, worklist=worklist.port, ris=receiver.port, fhir=ehr.url)
        node = WholeNode(tmp_path / "node", pacs.dicom_port, extra=tables)
        text = node.config.read_text().replace('destinations = ["pacs"]', 'destinations = ["pacs", "ris", "ehr"]')
        text = text.replace("[destinations.pacs]", "[destinations.pacs]\nfind = true")
        node.config.write_text(text + '"order.priority" = ["STAT", "HIGH"]\n"order.procedure_code" = "CTCHEST"\n')
        worklist.start()
        opened.callback(worklist.stop)
        node.start()
        opened.callback(node.kill)
        with MLLPClient("127.0.0.1", orders) as client:
            assert answer_of(client.send_message(order("1")).decode())[0] == "AA"
        node.kill_role("orders")
        studies = {accession: study_of(accession, tmp_path / accession) for accession in ("A1", "A2")}
        store(node, tmp_path / "A1")
        node.kill_role("receiver")
        until(lambda: node.log().count("receiver ready") == 2)
        store(node, tmp_path / "A2")
        node.kill_role("router")
        until(lambda: any(series["jobs"] for series in node.explain(studies["A1"]).get("series", ())))
        node.kill_role("worker")
        until(lambda: bool(pacs.instances()))
        node.kill_role("sender")
        explanations = {accession: node.finished(study, 1) for accession, study in studies.items()}
        account = node.ainode("account")
        held = [pacs.download(uid) for uid in pacs.instances()]
    for accession, of in explanations.items():
        (job,) = (job for series in of["series"] for job in series["jobs"])
        assert (job["priority"], job["outcome"]) == (1, "findings")
        assert [matched_order["of_worklist"] for matched_order in of["orders"]] == [accession == "A2"]
        states = {delivery["destination"]: delivery["state"] for delivery in job["deliveries"]}
        assert states == {"pacs": "CONFIRMED", "ris": "STORED", "ehr": "STORED"}
    assert account.returncode == 0, account.stdout
    for sop_class in (SegmentationStorage, Comprehensive3DSRStorage):
        made = [dataset.StudyInstanceUID for dataset in held if dataset.SOPClassUID == sop_class]
        assert sorted(made) == sorted(studies.values())
    assert len(receiver.distinct) == len(studies)
    assert all(parse_message(message).msh.msh_9.value == "ORU^R01^ORU_R01" for message in receiver.messages)
    assert len(ehr.of("DiagnosticReport")) == len(studies)
