"""A node whose router and whose queries of a worklist are moved by hand along a clock."""

from __future__ import annotations

from pathlib import Path

from dicom_files import ct_series
from routing_scene import Scene
from worklists import TITLE

from node.config import Orders
from node.ledger.counts import worklist_queries_by_state
from node.ledger.engine import begin_immediate
from node.ledger.order_messages import Receipt, record_messages
from node.operate.explain import explain
from node.operate.explain_text import describe
from node.orders.hl7_text import parse_hl7
from node.orders.order_message import order_message_of
from node.orders.worklist_queries import WorklistQueries

NODE = """
[orders.worklist]
title = "{title}"
host = "127.0.0.1"
port = {port}
wait_seconds = 20.0
[series]
quiet_seconds = 10.0
stat_quiet_seconds = 10.0
[pipelines.scripted]
factory = "job_pipelines:create"
[destinations.pacs]
title = "PACS"
host = "127.0.0.1"
port = 1
[[rules]]
name = "ordered"
pipelines = ["scripted"]
destinations = ["pacs"]
match = {{ "order.procedure_code" = "CTCHEST", "order.reason" = "re:nodule, größer" }}
"""


class WorklistScene(Scene):
    """A scene whose sender asks a worklist when it is told to."""

    def __init__(self, folder: Path, port: int, title: str = TITLE, url: str = "") -> None:
        super().__init__(folder, NODE.format(title=title, port=port), url)
        self.queries = WorklistQueries(self.config, self.node.engine)

    def take(self, **attributes: str) -> str:
        identity = {"PatientID": "PAT1", "AccessionNumber": "A1", "IssuerOfPatientID": "HOSP"} | attributes
        return self.receive(ct_series(n=4, size=16, study=self.study), **identity)

    def ask(self) -> int:
        return self.queries.step(self.at)

    def close(self) -> None:
        """Close all connections; on PostgreSQL leading holds one."""
        self.queries._leadership.release()
        self.node.engine.dispose()

    def text(self) -> str:
        return describe(explain(self.node.engine, self.study))

    def states(self) -> dict[str, int]:
        with self.node.engine.connect() as connection:
            return {state: number for state, number in worklist_queries_by_state(connection).items() if number}

    def hear(self, message: str) -> None:
        receipt = Receipt(id=message, sender="RIS", control_id="1", kind="ORM^O01", peer_address="", answer="AA")
        said = order_message_of(parse_hl7(message.encode()), Orders())
        with begin_immediate(self.node.engine) as connection:
            record_messages(connection, [(receipt, said)])
