"""A ledger, in memory or elsewhere, that any sequence of the real transitions has been through."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import sqlalchemy as sa
from ledgers import open_copy
from pydicom import Dataset

from node.config import Config
from node.ledger import ACTIVE, JobStage
from node.ledger.deliveries import ObjectStatus, begin_delivery, record_statuses, settle_delivery
from node.ledger.delivery_proof import record_commitment, record_request
from node.ledger.engine import begin_immediate
from node.ledger.instances import Receipt, record_instances
from node.ledger.job_creation import create_job
from node.ledger.job_outcome import record_outcome, record_results, schedule_results
from node.ledger.jobs import Attempt, Job, NewJob, Retries, due_of, get_job, list_jobs
from node.ledger.pending_deliveries import instances_to_confirm, instances_to_store
from node.ledger.retry_transitions import retry_job
from node.ledger.tables import decision, series
from node.ledger.transitions import begin_attempt, cancel_job, fail_attempt, finish_attempt
from node.reasons import ReasonCode, reason
from node.routing.rules import Origin, SeriesHeader, decide

_PEER = {"host": "127.0.0.1", "port": 104}
CONFIG = Config.model_validate(
    {
        "pipelines": {"one": {}, "two": {}},
        "destinations": {
            "all": {"title": "ALL", "commitment": True, **_PEER},
            "findings": {"title": "FINDINGS", "outcomes": ("findings",), **_PEER},
        },
        "rules": (
            {"name": "ct", "match": {"Modality": "CT"}, "pipelines": ("one",), "destinations": ("all",)},
            {
                "name": "any",
                "match": {"Modality": ("CT", "MR")},
                "pipelines": ("one", "two"),
                "destinations": ("findings",),
            },
        ),
    }
)
RETRIES = Retries(max_attempts=2, first_seconds=1.0, max_seconds=2.0)
Step = tuple[str, int]


class Walk:
    """Each step is the name of a method and a number that chooses what it works on and how that goes."""

    STEPS = ("receive", "receive", "complete", *("work",) * 8, "cancel", "retry")

    def __init__(self, steps: Sequence[Step], url: str = "sqlite://") -> None:
        self.engine = open_copy(url)
        for at, (name, choice) in enumerate(steps):
            step: Callable[[sa.Connection, int, float], None] = getattr(self, name)
            with begin_immediate(self.engine) as connection:
                step(connection, choice, float(at))

    def receive(self, connection: sa.Connection, choice: int, at: float) -> None:
        """One of 12 images of 6 series in 3 studies; now and then with other content."""
        sop, of = f"9.{choice % 12}", choice % 6
        again = choice >= 48
        receipt = Receipt(
            sop_instance_uid=sop,
            sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
            transfer_syntax_uid="1.2.840.10008.1.2.1",
            study_instance_uid=f"1.{of % 3}",
            series_instance_uid=f"1.{of % 3}.{of}",
            modality=("CT", "MR", "US")[of % 3],
            path=f"{'conflicts' if again else 'incoming'}/{sop}",
            digest="0" * 64,
            size=1,
            conflict=again,
            association=None,
            received_at=at,
        )
        record_instances(connection, [receipt])

    def complete(self, connection: sa.Connection, choice: int, at: float) -> None:
        """What the router writes of a series that is complete."""
        waiting = connection.execute(sa.select(series).where(series.c.state == "RECEIVING")).all()
        if not waiting:
            return
        row = waiting[choice % len(waiting)]
        header = Dataset()
        header.Modality, header.Rows = row.modality, 1
        verdict = decide(SeriesHeader.of([header]), CONFIG.rules, Origin())
        key = {"study_instance_uid": row.study_instance_uid, "series_instance_uid": row.series_instance_uid}
        generation = row.generation + 1
        this = sa.and_(*(series.c[name] == value for name, value in key.items()))
        connection.execute(sa.update(series).where(this).values(state="COMPLETE", generation=generation))
        ruling = {"outcome": verdict.outcome, "reason": verdict.reason, "trace": list(verdict.trace), "decided_at": at}
        connection.execute(sa.insert(decision).values(**key, generation=generation, **ruling))
        for route in verdict.routes:
            create_job(connection, NewJob(**key, generation=generation, **vars(route)))

    def work(self, connection: sa.Connection, choice: int, _at: float) -> None:
        """One attempt that is due; every fourth fails, every eighth for good."""
        due = [attempt for job in list_jobs(connection) for attempt in due_of(connection, job)]
        if not due:
            return
        attempt = due[choice % len(due)]
        job = begin_attempt(connection, attempt)
        assert job is not None
        broken = choice % 4 == 3
        if attempt.stage not in (JobStage.INFER, JobStage.ENCODE):
            broken = not _deliver(connection, attempt, refused=broken)
        if broken:
            fail_attempt(connection, attempt, "broken", 1.0, RETRIES, permanent=choice % 8 == 7)
        elif attempt.stage == JobStage.INFER:
            outcome = ("findings", "no findings", "not applicable")[choice % 3]
            finish_attempt(connection, attempt, 1.0, lambda c: record_outcome(c, job.id, outcome, None))
        else:
            finish_attempt(
                connection, attempt, 1.0, lambda c: _encode(c, job) if attempt.stage == JobStage.ENCODE else None
            )

    def cancel(self, connection: sa.Connection, choice: int, _at: float) -> None:
        active = [job.id for job in list_jobs(connection) if job.state in ACTIVE]
        if active:
            cancel_job(connection, active[choice % len(active)], reason(ReasonCode.CANCELLED, operator=""))

    def retry(self, connection: sa.Connection, choice: int, _at: float) -> None:
        ended = [job.id for job in list_jobs(connection) if job.state not in ACTIVE]
        if ended:
            retry_job(connection, ended[choice % len(ended)])


def _encode(connection: sa.Connection, job: Job) -> None:
    """What the encode stage writes: two objects, a third one quarantined."""
    rows: list[dict[str, object]] = [
        {
            "sop_instance_uid": f"2.{int(job.id, 16)}.{number}",
            "job_id": job.id,
            "sop_class_uid": "1.2",
            "transfer_syntax_uid": "1.2",
            "series_instance_uid": "1.2",
            "description": "SR",
            "path": f"results/{job.id}/{number}",
            "digest": "0" * 64,
            "size": 1,
            "quarantine": "no valid DICOM" if number == 2 else None,
            "created_at": 1.0,
            "kind": "sr",
        }
        for number in range(3)
    ]
    record_results(connection, job.id, rows)
    outcome = get_job(connection, job.id).outcome or ""
    owed = {name: CONFIG.kinds(name) for name in job.destinations if CONFIG.is_recipient(name, outcome, ["sr"])}
    schedule_results(connection, job.id, owed)


def _deliver(connection: sa.Connection, attempt: Attempt, *, refused: bool) -> bool:
    """Send everything, the last object refused or not, and have it committed where that is wanted."""
    job_id, destination = attempt.job_id, attempt.subject
    claim = begin_delivery(connection, job_id, destination)
    if claim is None:
        return True
    owed = instances_to_store(connection, job_id, destination)
    for instance in owed:
        status = 0xA700 if refused and instance is owed[-1] else 0x0000
        record_statuses(connection, claim, [ObjectStatus(instance.sop_instance_uid, status)])
    state = settle_delivery(connection, job_id, destination)
    if state == "STORED" and CONFIG.destinations[destination].commitment:
        uids = [instance.sop_instance_uid for instance in instances_to_confirm(connection, job_id, destination)]
        record_request(connection, job_id, destination, uids, f"3.{attempt.key}")
        record_commitment(connection, f"3.{attempt.key}", uids, [])
    return state != "SCHEDULED"
