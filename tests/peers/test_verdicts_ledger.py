"""Verdicts on both databases: objects, clicks and what is counted."""

from __future__ import annotations

import postgres
import sqlalchemy as sa

from node.feedback.quality_report import VerdictCounts
from node.ledger.clicked_verdicts import current_verdicts, record_click, withdraw_click
from node.ledger.clock import ledger_clock
from node.ledger.engine import begin_immediate
from node.ledger.tables import instance, job, job_fact, result, series
from node.ledger.verdict import LesionVerdict, SourceKind, Verdict
from node.ledger.verdict_recording import (
    ReaderObject,
    ResultObject,
    analyses_before,
    record_no_verdict,
    record_verdicts,
    unread_objects,
)
from node.reasons import ReasonCode, reason

SEG = "1.2.840.10008.5.1.4.1.1.66.4"


pytestmark = postgres.BOTH


def test_verdicts_are_recorded_once_clicked_withdrawn_and_counted(engine: sa.Engine):
    study, images, masks = "1.2", "1.2.1", "1.2.2"
    with begin_immediate(engine) as connection:
        at = ledger_clock(connection)
        common = {"study_instance_uid": study, "generation": 1, "instances": 1, "first_at": at, "last_at": at}
        for uid, modality in ((images, "CT"), (masks, "SEG")):
            connection.execute(
                series.insert().values(**common, series_instance_uid=uid, modality=modality, state="COMPLETE")
            )
        file = {"transfer_syntax_uid": "1.2", "path": "a", "digest": "b", "size": 1}
        for number in (1, 2):
            connection.execute(
                instance.insert().values(
                    **file, sop_instance_uid=f"{masks}.{number}", sop_class_uid=SEG, study_instance_uid=study,
                    series_instance_uid=masks, modality="SEG", received_at=at + number,
                )
            )  # fmt: skip
        connection.execute(
            job.insert().values(
                id="j", study_instance_uid=study, series_instance_uid=images, generation=1, pipeline="nodule", rule="r",
                destinations=[], priority=2, state="COMPLETED", stage="deliver", run=0, attempt=0, created_at=at,
                updated_at=at,
            )
        )  # fmt: skip
        connection.execute(
            result.insert().values(
                **file, sop_instance_uid="9.1", job_id="j", sop_class_uid=SEG, series_instance_uid="9", description="",
                created_at=at, kind="seg",
            )
        )  # fmt: skip
        connection.execute(
            job_fact.insert().values(
                job_id="j", pipeline="nodule", version="1", scanner="A", at=at, outcome="findings", slices=1,
                findings=1, scores=[], device="cpu", run_seconds=1.0,
            )
        )  # fmt: skip
    with engine.connect() as connection:
        first, second = unread_objects(connection, (SEG,), ("SEG",), since=at - 1)
        (analysis,) = analyses_before(connection, study, first.received_at)
        assert analyses_before(connection, study, at - 1) == []
    assert (analysis.job_id, analysis.objects) == ("j", (ResultObject("9.1", SEG, "a"),))
    edited = LesionVerdict(job_id="j", lesion="7.1", verdict=Verdict.EDITED, dice=0.5, volume_mm3=2.0)

    def record(of: ReaderObject) -> None:
        with begin_immediate(engine) as connection:
            record_verdicts(
                connection, of, [edited], kind=SourceKind.SEGMENTATION, reader="", content_time="2026", is_whole=True
            )

    for _ in range(2):
        record(first)
    with begin_immediate(engine) as connection:
        record_no_verdict(connection, second, reason(ReasonCode.OF_AN_ALGORITHM))
        assert unread_objects(connection, (SEG,), ("SEG",), since=0.0) == []
        for said in (Verdict.ACCEPTED, Verdict.REJECTED):
            record_click(connection, LesionVerdict(job_id="j", lesion="7.1", verdict=said), "rita")
        assert current_verdicts(connection, ["j"])["j"]["7.1"].verdict == "rejected"
        assert not withdraw_click(connection, "j", "7.1", "somebody else")
        assert withdraw_click(connection, "j", "7.1", "rita")
        assert current_verdicts(connection, ["j"])["j"]["7.1"].verdict == "edited"
    (row,) = VerdictCounts.read(engine).rows()
    assert (row.pipeline, row.version, row.scanner, row.analyses, row.judged, row.edited) == (
        "nodule",
        "1",
        "A",
        1,
        1,
        1,
    )
