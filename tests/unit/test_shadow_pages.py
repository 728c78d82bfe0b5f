"""What the dashboard shows of a pipeline in shadow, and the form that resumes it."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from dashboards import Dashboard, token
from stop_rule_runs import TOO_MANY_REJECTED

from node.inference.tested_version import options_digest
from node.ledger.acceptances import PipelineVersion, approve_acceptance, record_acceptance
from node.ledger.analysis_statistics import record_statistics
from node.ledger.engine import begin_immediate
from node.ledger.shadow import pipelines_in_shadow, stop_sending
from node.ledger.tables import job, job_fact, notice


@pytest.mark.thorough
def test_an_operator_sees_why_results_are_not_sent_and_resumes_with_a_reason(dashboard: Dashboard):
    with begin_immediate(dashboard.engine) as connection:
        stop_sending(connection, "nodule", TOO_MANY_REJECTED)
        connection.execute(sa.update(job).where(job.c.id == dashboard.job_id).values(shadow="stop rule"))
    operator, viewer = dashboard.browser("otto"), dashboard.browser("vera")
    for page in ("/pipelines", "/pipelines/nodule"):
        assert "readers confirmed 1 of 24 lesions (4 %)" in viewer.get(page).text
        assert "/resume" not in viewer.get(page).text
        assert "Send results again" in operator.get(page).text
    shown = viewer.get(f"/study/{dashboard.uid}").text
    assert "in shadow" in shown
    assert "Kept here and sent to no destination (stop rule)." in shown

    def resume(why: str) -> int:
        form = {"csrf": token(operator, "/pipelines"), "reason": why}
        return operator.post("/pipelines/nodule/resume", data=form).status_code

    operator.headers["accept-language"] = "de"
    assert resume(" ") == 400
    with dashboard.engine.connect() as connection:
        assert list(pipelines_in_shadow(connection)) == ["nodule"]
    assert resume("weights restored") == 303
    assert resume("weights restored") == 400
    with dashboard.engine.connect() as connection:
        assert pipelines_in_shadow(connection) == {}
        acts = connection.execute(sa.select(notice.c.who, notice.c.detail)).all()
    assert [who for who, detail in acts if "weights restored" in detail] == ["otto"]
    assert any("readers confirmed 1 of 24" in detail for _, detail in acts), "the audit trail speaks English"
    assert "in shadow" not in viewer.get("/pipelines").text


def test_the_page_of_pipelines_says_which_version_is_accepted_and_what_is_kept_in_shadow(dashboard: Dashboard):
    table = dashboard.config.pipelines["nodule"].model_copy(update={"require_acceptance": True})
    dashboard.config.pipelines["nodule"] = table
    viewer = dashboard.browser("vera")
    facts = {"outcome": "findings", "scanner": "", "slices": 8, "findings": 2, "scores": [], "device": "cpu"}
    with begin_immediate(dashboard.engine) as connection:
        record_statistics(connection, dashboard.job_id, "nodule", facts | {"run_seconds": 1.0, "version": "2.1"})
        connection.execute(sa.update(job_fact).values(shadow="not accepted"))
    shown = viewer.get("/pipelines").text
    assert "No acceptance report of these options is approved" in shown
    assert "Results of 1 analyses of version 2.1 since" in shown
    with begin_immediate(dashboard.engine) as connection:
        of = PipelineVersion(version="2.1", weights=None, options=options_digest("nodule", table))
        report = record_acceptance(connection, "nodule", of, {}, configuration="c", data="d", who="otto")
        approve_acceptance(connection, report.id, who="otto", reason="tested")
    shown = viewer.get("/pipelines").text
    assert "Accepted for this site: version 2.1, by otto" in shown
    assert "kept in shadow" not in shown
