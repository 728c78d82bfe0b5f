"""Retention by rule, destination and quota: what goes before its study, and that nothing pending ever goes."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import postgres
import pytest
import sqlalchemy as sa
from dicom_files import ct_series
from drawn_examples import examples
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from routing_scene import CHEST, Scene

from node.config import Config
from node.errors import NodeError
from node.ledger.engine import begin_immediate
from node.ledger.instances import Receipt, record_instances
from node.ledger.planned_purges import all_stored_studies
from node.ledger.retry_transitions import retry_job
from node.ledger.study_record import study_state
from node.ledger.tables import decision, delivery, delivery_instance, event, instance, job, metadata, result, series
from node.operate.account.report import account
from node.operate.account.rows import read
from node.operate.explain import explain
from node.operate.explain_text import describe as describe_study
from node.operate.purge import Retention
from node.operate.purge_plan import current_plan, describe, purge_plan
from node.operate.retention_rules import PurgeKind, RetentionRules
from node.reasons import ReasonCode, reason
from node.spool import Spool

AT = 1_800_000_000.0
DAY = 86400.0
CONFIG: dict[str, Any] = {
    "records": {"years": 0.0},
    "retention": {"days": 10.0, "unmatched_days": 1.0},
    "pipelines": {"nodule": {}, "denoise": {}},
    "destinations": {
        "pacs": {"title": "PACS", "host": "127.0.0.1", "port": 104, "keep_days": 20.0},
        "folder": {"folder": "/srv/dicom"},
    },
    "rules": (
        {"name": "short", "pipelines": ("nodule",), "destinations": ("pacs",), "keep_days": 2.0},
        {"name": "long", "pipelines": ("denoise",), "destinations": ("folder",), "keep_days": 5.0},
    ),
}


@dataclass
class Series:
    """A series as it is to be in the ledger."""

    rules: tuple[str, ...] = ("short",)
    state: str = "COMPLETE"
    outcome: str | None = "routed"


@dataclass
class Work:
    """A job with one result, on the first series."""

    pipeline: str = "nodule"
    state: str = "COMPLETED"
    sent: dict[str, str] = field(default_factory=lambda: {"pacs": "CONFIRMED"})
    """State of the delivery by destination."""
    size: int = 1000
    delivered_at: float = AT


def add(engine: sa.Engine, spool: Spool, study: str, of_series: list[Series], work: list[Work]) -> list[str]:
    """A study with two images in each series, received at ``AT``; the ids of its jobs."""
    at = AT
    jobs = []
    with begin_immediate(engine) as connection:
        for number, planned in enumerate(of_series, 1):
            of = {"study_instance_uid": study, "series_instance_uid": f"{study}.{number}"}
            receipts = []
            for image in range(2):
                path = f"incoming/{study}/{study}.{number}/{image}.dcm"
                spool.absolute(path).parent.mkdir(parents=True, exist_ok=True)
                spool.absolute(path).write_bytes(b"image")
                receipts.append(receipt(study, number, image, path, at))
            record_instances(connection, receipts)
            connection.execute(
                sa.update(series)
                .where(series.c.series_instance_uid == f"{study}.{number}")
                .values(state=planned.state, generation=1 if planned.outcome else 0)
            )
            if planned.outcome:
                trace = [{"rule": name, "matched": True, "pipelines": [], "conditions": []} for name in planned.rules]
                connection.execute(
                    sa.insert(decision).values(
                        **of, generation=1, outcome=planned.outcome, decided_at=at, trace=trace,
                        reason=reason(ReasonCode.NO_RULE),
                    )
                )  # fmt: skip
        for number, task in enumerate(work):
            job_id = f"job-{study}-{number}"
            jobs.append(job_id)
            connection.execute(
                sa.insert(job).values(
                    id=job_id, study_instance_uid=study, series_instance_uid=f"{study}.1", generation=1,
                    pipeline=task.pipeline, rule="short", destinations=list(task.sent), priority=2, state=task.state,
                    stage="deliver", run=0, attempt=0, outcome="findings", created_at=at, updated_at=at,
                )
            )  # fmt: skip
            path = spool.keep_result(job_id, f"{study}.9.{number}", b"result").path
            connection.execute(
                sa.insert(result).values(
                    sop_instance_uid=f"{study}.9.{number}", job_id=job_id, sop_class_uid="1", transfer_syntax_uid="1",
                    series_instance_uid=f"{study}.9", description="SEG", path=path, digest="", size=task.size,
                    created_at=at, kind="seg",
                )
            )  # fmt: skip
            for name, state in task.sent.items():
                ended = None if state in {"SCHEDULED", "IN PROGRESS", "AWAITED"} else task.delivered_at
                connection.execute(
                    sa.insert(delivery).values(
                        job_id=job_id, destination=name, state="STORED" if state == "AWAITED" else state, attempt=1,
                        created_at=at, updated_at=task.delivered_at, ended_at=ended,
                    )
                )  # fmt: skip
                if state in {"CONFIRMED", "STORED", "AWAITED"}:
                    connection.execute(
                        sa.insert(delivery_instance).values(
                            job_id=job_id, destination=name, sop_instance_uid=f"{study}.9.{number}", status=0,
                            sent_at=at, committed_at=at,
                        )
                    )  # fmt: skip
    return jobs


def receipt(study: str, number: int, image: int, path: str, at: float) -> Receipt:
    return Receipt(
        sop_instance_uid=f"{study}.{number}.{image}", sop_class_uid="1", transfer_syntax_uid="1",
        study_instance_uid=study, series_instance_uid=f"{study}.{number}", modality="CT", path=path, digest="d",
        size=500, conflict=False, association=None, received_at=at,
    )  # fmt: skip


class Site:
    """A ledger, a spool and what retention does with them."""

    def __init__(self, engine: sa.Engine, folder: Path, **more: Any) -> None:
        self.engine, self.spool = engine, Spool(folder)
        self.config = Config.model_validate({**CONFIG, "storage": {"folder": folder}, **more})
        self.rules = RetentionRules(self.config)

    def purge(self, days: float) -> list[str]:
        """Look that long after ``AT``; return which studies are gone."""
        return Retention(self.config, self.engine, self.spool).step(AT + days * DAY)

    def images(self) -> list[str]:
        with self.engine.connect() as connection:
            rows = list(connection.scalars(sa.select(instance.c.path).order_by(instance.c.path)))
        files = sorted(str(p.relative_to(self.spool.folder)) for p in self.spool.folder.glob("incoming/*/*/*.dcm"))
        assert rows == files
        return sorted({Path(row).parent.name for row in rows})

    def results(self) -> list[str]:
        with self.engine.connect() as connection:
            rows = sorted(connection.scalars(sa.select(result.c.job_id)))
        results = self.spool.folder / "results"
        assert rows == sorted(folder.name for folder in results.iterdir()) if results.exists() else not rows
        return rows

    def planned(self, days: float = 0.0) -> list[tuple[str, str, float, str]]:
        with self.engine.connect() as connection:
            plan = purge_plan(all_stored_studies(connection), self.rules, AT + days * DAY)
        of = (
            (purge.kind, purge.series_instance_uid or purge.study_instance_uid, purge.at, purge.why)
            for purge in plan.due
        )
        return [(kind, uid, (at - AT) / DAY, why) for kind, uid, at, why in of]


@pytest.fixture
def site(engine: sa.Engine, tmp_path: Path) -> Site:
    return Site(engine, tmp_path)


@postgres.BOTH
def test_images_go_by_rule_and_results_by_destination_and_the_longest_wins(site: Site):
    every = [Series(), Series(rules=("short", "long")), Series(rules=(), outcome="ignored")]
    (job_id,) = add(site.engine, site.spool, "1.1", every, [Work()])
    assert site.planned() == [
        (PurgeKind.IMAGES, "1.1.3", 1.0, "[retention] unmatched_days"),
        (PurgeKind.IMAGES, "1.1.1", 2.0, "rule 'short': keep_days"),
        (PurgeKind.IMAGES, "1.1.2", 5.0, "rule 'long': keep_days"),
        (PurgeKind.STUDY, "1.1", 20.0, "[destinations.pacs] keep_days"),
    ]
    assert site.purge(0.9) == []
    assert site.images() == ["1.1.1", "1.1.2", "1.1.3"]
    for days, left in ((1.1, ["1.1.1", "1.1.2"]), (2.1, ["1.1.2"]), (5.1, []), (19.9, [])):
        assert site.purge(days) == []
        assert (site.images(), site.results()) == (left, [job_id])
    assert site.purge(20.1) == ["1.1"]
    assert site.results() == []
    with site.engine.connect() as connection:
        for table in (series, job, decision, delivery, event):
            assert connection.execute(sa.select(table)).all() == [], table.name


@postgres.BOTH
def test_what_remains_of_a_study_is_explained_balanced_and_cannot_be_repeated(site: Site):
    (job_id, other) = add(
        site.engine, site.spool, "1.1", [Series()], [Work(), Work("denoise", sent={"folder": "STORED"})]
    )
    site.purge(11.0)  # the images after 2 days, the results in the folder after 10
    assert (site.images(), site.results()) == ([], [job_id])
    explanation = explain(site.engine, "1.1")
    (series,) = explanation["series"]
    assert (series["instances"], series["purged_images"]) == (0, 2)
    assert {entry["id"]: bool(entry["results_purged_at"]) for entry in series["jobs"]} == {job_id: False, other: True}
    assert {"images purged", "results purged"} <= {line["what"] for line in explanation["timeline"]}
    assert "2 images are purged" in describe_study(explanation)
    assert "results purged" in describe_study(explanation)
    rows = read(site.engine, site.spool, queue_minutes=60.0)
    differences = account(rows, site.config.is_recipient).differences
    assert not [line for line in differences if "purged" in line or "result" in line or "image" in line]
    with (
        begin_immediate(site.engine) as connection,
        pytest.raises(NodeError, match=r"images of series 1\.1\.1 are purged"),
    ):
        retry_job(connection, job_id)
    with begin_immediate(site.engine) as connection, pytest.raises(NodeError, match="are purged; retry it from infer"):
        retry_job(connection, other, "deliver")
    with site.engine.connect() as connection:
        state = study_state(connection, "1.1")
    assert state["series"][0]["purged_images"] == 2
    assert "digest" not in state["series"][0]


@postgres.BOTH
def test_a_quota_takes_what_was_confirmed_first_and_nothing_that_is_pending(engine: sa.Engine, tmp_path: Path):
    gib = 2**30
    site = Site(engine, tmp_path, pipelines={"nodule": {"quota_gib": 2.0}, "denoise": {}})
    big = {"size": gib}
    add(engine, site.spool, "1.1", [Series()], [Work(sent={"folder": "STORED"}, **big)])
    add(engine, site.spool, "1.2", [Series()], [Work(delivered_at=AT + 20, **big)])
    add(engine, site.spool, "1.3", [Series()], [Work(delivered_at=AT + 10, **big)])
    add(engine, site.spool, "1.4", [Series()], [Work(state="IN PROGRESS", sent={"pacs": "AWAITED"}, **big)])
    add(engine, site.spool, "1.5", [Series(outcome="held")], [Work(**big)])
    add(engine, site.spool, "1.6", [Series()], [Work(pipeline="denoise", **big)])
    site.purge(0.9)  # late images may still come
    assert len(site.results()) == 6
    with engine.connect() as connection:
        plan = purge_plan(all_stored_studies(connection), site.rules, AT + 1.1 * DAY)
    assert [(purge.job_id, purge.why) for purge in plan.due[:3]] == [
        (f"job-{study}-0", "[pipelines.nodule] quota_gib") for study in ("1.3", "1.2", "1.1")
    ]
    assert "Results of nodule: 5.00 of 2 GiB; 3072.0 MiB are purged within the hour" in describe(plan, site.rules, 20)
    site.purge(1.1)
    assert site.results() == ["job-1.4-0", "job-1.5-0", "job-1.6-0"]
    assert site.images() == ["1.1.1", "1.2.1", "1.3.1", "1.4.1", "1.5.1", "1.6.1"]


SCENE = (
    CHEST.partition("[[rules]]")[0]
    + """
