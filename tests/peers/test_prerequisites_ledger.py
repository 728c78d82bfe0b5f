"""Jobs that need the result of another one, in both databases: who waits, and who is due when."""

from __future__ import annotations

from dataclasses import replace

import postgres
import sqlalchemy as sa

from node.ledger import JobStage, transitions
from node.ledger.engine import begin_immediate
from node.ledger.job_creation import create_job
from node.ledger.jobs import Attempt, NewJob, get_job
from node.ledger.pending_attempts import due_attempts, stuck_jobs
from node.ledger.prerequisite_results import prerequisite_results
from node.ledger.prerequisites import waits
from node.reasons import ReasonCode, reason

ORGAN = NewJob(
    study_instance_uid="1.2", series_instance_uid="1.2.1", generation=1, pipeline="organ", rule="r",
    destinations=("pacs",), priority=2,
)  # fmt: skip
LESION = replace(ORGAN, pipeline="lesion", after="organ")
TUMOUR = replace(ORGAN, pipeline="tumour", after="lesion")
NOTHING = sa.select(sa.literal("").label("key"))


def created(connection: sa.Connection) -> Attempt:
    [due] = create_job(connection, ORGAN) or []
    assert [create_job(connection, job) for job in (LESION, TUMOUR)] == [[], []], "made, and not due"
    assert create_job(connection, LESION) is None
    create_job(connection, replace(ORGAN, generation=2))  # of which nobody needs the result
    return due


def finished(connection: sa.Connection, attempt: Attempt) -> list[Attempt]:
    return transitions.finish_attempt(connection, attempt, 1.0, lambda _: None) or []


@postgres.BOTH
def test_a_job_is_due_when_the_one_before_it_is_past_encode(engine: sa.Engine) -> None:
    with begin_immediate(engine) as connection:
        infer = created(connection)
        later = get_job(connection, LESION.id).updated_at + 60
        due = [attempt.job_id for attempt in due_attempts(connection, later, NOTHING)]
        assert sorted(due) == sorted([ORGAN.id, replace(ORGAN, generation=2).id])
        assert LESION.id not in [job.id for job in stuck_jobs(connection, later)]
        [encode] = finished(connection, infer)
        assert (encode.job_id, waits(connection, LESION.id)) == (ORGAN.id, True)
        released = finished(connection, encode)
        assert [(attempt.job_id, attempt.stage) for attempt in released] == [(LESION.id, JobStage.INFER)]
        assert LESION.id in [attempt.job_id for attempt in due_attempts(connection, later, NOTHING)], "as after a kill"
        assert [result.pipeline for result in prerequisite_results(connection, get_job(connection, TUMOUR.id))] == [
            "lesion",
            "organ",
        ]


@postgres.BOTH
def test_the_end_of_a_job_without_a_result_releases_the_next_one_only(engine: sa.Engine) -> None:
    with begin_immediate(engine) as connection:
        created(connection)
        why = reason(ReasonCode.CANCELLED, operator="")
        assert [attempt.job_id for attempt in transitions.cancel_job(connection, ORGAN.id, why)] == [LESION.id]
        assert waits(connection, TUMOUR.id)


@postgres.BOTH
def test_late_images_end_all_jobs_of_a_chain(engine: sa.Engine) -> None:
    with begin_immediate(engine) as connection:
        created(connection)
        transitions.supersede_jobs(connection, "1.2", "1.2.1", 2)
        states = {get_job(connection, job.id).state for job in (ORGAN, LESION, TUMOUR)}
        assert states == {"CANCELED"}
