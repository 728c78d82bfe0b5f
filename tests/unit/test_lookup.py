"""A study or a job is found by what an operator has at hand."""

from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import CliRunner, Result
from dashboards import Dashboard, Serve
from pydicom import dcmread
from sqlalchemy import select

from node.__main__ import main
from node.config import Config
from node.errors import NodeError, NotFoundError
from node.jobs.engine import Jobs
from node.ledger.engine import begin_immediate
from node.ledger.jobs import NewJob
from node.ledger.tables import decision, instance, job, result, series
from node.operate.explain import explain
from node.operate.explain_text import describe
from node.operate.lookup import find_job, find_studies, read_labels
from node.reasons import ReasonCode, reason


def allowing(config: Config) -> Config:
    return config.model_copy(update={"web": config.web.model_copy(update={"show_patient": True})})


def one(dashboard: Dashboard, column: Any) -> str:
    with dashboard.engine.connect() as connection:
        return str(connection.scalar(select(column).limit(1)))


def studies(dashboard: Dashboard, name: str, config: Config | None = None) -> list[str]:
    return find_studies(config or dashboard.config, dashboard.engine, dashboard.spool, name)


def test_any_uid_names_its_study(standing: Dashboard):
    columns = (
        series.c.study_instance_uid,
        series.c.series_instance_uid,
        instance.c.sop_instance_uid,
        result.c.sop_instance_uid,
        result.c.series_instance_uid,
        job.c.id,
    )
    for column in columns:
        assert studies(standing, one(standing, column)) == [standing.uid], column


@pytest.mark.thorough
def test_accession_number_and_patient_id_name_studies_where_the_configuration_allows(standing: Dashboard):
    for name in ("A1", "test-1", "ＴＥＳＴ－１"):  # noqa: RUF001 - full width
        assert studies(standing, name, allowing(standing.config)) == [standing.uid]
        with pytest.raises(NotFoundError, match="need \\[web\\] show_patient = true"):
            studies(standing, name)
    for name in ("A", "TEST", "", " "):
        with pytest.raises(NotFoundError):
            studies(standing, name, allowing(standing.config))


@pytest.mark.thorough
def test_labels_hold_patient_and_order_only_where_the_configuration_allows(standing: Dashboard):
    read = read_labels(standing.config, standing.engine, standing.spool, [standing.uid])[standing.uid]
    assert (read.patient, read.patient_id, read.accession, read.description) == ("", "", "", "")
    assert list(read.series.values()) == [read_description(standing)]
    read = read_labels(allowing(standing.config), standing.engine, standing.spool, [standing.uid])[standing.uid]
    assert (read.patient, read.patient_id, read.accession) == ("Test, Patient", "TEST-1", "A1")


def read_description(standing: Dashboard) -> str:
    path = standing.spool.absolute(one(standing, instance.c.path))
    return str(dcmread(path, specific_tags=["SeriesDescription"]).get("SeriesDescription", ""))


def test_a_job_is_named_by_its_study_result_or_image_and_several_are_listed(dashboard: Dashboard):
    def job_of(name: str) -> str:
        return find_job(dashboard.config, dashboard.engine, dashboard.spool, name).id

    named = [one(dashboard, c) for c in (result.c.sop_instance_uid, instance.c.sop_instance_uid)]
    for name in (dashboard.uid, dashboard.job_id, *named):
        assert job_of(name) == dashboard.job_id
    jobs = Jobs(dashboard.engine)
    with begin_immediate(dashboard.engine) as connection:
        series_uid = str(connection.scalar(select(job.c.series_instance_uid)))
        again = NewJob(
            study_instance_uid=dashboard.uid, series_instance_uid=series_uid, generation=1, pipeline="other",
            rule="by hand", destinations=(), priority=2,
        )  # fmt: skip
        jobs.enqueue(connection, again)
    assert job_of(named[0]) == dashboard.job_id, "a result belongs to one job"
    with pytest.raises(NodeError, match=rf"has 2 jobs; give the id of one: .*{again.id} \(other, SCHEDULED\)"):
        job_of(dashboard.uid)


def verb(dashboard: Dashboard, folder: Any, *arguments: str) -> Result:
    config = folder / "config.toml"
    config.write_text(f'[storage]\nfolder = "{dashboard.config.storage.folder}"\n[web]\nshow_patient = true\n')
    return CliRunner().invoke(main, [*arguments, "--config", str(config)])


@pytest.mark.thorough
def test_status_shows_ignored_series_with_their_descriptions_and_the_order(serve: Serve, tmp_path: Any):
    with serve() as dashboard:
        with begin_immediate(dashboard.engine) as connection:
            connection.execute(job.delete())
            connection.execute(decision.update().values(outcome="ignored", reason=reason(ReasonCode.NO_RULE)))
        shown = verb(dashboard, tmp_path, "status", "A1").output
        described = read_description(dashboard)
    assert f"{dashboard.uid}: ignored" in shown, shown
    assert "Test, Patient · TEST-1 · A1" in shown
    assert f"  CT '{described}', " in shown
    assert "images: ignored" in shown
    assert verb(dashboard, tmp_path, "status", "A2").exit_code == NotFoundError.exit_code


@pytest.mark.thorough
def test_explain_has_one_line_for_each_kind_of_object(standing: Dashboard, tmp_path: Any):
    text = describe(explain(standing.engine, standing.uid))
    lines = [line for line in text.splitlines() if line.startswith("    result ")]
    with standing.engine.connect() as connection:
        kinds = connection.scalars(select(result.c.description).distinct()).all()
        number = len(connection.execute(select(result)).all())
    assert len(lines) == len(kinds) < number
    assert any(" objects, " in line for line in lines)
    assert verb(standing, tmp_path, "explain", "A1").output.startswith(f"Study {standing.uid}")


@pytest.mark.thorough
def test_explain_names_a_series_by_number_and_description(standing: Dashboard, tmp_path: Any):
    uid, called = one(standing, series.c.series_instance_uid), read_description(standing)
    assert f"Series 1 '{called}' ({uid}): CT, " in verb(standing, tmp_path, "explain", standing.uid).output
    (entry,) = json.loads(verb(standing, tmp_path, "explain", "--json", standing.uid).output)["series"]
    assert (entry["number"], entry["description"]) == ("1", called)
    page = standing.browser("vera").get(f"/study/{standing.uid}").text
    assert "<h2>CT 1 <small>" in page
    assert f"<b>{called}</b>" in page
