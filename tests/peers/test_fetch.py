"""`ainode fetch`: a real archive sends what is asked for to the node's own receiver, once."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import real_peers
from click.testing import CliRunner, Result
from dicom_files import ct_series, mr_series, write
from pydicom import FileDataset
from receivers import Node, receiving

from node.__main__ import main
from node.errors import ConfigError, DeliveryError
from node.ledger.tables import instance


class Scene:
    """A node with its receiver, and an archive that knows it."""

    def __init__(self, folder: Path, node: Node, archive: real_peers.Orthanc, *, is_web: bool = False) -> None:
        self.node = node
        self._scanner, self._archive = folder / "scanner", archive
        self._config = folder / "config.toml"
        by_web = f'url = "{archive.http_url}/dicom-web"'
        by_dimse = f'title = "{archive.aet}"\nhost = "{archive.host}"\nport = {archive.dicom_port}'
        self._config.write_text(f"""
[ae]
address = "127.0.0.1"
port = {node.port}
[storage]
folder = "{node.config.storage.folder}"
min_free_gib = 0.0
[pipelines.bright]
[destinations.archive]
{by_web if is_web else by_dimse}
[[rules]]
name = "ct"
pipelines = ["bright"]
match = {{ Modality = "CT" }}
""")

    def archived(self, datasets: list[FileDataset], accession: str, date: str = "20200101") -> list[FileDataset]:
        for dataset in datasets:
            dataset.AccessionNumber, dataset.StudyDate = accession, date
        self.send(datasets, self._archive.aet, self._archive.dicom_port)
        return datasets

    def send(self, datasets: list[FileDataset], title: str, port: int) -> None:
        folder = self._scanner / f"{title} {datasets[0].SeriesInstanceUID}"
        write(datasets, folder)
        real_peers.dcmtk("storescu", "-aec", title, "+sd", "127.0.0.1", port, folder)

    def fetch(self, *arguments: str) -> Result:
        return CliRunner().invoke(main, ["fetch", "--config", str(self._config), "archive", *arguments])

    def here(self) -> set[str]:
        return {row.sop_instance_uid for row in self.node.rows(instance)}


def uids(*series: list[FileDataset]) -> set[str]:
    return {str(dataset.SOPInstanceUID) for datasets in series for dataset in datasets}


@pytest.mark.parametrize("is_web", [False, True], ids=["dimse", "web"])
def test_studies_come_by_accession_number_uid_list_and_date_and_each_image_once(
    tmp_path: Path, *, is_web: bool
) -> None:
    with (
        receiving(tmp_path / "node") as node,
        real_peers.orthanc(tmp_path, {"STORESCU": 1} if is_web else {"AINODE": node.port, "STORESCU": 1}) as archive,
    ):
        scene = Scene(tmp_path, node, archive, is_web=is_web)
        today = f"{datetime.now().astimezone() - timedelta(hours=1):%Y%m%d}"
        first, second = scene.archived(ct_series(n=3), "A1"), scene.archived(ct_series(n=4), "A2")
        third, other = scene.archived(ct_series(n=2), "A3", today), scene.archived(mr_series(n=2), "A1")

        shown = scene.fetch("--accession", "A1", "--dry-run")
        assert shown.exit_code == 0, shown.output
        assert "1 series to fetch" in shown.output
        assert scene.here() == set()

        scene.send(first[:2], "AINODE", node.port)
        assert uids(first[:2]) == scene.here()
        fetched = scene.fetch("--accession", "A1", "--json")
        assert fetched.exit_code == 0, fetched.output
        (series,) = json.loads(fetched.stdout)
        assert (series["series_instance_uid"], series["there"], series["here"]) == (first[0].SeriesInstanceUID, 3, 3)
        assert scene.here() == uids(first), "and no MR, which no rule matches"
        assert "0 series fetched" in scene.fetch("--accession", "A1").output

        listed = tmp_path / "list.txt"
        listed.write_text(f"A1\n\n{second[0].StudyInstanceUID}\nA404\n")
        some = scene.fetch("--list", str(listed))
        assert some.exit_code == DeliveryError.exit_code
        assert "4 of 4 images" in some.output
        assert "has no study with AccessionNumber A404" in some.output
        assert scene.here() == uids(first, second)

        assert scene.fetch("--days", "1").exit_code == 0
        assert scene.here() == uids(first, second, third)
        assert scene.fetch("--accession", "A1", "--modality", "MR").exit_code == 0
        assert scene.here() == uids(first, second, third, other)


def test_an_archive_that_does_not_know_or_does_not_reach_the_node_is_named(tmp_path: Path, free_port: int) -> None:
    with receiving(tmp_path / "node") as node:
        for known in ({"STORESCU": 1}, {"AINODE": free_port, "STORESCU": 1}):
            with real_peers.orthanc(tmp_path / str(len(known)), {**known, "OTHER": 1}) as archive:
                scene = Scene(tmp_path, node, archive)
                scene.archived(ct_series(n=2), "A1")
                failed = scene.fetch("--accession", "A1")
            assert failed.exit_code == DeliveryError.exit_code
            assert f"check that it knows AINODE and can connect to it at port {node.port}" in failed.output
            assert scene.here() == set()


@pytest.mark.parametrize("missing", [(), ("--modality", "CT")])
def test_no_study_is_named_by_nothing(tmp_path: Path, missing: tuple[str, ...]) -> None:
    with receiving(tmp_path / "node") as node, real_peers.orthanc(tmp_path) as archive:
        asked = Scene(tmp_path, node, archive).fetch(*missing)
    assert asked.exit_code == ConfigError.exit_code
    assert "name studies by --accession" in asked.output
