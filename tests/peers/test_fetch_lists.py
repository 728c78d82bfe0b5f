"""Lists of studies are fetched from a real archive study by study, as time, space and open analyses allow."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path

import postgres
import pytest
import real_peers
from click.testing import CliRunner
from dicom_files import ct_series, mr_series, write
from fetching import Fetching
from lines import Line
from pydicom import FileDataset
from pynetdicom import AE, build_context, evt
from pynetdicom.sop_class import (
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
)
from receivers import Node, receiving

import node.deliver.fetch_lists as module
from node.__main__ import main
from node.config import Config, load
from node.deliver.fetch_lists import FetchLists
from node.dicomweb.archive import open_archive
from node.ledger.engine import begin_immediate
from node.ledger.fetch_lists import (
    FetchItem,
    NewFetchList,
    add_fetch_list,
    fetch_again,
    fetch_progress,
    is_fetched,
    missing_items,
)
from node.ledger.states import FetchState
from node.ledger.tables import fetch_item, instance


class Scene:
    """A node with its receiver, an archive, and what fetches lists from it, step by step."""

    def __init__(self, folder: Path, node: Node, archive: real_peers.Orthanc, *, port: int, fetch: str = "") -> None:
        self.node = node
        self._folder, self.archive = folder, archive
        more = f'ledger_url = "{node.config.storage.ledger_url}"\n[fetch]\n{fetch}'
        self.file = Fetching(folder, node, archive.aet, port, more).config
        self.now = datetime(2026, 11, 27, 12, 0).astimezone()

    @property
    def config(self) -> Config:
        return load(self.file)

    def archived(self, datasets: list[FileDataset], accession: str, date: str = "20200101") -> str:
        """Let the archive have a series; return its study."""
        for dataset in datasets:
            dataset.AccessionNumber, dataset.StudyDate = accession, date
        folder = self._folder / "scanner" / str(datasets[0].SeriesInstanceUID)
        write(datasets, folder)
        target = "127.0.0.1", self.archive.dicom_port
        real_peers.dcmtk("storescu", "-aec", self.archive.aet, "+sd", *target, folder)
        return str(datasets[0].StudyInstanceUID)

    def queue(self, *arguments: str) -> int:
        """Queue a list by the command; return its number."""
        result = self.run("fetch", "archive", "--queue", *arguments)
        assert result.startswith("list "), result
        return int(result.split()[1])

    def run(self, verb: str, *arguments: str) -> str:
        result = CliRunner().invoke(main, [verb, "--config", str(self.file), *arguments])
        assert not result.exception, result.output
        return result.output

    def step(self) -> None:
        archives = partial(open_archive, self.config, self.node.engine, self.node.spool)
        lists = FetchLists(self.config, self.node.engine, self.node.spool, archives, lambda: self.now)
        lists.step(threading.Event())
        lists._leadership.release()

    def states(self, number: int) -> dict[FetchState, int]:
        with self.node.engine.connect() as connection:
            return next(fetch_list.items for fetch_list in fetch_progress(connection) if fetch_list.id == number)

    def missing(self, number: int) -> list[FetchItem]:
        with self.node.engine.connect() as connection:
            return missing_items(connection, number)

    def make_due(self) -> None:
        """Let the time pass that the next attempts wait for."""
        with begin_immediate(self.node.engine) as connection:
            connection.execute(fetch_item.update().values(due_at=0.0))

    def here(self) -> set[str]:
        return {row.study_instance_uid for row in self.node.rows(instance)}

    def goes_last(self, study: str) -> bool:
        with self.node.engine.connect() as connection:
            return is_fetched(connection, study)


@contextmanager
def scene(folder: Path, fetch: str = "", url: str = "") -> Iterator[Scene]:
    storage = f'min_free_gib = 0.0\nledger_url = "{url}"'
    with (
        receiving(folder / "node", storage=storage) as node,
        real_peers.orthanc(folder, {"STORESCU": 1, "AINODE": 1}) as archive,
    ):
        yield Scene(folder, node, archive, port=archive.dicom_port, fetch=fetch)


def test_every_item_of_a_list_is_accounted_for(tmp_path: Path) -> None:
    with scene(tmp_path) as of:
        first, second = of.archived(ct_series(n=3), "A1"), of.archived(ct_series(n=2), "A2")
        of.archived(mr_series(n=2), "A3")
        lines = tmp_path / "list.txt"
        lines.write_text(f"A1\n{second}\nA3\nA4\nA1\n1.2.3\n")
        number = of.queue("--list", str(lines))
        assert of.here() == set()
        of.step()
        assert of.here() == {first, second}
        assert of.states(number) == {FetchState.FETCHED: 2, FetchState.NOT_FOUND: 3}
        place = f"{of.archive.aet} at 127.0.0.1:{of.archive.dicom_port}"
        assert {item.value: item.error for item in of.missing(number)} == {
            "A3": "the study has no series of a wanted modality, only MR",
            "A4": f"archive ({place}) has no study with AccessionNumber A4",
            "1.2.3": "archive has no study 1.2.3",
        }
        assert of.goes_last(first)
        assert not of.goes_last("1.2.3")


@pytest.mark.parametrize("is_server", [False, True], ids=["sqlite", "postgresql"])
def test_a_query_becomes_an_item_for_each_study(tmp_path: Path, *, is_server: bool) -> None:
    with ExitStack() as opened:
        url = opened.enter_context(postgres.cluster()) if is_server else ""
        of = opened.enter_context(scene(tmp_path, url=url))
        studies = {of.archived(ct_series(n=1), f"B{number}", "20250310") for number in range(3)}
        later = of.archived(ct_series(n=1), "B9", "20250401")
        keys = [("StudyDate", "20250301-20250331"), ("AccessionNumber", "B1"), ("AccessionNumber", "B1")]
        with begin_immediate(of.node.engine) as connection:
            number = add_fetch_list(connection, NewFetchList(destination="archive", requester="root", keys=keys))
        of.step()
        assert of.here() == studies
        assert later not in of.here()
        assert of.states(number) == {FetchState.FETCHED: 4}
        with begin_immediate(of.node.engine) as connection:
            assert fetch_again(connection, number) == 0


def test_a_range_of_days_is_queued(tmp_path: Path) -> None:
    with scene(tmp_path) as of:
        study, _ = of.archived(ct_series(n=1), "B1", "20250331"), of.archived(ct_series(n=1), "B2", "20250401")
        of.queue("--dates", "20250301-20250331")
        of.step()
        assert of.here() == {study}


def test_nothing_is_fetched_outside_the_hours(tmp_path: Path) -> None:
    with scene(tmp_path, 'hours = "20:00-06:00"') as of:
        study = of.archived(ct_series(n=1), "A1")
        number = of.queue("--accession", "A1")
        of.step()
        assert of.states(number) == {FetchState.WAITING: 1}
        of.now = of.now.replace(hour=5, minute=59)
        of.step()
        assert of.here() == {study}


def test_no_further_study_is_fetched_while_enough_analyses_are_open(tmp_path: Path) -> None:
    with scene(tmp_path, "open_analyses = 2") as of:
        for number in range(5):
            of.archived(ct_series(n=1), f"A{number}")
        number = of.queue(*(word for index in range(5) for word in ("--accession", f"A{index}")))
        of.step()  # series without a router count until they are routed
        assert of.states(number) == {FetchState.FETCHED: 2, FetchState.WAITING: 3}
        assert "[fetch] open_analyses of fetched studies have not ended" in of.run("fetches")


def test_an_archive_that_is_away_is_asked_again_for_as_long_as_it_takes(tmp_path: Path) -> None:
    with scene(tmp_path) as of:
        study = of.archived(ct_series(n=2), "A1")
        line = Line(of.archive.dicom_port)
        away = Scene(tmp_path, of.node, of.archive, port=line.port)
        number = away.queue("--accession", "A1", "--accession", "A2")
        line.close()
        for _ in range(module.ATTEMPTS + 2):
            away.step()
            assert away.states(number) == {FetchState.WAITING: 2}
            away.make_due()
        assert "tried again: archive" in away.run("fetches")
        assert "A1: waiting" in away.run("fetches", "--missing", str(number))
        back = Scene(tmp_path, of.node, of.archive, port=of.archive.dicom_port)
        back.step()
        assert back.here() == {study}
        assert back.states(number) == {FetchState.FETCHED: 1, FetchState.NOT_FOUND: 1}


def test_a_number_in_other_letters_finds_its_study_and_no_other(tmp_path: Path) -> None:
    """Written in ASCII it would be ``?1``, which matches A1 as well."""
    with scene(tmp_path) as of:
        images = ct_series(n=1)
        for image in images:
            image.SpecificCharacterSet = "ISO_IR 192"
        of.archived(ct_series(n=1), "A1")
        study = of.archived(images, "Ш1")
        number = of.queue("--accession", "Ш1", "--accession", "小1")
        of.step()
        assert of.here() == {study}
        assert of.states(number) == {FetchState.FETCHED: 1, FetchState.NOT_FOUND: 1}


@contextmanager
def refusing(accession: str) -> Iterator[int]:
    """The port of an archive that holds nothing, and answers queries for one number, ``""`` for any, with an error."""

    def find(event: evt.Event) -> Iterator[tuple[int, None]]:
        if accession in ("", event.identifier.AccessionNumber):
            yield 0xC001, None

    entity, port = AE("ORTHANC"), real_peers.free_port()
    entity.supported_contexts = [
        build_context(StudyRootQueryRetrieveInformationModelFind),
        build_context(StudyRootQueryRetrieveInformationModelGet),
    ]
    server = entity.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_FIND, find)])
    try:
        yield port
    finally:
        server.shutdown()


def test_a_query_that_an_archive_refuses_holds_up_no_other_and_fails_at_last(tmp_path: Path) -> None:
    with scene(tmp_path) as of, refusing("BAD") as port:
        other = Scene(tmp_path, of.node, of.archive, port=port)
        number = other.queue("--accession", "BAD", "--accession", "A1")
        other.step()
        assert other.states(number) == {FetchState.NOT_FOUND: 1, FetchState.WAITING: 1}
        for _ in range(module.ATTEMPTS):
            other.make_due()
            other.step()
        assert other.states(number) == {FetchState.NOT_FOUND: 1, FetchState.FAILED: 1}
        assert "status 0xC001" in {item.value: item.error for item in other.missing(number)}["BAD"]


def test_an_archive_that_refuses_everything_is_left_alone_for_a_while(tmp_path: Path) -> None:
    with scene(tmp_path) as of, refusing("") as port:
        other = Scene(tmp_path, of.node, of.archive, port=port)
        number = other.queue(*(word for index in range(9) for word in ("--accession", f"A{index}")))
        other.step()
        assert other.states(number) == {FetchState.WAITING: 9}
        assert [item.failures for item in other.missing(number)] == [1, 1, 1]


def test_images_that_never_come_fail_after_some_attempts_and_can_be_tried_again(tmp_path: Path) -> None:
    """The archive knows this node, but connects to another port."""
    with scene(tmp_path) as of:
        datasets = ct_series(n=2)
        of.archived(datasets, "A1")
        number = of.queue("--accession", "A1")
        get = of.file.read_text()
        of.file.write_text(get.replace('retrieve = "get"', 'retrieve = "move"'))
        for _ in range(module.ATTEMPTS + 1):
            of.step()
            of.make_due()
        assert of.states(number) == {FetchState.FAILED: 1}
        [lacking] = of.missing(number)
        assert (lacking.here, lacking.there) == (0, 2)
        assert "check that it knows AINODE and can connect to it" in lacking.error
        of.file.write_text(get)
        assert of.run("fetches", "--again", str(number)).startswith("1 item waits again")
        of.step()
        assert of.states(number) == {FetchState.FETCHED: 1}
        assert of.here() == {str(datasets[0].StudyInstanceUID)}


def test_a_cancelled_list_is_not_fetched(tmp_path: Path) -> None:
    with scene(tmp_path) as of:
        of.archived(ct_series(n=1), "A1")
        number = of.queue("--accession", "A1")
        assert of.run("fetches", "--cancel", str(number)).startswith("1 item is not fetched")
        of.step()
        assert of.here() == set()
        assert of.states(number) == {FetchState.CANCELLED: 1}


def test_what_names_no_configured_destination_ends_with_a_reason(tmp_path: Path) -> None:
    with scene(tmp_path) as of:
        with begin_immediate(of.node.engine) as connection:
            new = NewFetchList(destination="gone", requester="root", keys=[("AccessionNumber", "A1")])
            number = add_fetch_list(connection, new)
        of.step()
        assert [(item.state, "gone" in item.error) for item in of.missing(number)] == [(FetchState.FAILED, True)]


@pytest.mark.parametrize("dates", ["2025", "20250301-", "20250331-20250301", "20250301-20250332"])
def test_a_wrong_range_of_days_is_refused(tmp_path: Path, dates: str) -> None:
    file = tmp_path / "config.toml"
    file.write_text("")
    result = CliRunner().invoke(main, ["fetch", "--config", str(file), "archive", "--dates", dates])
    assert result.exit_code == 2
    assert f"--dates {dates}: " in result.output
