"""Router mode: rules that send the images themselves on, with the deliveries, the account and the fences of results."""

from __future__ import annotations

from pathlib import Path

import pytest
import real_peers
import sqlalchemy as sa
from delivery_jobs import PATIENT, destination
from dicom_files import ct_series, text_report
from job_node import JobNode
from pydicom import dcmread
from pydicom.dataset import FileDataset

from node.config import FORWARD, Config, Rule, parse
from node.deliver.deliverer import Deliverer
from node.errors import ConfigError, NodeError
from node.ledger import JobStage
from node.ledger.engine import begin_immediate
from node.ledger.jobs import NewJob, due_of, get_job
from node.ledger.pending_deliveries import deliveries_of, instances_to_store, statuses
from node.ledger.retry_transitions import retry_job
from node.ledger.tables import job, series
from node.ledger.transitions import begin_attempt, cancel_job, finish_attempt, supersede_jobs
from node.operate.account.report import account
from node.operate.account.rows import read
from node.reasons import ReasonCode, reason, reason_text
from node.routing.rules import Origin, SeriesHeader, decide
from node.spool import dataset_offset

RULE = Rule.model_validate(
    {"name": "CT", "match": {"Modality": "CT"}, "pipelines": ("one",), "destinations": ("pacs",), "send": ("archive",)}
)


def test_a_series_is_analysed_and_sent_on_by_one_rule() -> None:
    verdict = decide(SeriesHeader.of([ct_series(n=1)[0]]), [RULE], Origin())
    assert [(r.pipeline, r.destinations) for r in verdict.routes] == [("one", ("pacs",)), (FORWARD, ("archive",))]
    assert verdict.trace[0]["pipelines"] == ["one", FORWARD]


