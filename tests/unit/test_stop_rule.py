"""The stop rule: when readers' verdicts end the sending of a pipeline's results, and how it is resumed."""

from __future__ import annotations

import time
from statistics import median

import pytest
import sqlalchemy as sa
from stop_rule_runs import DRAWS, TOO_MANY_REJECTED, delays, false_stops

from node.config import Config, StopRule, parse
from node.errors import ConfigError, NodeError
from node.feedback.stop_rule import stop_reason
from node.feedback.stop_watch import StopWatch
from node.ledger.engine import begin_immediate
from node.ledger.job_creation import create_job
from node.ledger.job_outcome import schedule_results
from node.ledger.jobs import NewJob, get_job
from node.ledger.pending_deliveries import deliveries_of
from node.ledger.retry_transitions import retry_job
from node.ledger.shadow import pipelines_in_shadow, resume_sending, stays_in_shadow, stop_sending
from node.ledger.tables import job_fact, notice, result, series, verdict
from node.ledger.transitions import begin_attempt, finish_attempt
from node.ledger.verdict_counts import JudgedAnalysis, judged_analyses, verdict_totals
from node.operate.account.report import account
from node.operate.account.rows import read
from node.operate.alerts import ledger_alerts
from node.operate.stop_rules import resume_pipeline
from node.reasons import reason_text

RULE = StopRule(expected_ppv=0.8, stop_ppv=0.5)
GOOD, BAD = JudgedAnalysis(confirmed=2, rejected=0), JudgedAnalysis(confirmed=0, rejected=2)


def judge(engine: sa.Engine, said: str, numbers: range, *, at: float = 1.0, **values: object) -> None:
    """Store analyses with one verdict each."""
    fact = {
        "pipeline": "nodule", "version": "1", "scanner": "", "at": at, "outcome": "findings", "slices": 9,
        "findings": 1, "scores": [], "device": "cpu", "run_seconds": 1.0, **values,
    }  # fmt: skip
    given = {"source": "1.2", "lesion": "a", "kind": "segmentation", "verdict": said, "reader": ""}
    with begin_immediate(engine) as connection:
        connection.execute(sa.insert(job_fact), [fact | {"job_id": f"job {n}"} for n in numbers])
        rows = [given | {"job_id": f"job {n}", "given_at": float(n)} for n in numbers]
        connection.execute(sa.insert(verdict), rows)


def configuration(**tables: str) -> Config:
    stop = "[pipelines.nodule.stop]\nexpected_ppv = 0.8\nstop_ppv = 0.5\n"
    return parse(stop + "".join(tables.values()))


def watch(engine: sa.Engine) -> list[str]:
    return StopWatch(configuration(), engine).step()


def test_rejections_in_a_row_trip_the_rule_and_good_analyses_before_them_do_not_delay_it():
    number = next(n for n in range(1, 50) if stop_reason(RULE, [BAD] * n) is not None)
    assert number == 11  # ln 20000 / ln 2.5, rounded up
    assert stop_reason(RULE, [GOOD] * 500 + [BAD] * number) == stop_reason(RULE, [BAD] * number)
    assert stop_reason(RULE, [GOOD, BAD] * 100) is not None
    assert stop_reason(RULE, [GOOD, GOOD, GOOD, GOOD, BAD] * 1000) is None
    why = stop_reason(RULE, [GOOD] * 3 + [BAD] * 11)
    assert "readers confirmed 0 of 22 lesions (0 %) in the latest 11 judged analyses" in reason_text(why)


def test_an_analysis_counts_once_however_many_lesions_it_has():
    many = JudgedAnalysis(confirmed=0, rejected=40)
    assert stop_reason(RULE, [many] * 10) is None
    assert stop_reason(RULE, [many] * 11) is not None


@pytest.mark.parametrize("draw", DRAWS)
def test_false_stops_are_rarer_than_stated_whatever_the_lesions_of_an_analysis_have_in_common(draw: str):
    rule = StopRule(expected_ppv=0.8, stop_ppv=0.5, analyses_between_false_stops=1000)
    assert false_stops(rule, DRAWS[draw], 100_000, seed=7) < 100


def test_a_fall_from_80_to_50_percent_is_noticed_within_the_documented_number_of_verdicts():
    taken = delays(RULE, DRAWS["1 lesion"], 0.5, 300, seed=3)
    assert 30 < median(analyses for analyses, _ in taken) < 50


def test_the_rule_needs_a_fall():
    with pytest.raises(ConfigError, match=r"stop_ppv = 0.8 has to be less than expected_ppv = 0.5"):
        parse("[pipelines.nodule.stop]\nexpected_ppv = 0.5\nstop_ppv = 0.8\n")


def test_verdicts_that_trip_the_rule_stop_the_sending_once_and_are_in_the_audit_trail(engine: sa.Engine):
    judge(engine, "accepted", range(30))
    assert watch(engine) == []
    judge(engine, "rejected", range(30, 45))
    assert watch(engine) == ["nodule"]
    assert watch(engine) == []
    with engine.connect() as connection:
        [stop] = pipelines_in_shadow(connection).values()
        [(who, detail)] = connection.execute(sa.select(notice.c.who, notice.c.detail)).all()
        alerts = ledger_alerts(configuration(), connection, time.time())
    assert who.endswith("stop rule")
    assert reason_text(stop.why) in detail
    assert reason_text(stop.why) in alerts["stop rule nodule"]