[[rules]]
name = "chest"
match = { Modality = "CT" }
pipelines = ["scripted"]
destinations = ["pacs"]
keep_days = 1.0
"""
)


def test_a_part_that_is_sent_again_replaces_no_results_of_the_whole(tmp_path: Path):
    scene = Scene(tmp_path, SCENE)
    images = ct_series(n=4, size=16, study=scene.study)
    uid = scene.receive(images)
    scene.wait(11.0)
    (first,) = scene.jobs()
    with begin_immediate(scene.node.engine) as connection:
        connection.execute(sa.update(job).values(state="COMPLETED"))
    assert Retention(scene.config, scene.node.engine, scene.node.spool).step(scene.at + 2 * DAY) == []
    scene.receive(images[:2])
    scene.wait(11.0)
    outcome, why = scene.decided()[uid]
    assert (outcome, "has purged 4 images of it, and 2 are here" in why) == ("ignored", True)
    assert [analysis.id for analysis in scene.jobs()] == [first.id]
    scene.receive(images[2:])
    scene.wait(11.0)
    assert scene.decided()[uid][0] == "routed"
    assert {analysis.generation for analysis in scene.jobs()} == {1, 3}
    with scene.node.engine.connect() as connection:
        assert connection.execute(sa.select(series.c.instances, series.c.purged_images)).one() == (4, 0)


STATES = st.sampled_from(["SCHEDULED", "IN PROGRESS", "COMPLETED", "CANCELED"])
SENT = st.sampled_from(["SCHEDULED", "IN PROGRESS", "AWAITED", "STORED", "CONFIRMED", "CANCELED"])
SERIES = st.builds(
    Series,
    rules=st.lists(st.sampled_from(["short", "long", "gone"]), max_size=2).map(tuple),
    state=st.sampled_from(["RECEIVING", "COMPLETE", "COMPLETE"]),
    outcome=st.sampled_from([None, "routed", "waiting", "ignored", "held"]),
)
WORK = st.builds(
    Work,
    pipeline=st.sampled_from(["nodule", "denoise"]),
    state=STATES,
    sent=st.dictionaries(st.sampled_from(["pacs", "folder"]), SENT, max_size=2),
    size=st.integers(0, 2**31),
)


def pending_studies(engine: sa.Engine) -> dict[str, tuple[list[str], list[str]]]:
    """Images and results of each study of which anything is pending, read without the code under test."""
    pending = (
        "SELECT study_instance_uid FROM series WHERE state = 'RECEIVING' UNION "
        "SELECT study_instance_uid FROM decision WHERE outcome = 'held' UNION "
        "SELECT study_instance_uid FROM job WHERE state IN ('SCHEDULED', 'IN PROGRESS') UNION "
        "SELECT study_instance_uid FROM job WHERE state <> 'CANCELED' AND EXISTS (SELECT 1 FROM delivery d "
        "WHERE d.job_id = job.id AND d.ended_at IS NULL AND d.state <> 'CANCELED' AND d.state <> 'CONFIRMED')"
    )
    with engine.connect() as connection:
        studies = sorted(connection.scalars(sa.text(pending)))
        images = sa.select(instance.c.path)
        results = sa.select(result.c.path).join(job, job.c.id == result.c.job_id)
        return {
            study: (
                sorted(connection.scalars(images.where(instance.c.study_instance_uid == study))),
                sorted(connection.scalars(results.where(job.c.study_instance_uid == study))),
            )
            for study in studies
        }


@postgres.BOTH
@settings(
    max_examples=examples(100),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    studies=st.lists(st.tuples(st.lists(SERIES, min_size=1, max_size=3), st.lists(WORK, max_size=3)), max_size=3),
    days=st.floats(0.0, 40.0),
)
def test_nothing_pending_is_ever_purged(
    engine: sa.Engine, tmp_path: Path, studies: list[tuple[list[Series], list[Work]]], days: float
):
    with engine.begin() as connection:
        for table in metadata.sorted_tables:
            if table.name != "secret":
                connection.execute(sa.delete(table))
    site = Site(engine, tmp_path, pipelines={"nodule": {"quota_gib": 1.0}, "denoise": {"quota_gib": 0.5}})
    for number, (of_series, work) in enumerate(studies):
        add(engine, site.spool, f"1.{number}", of_series, work)
    before = pending_studies(engine)
    whole = RetentionRules(Config.model_validate({"retention": {"days": 10.0}}))
    with engine.connect() as connection:
        plan = purge_plan(all_stored_studies(connection), site.rules, AT + days * DAY)
        in_sums = current_plan(connection, whole, AT + days * DAY)
        assert in_sums == purge_plan(all_stored_studies(connection), whole, AT + days * DAY)
    assert not {purge.study_instance_uid for purge in plan.due} & before.keys()
    gone = site.purge(days)
    assert set(gone) == {
        purge.study_instance_uid for purge in plan.due if purge.kind == PurgeKind.STUDY and purge.at < AT + days * DAY
    }
    assert pending_studies(engine) == before
    for images, results in before.values():
        assert all(site.spool.absolute(path).exists() for path in (*images, *results))
