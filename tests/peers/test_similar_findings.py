"""Similar findings on both databases: which are found, which are never shown, and what retention leaves of them."""

from __future__ import annotations

from array import array

import numpy as np
import postgres
import sqlalchemy as sa

from node.ledger.clicked_verdicts import record_click
from node.ledger.embeddings import LesionEmbedding, NewSpace, SpaceKey, delete_embeddings, rebuild, record_embeddings
from node.ledger.engine import begin_immediate
from node.ledger.jobs import REJECTION, get_job
from node.ledger.retention import purge_results, purge_study
from node.ledger.tables import job, lesion_embedding, result, series, verdict
from node.ledger.verdict import LesionVerdict, SourceKind, Verdict
from node.similar.findings import SHOWN, SearchedLesion, SimilarFindings, SimilarSearch

pytestmark = postgres.BOTH

SPACE = NewSpace(name="flat-1", dimensions=2, statement=("It was measured.", {"de": "Es wurde gemessen."}))


class Site:
    """Studies with one lesion each, whose embedding is an angle in degrees."""

    def __init__(self, engine: sa.Engine) -> None:
        self.engine = engine
        self.search = SimilarSearch()
        self.at = 0.0

    def add(
        self, study: str, degrees: float, *, lesion: str = "", pipeline: str = "nodule", space: NewSpace = SPACE,
        patient: str = "", study_date: str = "",
    ) -> str:  # fmt: skip
        """Return the job of a new study."""
        self.at += 1
        job_id, series_uid = f"job {study}", f"{study}.1"
        with begin_immediate(self.engine) as connection:
            connection.execute(
                series.insert().values(
                    study_instance_uid=study, series_instance_uid=series_uid, modality="CT", instances=1,
                    first_at=self.at, last_at=self.at, state="COMPLETE", generation=1,
                )
            )  # fmt: skip
            connection.execute(
                job.insert().values(
                    id=job_id, study_instance_uid=study, series_instance_uid=series_uid, generation=1,
                    pipeline=pipeline, rule="r", destinations=[], priority=2, state="COMPLETED", stage="deliver", run=0,
                    attempt=0, outcome="findings", created_at=self.at, updated_at=self.at,
                )
            )  # fmt: skip
            self.object(connection, job_id, "sr")
            radians = np.deg2rad(degrees)
            vector = array("f", (np.cos(radians), np.sin(radians))).tobytes()
            embedding = LesionEmbedding(
                lesion=lesion or f"{study}.7", label="Nodule 1", vector=vector, long_axis_mm=8.0, patient=patient,
                study_date=study_date,
            )  # fmt: skip
            record_embeddings(connection, get_job(connection, job_id), space, [embedding])
            of_job = lesion_embedding.c.job_id == job_id
            connection.execute(sa.update(lesion_embedding).where(of_job).values(made_at=self.at))
        return job_id

    def object(self, connection: sa.Connection, job_id: str, kind: str) -> None:
        connection.execute(
            result.insert().values(
                sop_instance_uid=f"{job_id} {kind}", job_id=job_id, sop_class_uid="1", transfer_syntax_uid="1.2",
                series_instance_uid="9", description="", path="a", digest="b", size=1, created_at=self.at, kind=kind,
            )
        )  # fmt: skip

    def change(self, table: sa.Table, job_id: str, **values: object) -> None:
        with begin_immediate(self.engine) as connection:
            connection.execute(sa.update(table).where(table.c.id == job_id).values(**values))

    def similar(self, job_id: str) -> SimilarFindings:
        with self.engine.connect() as connection:
            similar = self.search.of_job(connection, job_id)
        assert similar is not None
        return similar

    def studies(self, job_id: str) -> list[str]:
        (findings,) = self.similar(job_id).by_lesion.values()
        return [similar.finding.study_instance_uid for similar in findings]


def test_the_five_most_similar_earlier_findings_are_shown_the_nearest_first(engine: sa.Engine):
    site = Site(engine)
    for number, degrees in enumerate((90, 10, 50, 20, 40, 30, 5), 1):
        site.add(f"1.{number}", degrees)
    mine = site.add("2", 0)
    site.add("3", 1)  # later
    similar = site.similar(mine)
    assert site.studies(mine) == ["1.7", "1.2", "1.4", "1.6", "1.5"]
    assert len(similar.by_lesion["2.7"]) == SHOWN
    assert abs(similar.by_lesion["2.7"][0].similarity - np.cos(np.deg2rad(5))) < 2e-3
    assert (similar.statement_in("de"), similar.statement_in("zh")) == ("Es wurde gemessen.", "It was measured.")


def test_other_pipelines_and_spaces_and_the_lesion_itself_are_never_compared(engine: sa.Engine):
    site = Site(engine)
    site.add("1.1", 1, pipeline="other")
    site.add("1.2", 2, space=NewSpace(name="flat-2", dimensions=2, statement=("S.", {})))
    site.add("1.3", 3, lesion="2.7")
    site.add("1.4", 4)
    assert site.studies(site.add("2", 0)) == ["1.4"]


def test_findings_of_the_patient_and_what_is_not_like_the_finding_are_not_listed(engine: sa.Engine):
    """Images that were registered under new UIDs would confirm themselves."""
    site = Site(engine)
    site.add("1.1", 1, patient="p")
    site.add("1.2", 2, patient="q")
    site.add("1.3", 3)
    site.add("1.4", 70)
    assert site.studies(site.add("2", 0, patient="p")) == ["1.2", "1.3"]


