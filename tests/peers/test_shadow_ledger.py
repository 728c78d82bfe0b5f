"""Stop rules and shadow on both databases."""

from __future__ import annotations

import time

import postgres
import sqlalchemy as sa

from node.config import parse
from node.feedback.stop_watch import StopWatch
from node.ledger.engine import begin_immediate
from node.ledger.job_creation import create_job
from node.ledger.job_outcome import record_outcome
from node.ledger.jobs import NewJob, get_job
from node.ledger.promotions import active_promotions, answered_before, promote, promotions, roll_back
from node.ledger.shadow import pipelines_in_shadow, resume_sending
from node.ledger.states import ShadowCause
from node.ledger.tables import job, job_fact, notice, verdict
from node.ledger.trials import Untried, added_lesions, segmentation_path, trial_pairs, untried
from node.ledger.verdict_counts import verdict_totals

pytestmark = postgres.BOTH


def judge(engine: sa.Engine, said: str, numbers: range, at: float) -> None:
    fact = {
        "pipeline": "nodule", "scanner": "", "at": at, "outcome": "findings", "slices": 9, "findings": 1,
        "scores": [], "device": "cpu", "run_seconds": 1.0,
    }  # fmt: skip
    given = {"source": "1.2", "lesion": "a", "kind": "segmentation", "verdict": said, "reader": ""}
    with begin_immediate(engine) as connection:
        facts = [fact | {"job_id": f"job {n}", "version": "1" if n % 2 else None} for n in numbers]
        connection.execute(sa.insert(job_fact), facts)
        connection.execute(sa.insert(verdict), [given | {"job_id": f"job {n}", "given_at": float(n)} for n in numbers])


def test_a_stop_is_recorded_once_resumed_and_recorded_again(engine: sa.Engine):
    watch = StopWatch(parse("[pipelines.nodule.stop]\nexpected_ppv = 0.8\nstop_ppv = 0.5\n"), engine)
    judge(engine, "accepted", range(1, 40), 1.0)
    assert watch.step() == []
    judge(engine, "rejected", range(41, 80, 2), 1.0)
    assert (watch.step(), watch.step()) == (["nodule"], [])
    with begin_immediate(engine) as connection:
        assert pipelines_in_shadow(connection)["nodule"].why["code"] == "quality fell"
        resume_sending(connection, "nodule")
        assert pipelines_in_shadow(connection) == {}
        totals = {(of.version, of.verdict): of.lesions for of in verdict_totals(connection)}
    assert totals["1", "accepted"] + totals["", "accepted"] == 39
    assert totals["1", "rejected"] == 20
    assert watch.step() == []
    judge(engine, "rejected", range(101, 140, 2), time.time() + 60)
    assert watch.step() == ["nodule"]
    with engine.connect() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(notice)) == 2


def test_a_look_at_ten_thousand_verdicts_is_quick(engine: sa.Engine):
    judge(engine, "accepted", range(10_000), 1.0)
    watch = StopWatch(parse("[pipelines.nodule.stop]\nexpected_ppv = 0.8\nstop_ppv = 0.5\n"), engine)
    watch.step()
    begun = time.process_time()  # of this process: other tests run beside it
    assert watch.step() == []
    assert time.process_time() - begun < 2.0


def test_a_trial_pairs_both_analyses_of_a_series_and_a_promotion_exchanges_them(engine: sa.Engine):
    new = {"study_instance_uid": "1.2", "generation": 1, "rule": "r", "destinations": ("pacs",), "priority": 2}
    with begin_immediate(engine) as connection:
        for series in ("1.2.1", "1.2.2"):
            for pipeline, shadow in (("a", None), ("b", ShadowCause.TRIAL)):
                new_job = NewJob(**new, series_instance_uid=series, pipeline=pipeline, shadow=shadow)
                create_job(connection, new_job)
                if series == "1.2.1":
                    record_outcome(connection, new_job.id, "findings", None)
                    connection.execute(sa.update(job).where(job.c.id == new_job.id).values(state="COMPLETED"))
        waiting = untried(connection, "a", "b")
        assert (waiting.series, waiting.since) == (1, get_job(connection, new_job.id).created_at)
        assert untried(connection, "c", "d") == Untried()
        [pair] = trial_pairs(connection, "a", "b", 10)
        assert (pair.champion.in_shadow, pair.candidate.in_shadow, pair.sent) == (False, True, pair.champion)
        assert pair.champion.run_seconds is None
        assert segmentation_path(connection, pair.champion.job_id, ["1.2"]) is None
        assert added_lesions(connection, pair.champion.job_id) == []
        promote(connection, "a", "b", who="anna", reason="better")
        assert [promotion.candidate for promotion in active_promotions(connection)] == ["b"]
        assert roll_back(connection, "a").reason == "better"
        promote(connection, "a", "b", who="anna", reason="again")
        assert [promotion.reason for promotion in promotions(connection)] == ["again"]
        assert answered_before(connection, "1.2", "1.2.1") == {"a"}
