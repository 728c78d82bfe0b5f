"""Similar earlier findings on the page of a study: where the pipeline has them, with verdict and later studies."""

from __future__ import annotations

from array import array

import pytest
import sqlalchemy as sa
from dashboards import Dashboard, Serve

from node.ledger.clicked_verdicts import record_click
from node.ledger.embeddings import LesionEmbedding, NewSpace, record_embeddings
from node.ledger.engine import begin_immediate
from node.ledger.jobs import get_job
from node.ledger.results import results_of_job
from node.ledger.tables import job, lesion_embedding, result, series
from node.ledger.verdict import LesionVerdict, Verdict
from node.web.report_table import Row, findings_in

SPACE = NewSpace(name="flat-1", dimensions=2, statement=("<b>Measured</b>.", {"de": "Gemessen."}))
VECTOR = array("f", (1.0, 0.0)).tobytes()


def rows_of(dashboard: Dashboard) -> list[Row]:
    with dashboard.engine.connect() as connection:
        results = results_of_job(connection, dashboard.job_id)
    report = next(row for row in results if row.sop_class_uid.startswith("1.2.840.10008.5.1.4.1.1.88"))
    return findings_in(dashboard.spool.readable(report.path))


def embed(connection: sa.Connection, job_id: str, lesion: str, label: str, at: float) -> None:
    embedding = LesionEmbedding(lesion=lesion, label=label, vector=VECTOR, long_axis_mm=7.25)
    record_embeddings(connection, get_job(connection, job_id), SPACE, [embedding])
    of_job = lesion_embedding.c.job_id == job_id
    connection.execute(sa.update(lesion_embedding).where(of_job).values(made_at=at))


def add_earlier(connection: sa.Connection, study: str, lesion: str, at: float) -> None:
    of_series = {"study_instance_uid": study, "series_instance_uid": f"{study}.1", "generation": 1}
    connection.execute(
        series.insert().values(**of_series, modality="CT", instances=1, first_at=at, last_at=at, state="COMPLETE")
    )
    connection.execute(
        job.insert().values(
            **of_series, id=study, pipeline="nodule", rule="r", destinations=[], priority=2, state="COMPLETED",
            stage="deliver", run=0, attempt=0, outcome="findings", created_at=at, updated_at=at,
        )
    )  # fmt: skip
    connection.execute(
        result.insert().values(
            sop_instance_uid=f"{study}.9", job_id=study, sop_class_uid="1", transfer_syntax_uid="1.2",
            series_instance_uid="9", description="", path="a", digest="b", size=1, created_at=at, kind="sr",
        )
    )  # fmt: skip
    embed(connection, study, lesion, "Nodule <7>", at)


@pytest.mark.parametrize("shown", [True, False])
def test_similar_findings_are_shown_only_where_the_pipeline_has_them(serve: Serve, *, shown: bool):
    with serve(pipelines={"nodule": {"similar_findings": shown}}) as dashboard:
        lesion = rows_of(dashboard)[0].tracking_uid
        with begin_immediate(dashboard.engine) as connection:
            add_earlier(connection, "1.2.3", "1.2.3.7", 86400.0)
            add_earlier(connection, "1.2.4", "1.2.3.7", 40 * 86400.0)
            embed(connection, dashboard.job_id, lesion, "Nodule 1", 30 * 86400.0)
            said = LesionVerdict(job_id="1.2.3", lesion="1.2.3.7", verdict=Verdict.REJECTED)
            record_click(connection, said, "rita")
        for user in ("vera", "rita", "otto"):
            page = dashboard.browser(user).get(f"/study/{dashboard.uid}").text
            assert ('href="/study/1.2.3"' in page) is shown
            assert ('href="/study/1.2.4"' in page) is shown, "the same lesion later"
            assert ("Nodule &lt;7&gt;" in page) is shown
            assert ("7 mm" in page) is shown
            assert (">rejected</b>" in page) is shown
            assert ("&lt;b&gt;Measured&lt;/b&gt;." in page) is shown
        german = dashboard.browser("vera").get(f"/study/{dashboard.uid}", headers={"accept-language": "de"}).text
        assert ("Gemessen." in german) is shown
        assert ("Ähnliche frühere Befunde (1)" in german) is shown