def test_only_the_version_that_ran_last_is_judged_and_nothing_from_before_a_resumption(engine: sa.Engine):
    judge(engine, "rejected", range(10))
    judge(engine, "rejected", range(10, 18), at=2.0, version="2")
    judge(engine, "accepted", range(18, 20), at=3.0, version="2", shadow="trial")
    with engine.connect() as connection:
        assert judged_analyses(connection, "nodule", 0.0) == [JudgedAnalysis(confirmed=0, rejected=1)] * 8
        assert judged_analyses(connection, "nodule", 2.5) == []
        totals = {(of.version, of.verdict): of.lesions for of in verdict_totals(connection)}
    assert (totals["1", "rejected"], totals["2", "rejected"], totals["2", "accepted"]) == (10, 8, 0)


def test_what_was_resumed_stops_again_only_by_verdicts_on_later_analyses(engine: sa.Engine):
    judge(engine, "rejected", range(15))
    assert watch(engine) == ["nodule"]
    resume_pipeline(engine, "nodule", reason="new weights", who="anna")
    with pytest.raises(NodeError, match="was not stopped by its stop rule"):
        resume_pipeline(engine, "nodule", reason="again", who="anna")
    judge(engine, "rejected", range(15, 25))
    assert watch(engine) == []
    judge(engine, "rejected", range(25, 40), at=time.time() + 60)
    assert watch(engine) == ["nodule"]
    with engine.connect() as connection:
        rows = connection.execute(sa.select(notice.c.who, notice.c.detail)).all()
    assert next(detail for who, detail in rows if who == "anna").startswith(
        "resumed pipeline nodule: new weights (stop"
    )


NEW = NewJob(
    study_instance_uid="1.2",
    series_instance_uid="1.2.3",
    generation=1,
    pipeline="nodule",
    rule="chest",
    destinations=("pacs",),
    priority=1,
)
OBJECT = {
    "sop_instance_uid": "1.2.3.4", "job_id": NEW.id, "sop_class_uid": "1.2.840.10008.5.1.4.1.1.66.4",
    "transfer_syntax_uid": "1.2.840.10008.1.2.1", "series_instance_uid": "1.2.9", "description": "SEG", "path": "a",
    "digest": "d", "size": 1, "created_at": 1.0, "kind": "seg",
}  # fmt: skip


def to_delivery(connection: sa.Connection) -> None:
    """Take the job through infer and encode, as the stages do."""
    [infer] = create_job(connection, NEW)
    _encode(connection, infer)


def _encode(connection: sa.Connection, infer: object) -> None:
    assert begin_attempt(connection, infer) is not None
    [encode] = finish_attempt(connection, infer, 1.0, lambda _: None) or []
    assert begin_attempt(connection, encode) is not None

    def write(connection: sa.Connection) -> None:
        connection.execute(sa.delete(result))
        connection.execute(sa.insert(result), [OBJECT])
        if not stays_in_shadow(connection, get_job(connection, NEW.id)):
            schedule_results(connection, NEW.id, {"pacs": None})

    finish_attempt(connection, encode, 1.0, write)


def test_results_encoded_after_the_stop_are_kept_and_sent_by_a_retry_after_the_resumption(engine: sa.Engine):
    with begin_immediate(engine) as connection:
        assert stop_sending(connection, "nodule", TOO_MANY_REJECTED)
        to_delivery(connection)
        kept = get_job(connection, NEW.id)
        assert (kept.state, kept.shadow) == ("COMPLETED", "stop rule")
        assert deliveries_of(connection, NEW.id) == []
        assert resume_sending(connection, "nodule").why == TOO_MANY_REJECTED
        [infer] = retry_job(connection, NEW.id)
        _encode(connection, infer)
        assert get_job(connection, NEW.id).shadow is None
        assert [row.destination for row in deliveries_of(connection, NEW.id)] == ["pacs"]


def test_the_account_says_when_something_in_shadow_has_a_delivery(engine: sa.Engine):
    def every(_destination: str, _outcome: str, _kinds: object) -> bool:
        return True

    with begin_immediate(engine) as connection:
        received = {"modality": "CT", "state": "COMPLETE", "instances": 0, "first_at": 1.0, "last_at": 1.0}
        uids = {"study_instance_uid": NEW.study_instance_uid, "series_instance_uid": NEW.series_instance_uid}
        connection.execute(sa.insert(series).values(**uids, **received, generation=1))
        stop_sending(connection, "nodule", TOO_MANY_REJECTED)
        to_delivery(connection)
    name = f"job {NEW.id}"
    of_job = [difference for difference in account(read(engine), every).differences if "delivery" in difference]
    assert of_job == []
    with begin_immediate(engine) as connection:
        schedule_results(connection, NEW.id, {"pacs": None})
    of_job = [difference for difference in account(read(engine), every).differences if "delivery" in difference]
    assert f"{name}: is kept in shadow, but has a delivery to 'pacs'" in of_job


def test_deliveries_that_wait_when_the_rule_trips_are_cancelled_with_the_reason(engine: sa.Engine):
    with begin_immediate(engine) as connection:
        to_delivery(connection)
        stop_sending(connection, "nodule", TOO_MANY_REJECTED)
        job = get_job(connection, NEW.id)
        [delivery] = deliveries_of(connection, NEW.id)
    assert (job.state, delivery.state) == ("CANCELED", "CANCELED")
    assert reason_text(job.reason).startswith("the stop rule of pipeline nodule has tripped: readers confirmed 1 of 24")


def test_a_rejection_note_that_waits_when_the_rule_trips_is_sent(engine: sa.Engine):
    with begin_immediate(engine) as connection:
        to_delivery(connection)
        connection.execute(sa.insert(result), [OBJECT | {"sop_instance_uid": "1.2.3.5", "kind": "rejection"}])
        stop_sending(connection, "nodule", TOO_MANY_REJECTED)
        assert [row.state for row in deliveries_of(connection, NEW.id)] == ["SCHEDULED"]
