"""A node that performs the workitems of a manager, moved by hand."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from ups_manager import TOKEN
from workitem_scene import WorkitemScene

from node.dicomweb.archive import open_archive
from node.ledger.engine import begin_immediate
from node.ledger.states import JobStage, JobState
from node.ledger.tables import claimed_workitem, result
from node.orders.ups_inputs import UpsInputs
from node.orders.ups_performer import UpsPerformer

TABLE = """
[orders.ups]
url = "{url}"
token_file = "{token}"
poll_seconds = 1.0
{more}
"""
Row = Any


class PerformingScene(WorkitemScene):
    """A scene whose sender asks a manager and reports to it when it is told to."""

    def __init__(self, folder: Path, url: str, more: str = "", ledger: str = "") -> None:
        (folder / "manager").write_text(TOKEN)
        super().__init__(folder, TABLE.format(url=url, token=folder / "manager", more=more), ledger)
        self.restart()

    def restart(self) -> None:
        """A process that was killed has nothing in memory."""
        self.performer = UpsPerformer(self.config, self.node.engine)
        archives = partial(open_archive, self.config, self.node.engine, self.node.spool)
        self.inputs = UpsInputs(self.config, self.node.engine, archives)

    def look(self) -> None:
        """One look of each loop, at which everything is due, and of the router."""
        self.performer._asked_at = -1e9
        with begin_immediate(self.node.engine) as connection:
            connection.execute(claimed_workitem.update().values(due_at=0.0))
        self.performer.step()
        self.inputs.step()
        self.wait(1.0)

    def claim(self) -> Row:
        (row,) = self.rows(claimed_workitem)
        return row

    def finish(self, outcome: str = "findings", **values: Any) -> None:
        """End its job with an object."""
        (job,) = self.jobs()
        made = {
            "sop_instance_uid": "2.25.7",
            "job_id": job.id,
            "sop_class_uid": "1.2.840.10008.5.1.4.1.1.88.34",
            "transfer_syntax_uid": "1.2.840.10008.1.2.1",
            "series_instance_uid": "2.25.8",
            "description": "",
            "path": "x",
            "digest": "",
            "size": 1,
            "created_at": self.at,
            "kind": "sr",
        }
        with begin_immediate(self.node.engine) as connection:
            connection.execute(result.insert().values(made))
        self.set_job(job.id, state=JobState.COMPLETED, stage=JobStage.DELIVER, outcome=outcome, **values)
