"""Attempts that wait for their time, and what makes them due before it."""

from __future__ import annotations

from datetime import UTC, datetime

from dbos import DBOSClient

from node.ledger import JobStage
from node.queues import attempt_queues


def make_due(client: DBOSClient, destination: str) -> None:
    """Make every attempt that waits to deliver to ``destination`` due now."""
    own = [attempt_queues.owner_queue(JobStage.DELIVER, destination), attempt_queues.stage_queue(JobStage.DELIVER)]
    waiting = client.list_workflows(status="DELAYED", queue_name=own, load_input=False, load_output=False)
    for workflow in waiting:
        if workflow.workflow_id.split("/")[3] == destination:
            client.set_workflow_delay(workflow.workflow_id, delay_until_epoch_ms=0)


def make_stranded_due(client: DBOSClient, after: float) -> None:
    """Make every retry due now whose delay began after a time, which is in the future: the clock was set back since."""
    began = datetime.fromtimestamp(after, UTC).isoformat()
    stranded = client.list_workflows(status="DELAYED", start_time=began, load_input=False, load_output=False)
    for workflow in stranded:
        client.set_workflow_delay(workflow.workflow_id, delay_until_epoch_ms=0)
