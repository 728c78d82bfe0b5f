"""`ainode reconcile`: a real PACS is asked what it holds, and what it lost is sent again."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import delivery_jobs as jobs
import pytest
import real_peers
import sqlalchemy as sa
from click.testing import CliRunner
from dicom_files import ct_series, mr_series, write

from node.__main__ import main
from node.config import Rule
from node.deliver.reconcile import is_wanted, reconcile
from node.errors import DeliveryError, NotFoundError
from node.ledger.engine import begin_immediate
from node.ledger.tables import delivery, job, series


def configuration(folder: Path, pacs: real_peers.Orthanc) -> Path:
    file = folder / "config.toml"
    file.write_text(f"""
[storage]
folder = "{folder / "node"}"
[pipelines.bright]
[destinations.pacs]
title = "{pacs.aet}"
host = "{pacs.host}"
port = {pacs.dicom_port}
[[rules]]
name = "ct"
pipelines = ["bright"]
match = {{ Modality = ["CT", "PT"] }}
""")
    return file


def test_what_the_pacs_holds_and_the_node_never_got_and_what_the_pacs_lost(
    tmp_path: Path, pacs: real_peers.Orthanc
) -> None:
    today = f"{datetime.now().astimezone():%Y%m%d}"
    unknown, known, unwanted, old = ct_series(n=3), ct_series(n=3), mr_series(n=3), ct_series(n=3)
    for number, dataset in enumerate((*unknown, *known, *unwanted, *old)):
        dataset.StudyDate = "20200101" if number >= 9 else today
        write([dataset], tmp_path / "scanner" / str(number))
    real_peers.dcmtk("storescu", "-aec", pacs.aet, "+sd", "+r", pacs.host, pacs.dicom_port, tmp_path / "scanner")
    results = ct_series(n=3)
    for dataset in results:
        dataset.StudyDate = today
    node = jobs.FinishedJob(tmp_path / "node", results, {"pacs": jobs.destination(pacs)})
    node.deliver()
    with begin_immediate(node.engine) as connection:
        connection.execute(sa.update(delivery).values(ended_at=1.0))
        connection.execute(sa.update(job).values(state="COMPLETED"))
        row = {"study_instance_uid": known[0].StudyInstanceUID, "modality": "CT", "first_at": 1.0, "last_at": 1.0}
        row |= {"series_instance_uid": known[0].SeriesInstanceUID, "state": "COMPLETE", "generation": 1}
        connection.execute(sa.insert(series).values(**row, instances=2))
    pacs.delete(node.uids[1])
    command = ["reconcile", "--config", str(configuration(tmp_path, pacs)), "pacs", "--json"]
    told = CliRunner().invoke(main, command)
    assert told.exit_code == DeliveryError.exit_code
    comparison = json.loads(told.stdout)
    absent = {(item["series_instance_uid"], item["there"], item["here"]) for item in comparison["never_received"]}
    assert absent == {(unknown[0].SeriesInstanceUID, 3, 0), (known[0].SeriesInstanceUID, 3, 2)}
    assert (comparison["series"], comparison["delivered"]) == (2, 3)
    assert [instance["sop_instance_uid"] for instance in comparison["lost"]] == [node.uids[1]]

    again = CliRunner().invoke(main, [*command[:-1], "--send-again"])
    assert "1 object will be sent to pacs again" in again.output
    assert (node.status().state, node.status().stored) == ("SCHEDULED", 2)
    node.deliver()
    assert set(node.uids) <= set(pacs.instances())
    after = reconcile(node.config, node.engine, "pacs", days=1, at=datetime.now(UTC), timeouts=jobs.PATIENT)
    assert (after.delivered, after.lost) == (3, ())


def test_a_folder_is_looked_into_for_what_it_was_given(tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    archive.mkdir()
    node = jobs.FinishedJob(tmp_path / "node", ct_series(n=2), {"archive": {"folder": str(archive)}})
    node.deliver("archive")
    next(archive.rglob(f"{node.uids[0]}.dcm")).unlink()
    comparison = reconcile(node.config, node.engine, "archive", days=1, at=datetime.now(UTC))
    assert [instance.sop_instance_uid for instance in comparison.lost] == [node.uids[0]]
    with pytest.raises(NotFoundError, match="there are: archive"):
        reconcile(node.config, node.engine, "gone", days=1, at=datetime.now(UTC))


def test_only_modalities_that_a_rule_takes_are_asked_for() -> None:
    rules = [Rule(name="r", pipelines=("p",), match={"Modality": ("CT", "M?")})]
    assert [is_wanted(modality, rules) for modality in ("CT", "MR", "US")] == [True, True, False]
    assert is_wanted("US", [Rule(name="r", pipelines=("p",))])