def test_later_is_by_the_date_of_the_study(engine: sa.Engine):
    """A study of the archive that is analysed after a newer one is no follow-up of it."""
    site = Site(engine)
    site.add("1.1", 3, study_date="20260301")
    site.add("1.2", 90, lesion="1.1.7", study_date="20250301")
    site.add("1.3", 90, lesion="1.1.7", study_date="20260601")
    (similar,) = site.similar(site.add("2", 0)).by_lesion["2.7"]
    assert [later.study_instance_uid for later in similar.follow_up] == ["1.3"]


def test_another_dimension_under_the_same_name_finds_nothing_and_raises_nothing(engine: sa.Engine):
    site = Site(engine)
    site.add("1.1", 3)
    long = SearchedLesion(name="n", lesion="", patient="", vector=bytes(12))
    with engine.connect() as connection:
        key = SpaceKey("nodule", SPACE.name)
        assert site.search.of_lesions(connection, key, [long], not_of="2", before=99.0) == {"n": ()}


def test_what_is_withdrawn_superseded_in_shadow_or_rejected_by_a_note_is_never_shown(engine: sa.Engine):
    site = Site(engine)
    jobs = [site.add(f"1.{number}", number) for number in range(1, 9)]
    with begin_immediate(engine) as connection:
        site.object(connection, jobs[0], REJECTION)
        site.object(connection, jobs[6], f"{REJECTION} pacs")  # on what this one has replaced
        connection.execute(sa.update(series).where(series.c.study_instance_uid == "1.2").values(generation=2))
        connection.execute(
            verdict.insert().values(
                source="9.9", job_id=jobs[5], lesion="1.6.7", kind=SourceKind.REJECTION_NOTE,
                verdict=Verdict.REJECTED, reader="", given_at=1.0,
            )
        )  # fmt: skip
        received_again = sa.update(series).where(series.c.study_instance_uid == "1.8").values(state="RECEIVING")
        connection.execute(received_again)
    site.change(job, jobs[2], shadow="rule")
    site.change(job, jobs[3], outcome="failed")
    site.change(job, jobs[4], results_purged_at=1.0)
    assert site.studies(site.add("2", 0)) == ["1.7"]


def test_a_verdict_and_later_studies_of_the_same_lesion_stand_with_a_finding(engine: sa.Engine):
    site = Site(engine)
    first = site.add("1.1", 3)
    site.add("1.2", 80, lesion="1.1.7")
    with begin_immediate(engine) as connection:
        record_click(connection, LesionVerdict(job_id=first, lesion="1.1.7", verdict=Verdict.REJECTED), "rita")
    (similar,) = site.similar(site.add("2", 0)).by_lesion["2.7"]
    assert similar.finding.study_instance_uid == "1.1"
    assert similar.verdict is not None
    assert similar.verdict.verdict == "rejected"
    assert [later.study_instance_uid for later in similar.follow_up] == ["1.2"]


def test_what_retention_deletes_is_gone_from_ledger_and_index(engine: sa.Engine):
    site = Site(engine)
    jobs = [site.add(f"1.{number}", number) for number in (1, 2, 3)]
    mine = site.add("2", 0)
    assert site.studies(mine) == ["1.1", "1.2", "1.3"]
    with begin_immediate(engine) as connection:
        purge_study(connection, "1.1")
        purge_results(connection, jobs[1])
        assert set(connection.scalars(sa.select(lesion_embedding.c.job_id))) == {jobs[2], mine}
    assert site.studies(mine) == ["1.3"]
    (index,) = site.search._indexes.values()
    assert len(index) == 2


def test_a_repeated_job_has_its_new_embedding_alone(engine: sa.Engine):
    site = Site(engine)
    again = site.add("1.1", 50)
    site.add("1.2", 20)
    mine = site.add("2", 0)
    assert site.studies(mine) == ["1.2", "1.1"]
    with begin_immediate(engine) as connection:
        vector = array("f", (1.0, 0.1)).tobytes()
        embedding = LesionEmbedding(lesion="1.1.7", label="Nodule 1", vector=vector, long_axis_mm=None)
        record_embeddings(connection, get_job(connection, again), SPACE, [embedding])
        connection.execute(sa.update(lesion_embedding).where(lesion_embedding.c.job_id == again).values(made_at=1.0))
    assert site.studies(mine) == ["1.1", "1.2"]


def test_a_rebuild_removes_embeddings_without_a_job_and_of_other_pipelines(engine: sa.Engine):
    site = Site(engine)
    site.add("1.1", 1, pipeline="other")
    lost = site.add("1.2", 2)
    mine = site.add("2", 0)
    with begin_immediate(engine) as connection:
        connection.execute(sa.delete(job).where(job.c.id == lost))
        assert rebuild(connection, {"nodule"}) == (2, 1)
    before = dict(site.search._indexes)
    assert site.studies(mine) == []
    assert dict(site.search._indexes) != before


def test_a_job_without_embeddings_has_no_list(engine: sa.Engine):
    site = Site(engine)
    mine = site.add("2", 0)
    with begin_immediate(engine) as connection:
        delete_embeddings(connection, mine)
    with engine.connect() as connection:
        assert site.search.of_job(connection, mine) is None
