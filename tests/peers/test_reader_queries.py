"""The node asks a real archive for objects of readers; verdicts are read in them, and nothing is sent on."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import real_peers
import sqlalchemy as sa
from dicom_files import ct_series, write
from reader_edits import workstation_seg
from reader_site import Site
from receivers import receiving, until

from node.config import parse
from node.deliver.reader_queries import ReaderQueries
from node.dicomweb.archive import open_archive
from node.errors import ConfigError
from node.jobs.engine import Jobs
from node.ledger.clock import ledger_clock
from node.ledger.engine import begin_immediate
from node.ledger.reader_queries import due_studies, is_asked_for, record_query
from node.ledger.tables import instance, job, notice, reader_query
from node.routing.decisions import Decider
from node.spool import Spool

HOUR = 3600.0


@pytest.mark.parametrize("is_in_our_series", [False, True], ids=["own series", "our series"])
@pytest.mark.parametrize("is_web", [False, True], ids=["dimse", "web"])
def test_segmentations_of_readers_are_fetched_once_read_as_verdicts_and_not_sent_on(
    site: Site, tmp_path: Path, *, is_web: bool, is_in_our_series: bool
):
    """Viewers store what they made of a result in a series of their own or in that of the result."""
    first, second = site.masks
    kept = workstation_seg(site.source, {"kept": site.masks[first]})
    if is_in_our_series:
        kept.SeriesInstanceUID, kept.InstanceNumber = site.seg.SeriesInstanceUID, 2
    with (
        receiving(site.spool.folder) as node,
        real_peers.orthanc(tmp_path, {"AINODE": node.port, "STORESCU": 1}) as archive,
    ):
        by_web = f'url = "{archive.http_url}/dicom-web"'
        by_dimse = f'title = "{archive.aet}"\nhost = "127.0.0.1"\nport = {archive.dicom_port}'
        config = parse(
            f'[ae]\naddress = "127.0.0.1"\nport = {node.port}\n'
            f'[storage]\nfolder = "{site.spool.folder}"\nmin_free_gib = 0.0\n'
            f"[destinations.pacs]\n{by_web if is_web else by_dimse}\n"
            '[feedback]\nsource = "pacs"\nquery_minutes = 0.001\n'
        )
        images = [*ct_series(n=2), site.sr, site.seg]
        images[0].StudyInstanceUID = images[1].StudyInstanceUID = site.study
        for number, objects in enumerate((images, [kept])):
            write(objects, tmp_path / f"{number}")
            options = ("-aec", archive.aet, "-R", "+sd", "127.0.0.1", archive.dicom_port, tmp_path / f"{number}")
            real_peers.dcmtk("storescu", *options)
        with site.engine.begin() as connection:  # whatever worker of the tests has made it, and when
            connection.execute(sa.update(job).values(updated_at=ledger_clock(connection) - 1.0))
        queries = ReaderQueries(config, site.engine, partial(open_archive, config, site.engine, site.spool))
        assert queries.step() == 1, "neither images nor our own results"
        assert site.look() == 1
        assert {name: row.verdict for name, row in site.verdicts().items()} == {first: "accepted", second: "rejected"}

        def is_asked_again() -> bool:
            """The older a study is, the longer it takes; queries and retrievals are in the audit trail."""
            assert queries.step() == 0
            with site.engine.connect() as connection:
                return len(connection.execute(sa.select(notice.c.detail).where(notice.c.what == "query")).all()) >= 3

        until(is_asked_again)
        with site.engine.connect() as connection:
            here = set(connection.scalars(sa.select(instance.c.series_instance_uid)))
        assert kept.SeriesInstanceUID in here
        assert images[0].SeriesInstanceUID not in here
        decider = Decider(config, site.engine, Spool(config.storage.folder), Jobs(site.engine))
        decided = decider.without_rules(site.study, kept.SeriesInstanceUID, ())
        assert decided is not None
        assert (decided.decision.outcome, decided.decision.routes) == ("ignored", ())
        assert decider.without_rules(site.study, site.source.series_instance_uid, ()) is None


def test_a_study_is_asked_about_soon_then_more_rarely_and_not_for_ever(site: Site):
    def due(age_hours: float, asked_hours_ago: float | None = None) -> bool:
        with begin_immediate(site.engine) as connection:
            at = ledger_clock(connection)
            connection.execute(sa.update(job).values(updated_at=at - age_hours * HOUR))
            connection.execute(sa.delete(reader_query))
            if asked_hours_ago is not None:
                record_query(connection, site.study)
                connection.execute(sa.update(reader_query).values(asked_at=at - asked_hours_ago * HOUR))
            return due_studies(connection, since=at - 100 * HOUR, interval_seconds=HOUR) == [site.study]

    assert [due(0.5), due(1.1), due(99), due(101)] == [False, True, True, False]
    assert [due(4, asked_hours_ago=0.9), due(4, asked_hours_ago=1.1)] == [False, True]
    assert [due(80, asked_hours_ago=9), due(80, asked_hours_ago=11)] == [False, True]
    with begin_immediate(site.engine) as connection:
        record_query(connection, site.study, "1.2.3")
        assert is_asked_for(connection, site.study, "1.2.3")
        connection.execute(sa.update(job).values(shadow="trial", updated_at=ledger_clock(connection) - 2 * HOUR))
        assert due_studies(connection, since=0.0, interval_seconds=HOUR) == []


@pytest.mark.parametrize(
    ("destination", "why"),
    [("", "is not defined"), ('[destinations.pacs]\nfolder = "/srv/results"\n', "has neither host nor url")],
)
def test_a_source_that_cannot_be_queried_is_an_error(destination: str, why: str):
    with pytest.raises(ConfigError, match=rf"\[feedback\] source names 'pacs', which {why}"):
        parse(f'{destination}[feedback]\nsource = "pacs"\n')