@pytest.mark.parametrize("what", ["localizer", "report"])
def test_what_is_never_analysed_is_sent_on_all_the_same(what: str) -> None:
    header = ct_series(n=1)[0] if what == "localizer" else text_report(study="1.2")
    header.Modality, header.ImageType = "CT", ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    verdict = decide(SeriesHeader.of([header]), [RULE], Origin())
    assert [(r.pipeline, r.destinations) for r in verdict.routes] == [(FORWARD, ("archive",))]
    assert reason_text(verdict.reason).startswith("matches 'CT'; not analysed: it")
    assert decide(SeriesHeader.of([header]), [RULE.model_copy(update={"send": ()})], Origin()).outcome == "ignored"


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ('name = "r"', "does nothing: give it pipelines, or send"),
        ('name = "r"\nsend = ["gone"]', "destinations names 'gone', which is not defined"),
        ('name = "r"\nsend = ["archive"]\nprefer = ["thinnest"]', "give prefer its own rule"),
    ],
)
def test_a_rule_that_cannot_send_is_refused(rule: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parse(f'[destinations.archive]\nfolder = "/tmp"\n[[rules]]\n{rule}')


class Router:
    """A node that sends images on to ``destinations``."""

    def __init__(self, folder: Path, destinations: dict[str, dict[str, object]]) -> None:
        self.config = Config.model_validate({"storage": {"folder": folder}, "destinations": destinations})
        self.node = JobNode(self.config)
        self.engine = self.node.engine

    def forward(self, generation: int, datasets: list[FileDataset]) -> str:
        """What receiver and router do with images of one series."""
        study, uid = self.node.receive(datasets)
        new = NewJob(
            study_instance_uid=study,
            series_instance_uid=uid,
            generation=generation,
            pipeline=FORWARD,
            rule="CT",
            destinations=tuple(self.config.destinations),
            priority=2,
        )
        with begin_immediate(self.engine) as connection:
            supersede_jobs(connection, study, uid, generation)
            self.node.jobs.enqueue(connection, new)
        return new.id

    def deliver(self, job_id: str) -> None:
        """What the engine does, without its process."""
        with begin_immediate(self.engine) as connection:
            attempts = due_of(connection, get_job(connection, job_id))
        for attempt in attempts:
            with begin_immediate(self.engine) as connection:
                begin_attempt(connection, attempt)
            Deliverer(self.config, self.engine, self.node.spool, PATIENT).deliver(job_id, attempt.subject)
            with begin_immediate(self.engine) as connection:
                finish_attempt(connection, attempt, 0.1, lambda _: None)

    def owed(self, job_id: str, name: str) -> list[str]:
        with self.engine.connect() as connection:
            return sorted(instance.sop_instance_uid for instance in instances_to_store(connection, job_id, name))


def test_images_arrive_as_they_were_received_each_once_and_the_job_is_completed(tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    archive.mkdir()
    with real_peers.storescp(tmp_path, "+xa", "--bit-preserving") as pacs:
        router = Router(tmp_path / "node", {"pacs": destination(pacs), "archive": {"folder": str(archive)}})
        images = ct_series(n=5, size=16)
        first = router.forward(1, images[:3])
        router.deliver(first)
        late = router.forward(2, images[3:])
        assert router.owed(late, "pacs") == sorted(str(image.SOPInstanceUID) for image in images[3:])
        router.deliver(late)
        arrived = {str(dcmread(path).SOPInstanceUID): path for path in pacs.files()}
    assert sorted(arrived) == sorted(str(image.SOPInstanceUID) for image in images)
    assert len(list(archive.rglob("*.dcm"))) == len(images)
    for uid, path in arrived.items():
        kept = next((tmp_path / "node").rglob(f"incoming/**/{uid}.dcm"))
        assert path.read_bytes()[dataset_offset(path) :] == kept.read_bytes()[dataset_offset(kept) :]
    with router.engine.connect() as connection:
        jobs = [get_job(connection, job_id) for job_id in (first, late)]
        counts = [d.stored for job_id in (first, late) for d in deliveries_of(connection, job_id)]
    assert [(job.state, job.outcome) for job in jobs] == [("COMPLETED", "forwarded")] * 2
    assert counts == [3, 3, 2, 2]


def test_images_that_wait_stay_owed_when_more_of_their_series_come_and_after_a_retry(tmp_path: Path) -> None:
    router = Router(tmp_path / "node", {"pacs": {"title": "P", "host": "127.0.0.1", "port": 1}})
    images = ct_series(n=4, size=16)
    first = router.forward(1, images[:2])
    late = router.forward(2, images[2:])
    assert len(router.owed(first, "pacs")) == len(router.owed(late, "pacs")) == 2
    with begin_immediate(router.engine) as connection:
        cancel_job(connection, first, reason(ReasonCode.CANCELLED, operator=""))
        with pytest.raises(NodeError, match="it sends images on; retry it from deliver"):
            retry_job(connection, first, JobStage.INFER)
        assert [attempt.stage for attempt in retry_job(connection, first)] == [JobStage.DELIVER]
    assert len(router.owed(first, "pacs")) == 2


def test_the_account_counts_what_is_sent_on(tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    archive.mkdir()
    router = Router(tmp_path / "node", {"archive": {"folder": str(archive)}})
    job_id = router.forward(1, ct_series(n=3, size=16))
    with begin_immediate(router.engine) as connection:
        row = connection.execute(sa.select(job)).one()
        key = {"study_instance_uid": row.study_instance_uid, "series_instance_uid": row.series_instance_uid}
        counts = {"modality": "CT", "instances": 3, "first_at": 1.0, "last_at": 1.0, "generation": 0}
        connection.execute(sa.insert(series).values(**key, **counts, state="RECEIVING"))
    router.deliver(job_id)
    totals = account(read(router.engine, queue_minutes=1e9), router.config.is_recipient)
    assert totals.differences == ()
    assert {part: count.instances for part, count in totals.jobs.parts.items()} == {"forwarded": 3}
    assert {part: count.instances for part, count in totals.deliveries.parts.items()} == {"stored": 3}


def test_two_nodes_that_send_the_same_study_leave_it_in_the_pacs_once(tmp_path: Path, pacs: real_peers.Orthanc) -> None:
    images = ct_series(n=3, size=16)
    for name in ("one", "two"):
        node = Router(tmp_path / name, {"pacs": destination(pacs, find=True)})
        node.deliver(node.forward(1, images))
        with node.engine.connect() as connection:
            assert [status.state for status in statuses(connection, sa.true())] == ["CONFIRMED"]
    assert pacs.instances() == sorted(str(image.SOPInstanceUID) for image in images)
