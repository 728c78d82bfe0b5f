"""Images that an operator takes out of a held series: the others are analysed, and nothing is lost."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import postgres
import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result
from dicom_files import ct_series
from pydicom import Dataset, dcmread
from receivers import Node, configuration, receiving
from scanner import RULE, route, send

from node.__main__ import main
from node.errors import NodeError, NotFoundError, OperatorError
from node.ledger.commitments import recorded_instances
from node.ledger.engine import begin_immediate, now
from node.ledger.excluded_images import exclude_image, excluded_images, include_image
from node.ledger.instances import Receipt, record_instances
from node.ledger.jobs import source_paths
from node.ledger.names import studies_named
from node.ledger.planned_purges import all_stored_studies
from node.ledger.retention import purge_study
from node.ledger.tables import decision, event, instance, notice, series
from node.operate.explain import explain
from node.operate.explain_text import describe
from node.operate.verify import verify
from node.reasons import ReasonCode, reason


def mixed(foreign: int = 1) -> list[Dataset]:
    """A series whose last images are of somebody else."""
    images = ct_series(5, 16)
    for image in images[5 - foreign :]:
        image.PatientID, image.PatientName = "OTHER", "Somebody^Else"
    return images


def ainode(node: Node, *verb: str) -> Result:
    file = node.spool.folder.parent / "config.toml"
    file.write_text(configuration(node.spool.folder, node.port) + RULE)
    return CliRunner().invoke(main, [verb[0], "--config", str(file), *verb[1:]])


def done(result: Result) -> str:
    assert result.exit_code == 0, result.output
    return result.output


def test_a_held_series_is_analysed_without_the_excluded_image_and_held_again_with_it(node: Node) -> None:
    images = mixed()
    uid = images[-1].SOPInstanceUID
    send(node, images)
    assert route(node) == []
    waiting = ainode(node, "account")
    assert waiting.exit_code == OperatorError.exit_code
    assert "1 of the lines above need an operator" in waiting.stderr
    assert f"differ from the others: {uid}" in waiting.output
    done(ainode(node, "exclude", uid, "--reason", "of the patient before"))
    (job,) = route(node)
    with node.engine.connect() as connection:
        paths = source_paths(connection, job)
        assert set(recorded_instances(connection, [uid])) == {uid}
        assert studies_named(connection, uid) == [images[0].StudyInstanceUID]
        (kept,) = all_stored_studies(connection)
    assert {str(dcmread(node.spool.absolute(path)).PatientID) for path in paths} == {images[0].PatientID}
    assert len(paths) == 4
    assert kept.size == sum(file.stat().st_size for file in (node.spool.folder / "incoming").rglob("*.dcm"))
    account = done(ainode(node, "account"))
    assert "images   5 sent = 4 stored + 1 stored and excluded" in account
    assert "of the patient before; it is kept, and ainode exclude --undo" in account
    assert verify(node.engine, node.spool, now()).faults == 0
    done(ainode(node, "exclude", "--undo", uid))
    route(node)
    assert [row.outcome for row in node.rows(decision)] == ["held", "routed", "held"]
    words = describe(explain(node.engine, images[0].StudyInstanceUID))
    assert "image excluded" in words
    assert "image included" in words
    assert [row.detail.split()[0] for row in node.rows(notice) if row.what == "act"] == ["excluded", "included"]


def test_an_excluded_image_that_is_sent_again_stays_excluded_and_a_corrected_one_joins_its_series(
    tmp_path: Path,
) -> None:
    with receiving(tmp_path / "node") as node:
        images = mixed()
        uid = images[-1].SOPInstanceUID
        send(node, images)
        route(node)
        done(ainode(node, "exclude", uid, "--reason", "foreign"))
        route(node)
        before = node.rows(instance), node.rows(series), node.rows(event)
        send(node, images[-1:])
        assert (node.rows(instance), node.rows(series), node.rows(event)) == before
    with receiving(tmp_path / "node") as node:  # after a restart, which looks for files without a row
        assert (node.rows(instance), node.rows(series)) == before[:2]
        corrected = deepcopy(images[-1])
        corrected.PatientID, corrected.PatientName = images[0].PatientID, images[0].PatientName
        send(node, [corrected])
        job = route(node)[-1]
        with node.engine.connect() as connection:
            paths = source_paths(connection, job)
        assert {str(dcmread(node.spool.absolute(path)).PatientID) for path in paths} == {images[0].PatientID}
        assert len(paths) == 5
        assert verify(node.engine, node.spool, now()).faults == 0
        refused = ainode(node, "exclude", "--undo", uid)
        assert "received again with other content" in refused.stderr


def test_only_images_of_held_series_can_be_excluded_and_never_the_last(node: Node) -> None:
    images = mixed()
    send(node, images[:4])
    route(node)
    uid = images[0].SOPInstanceUID
    assert "is not held" in ainode(node, "exclude", uid, "--reason", "x").stderr
    assert ainode(node, "exclude", "1.2.3", "--reason", "x").exit_code == NotFoundError.exit_code
    assert ainode(node, "exclude", "--undo", uid).exit_code == NotFoundError.exit_code
    assert ainode(node, "exclude", uid, "--reason", " ").exit_code == 2
    send(node, images[4:])
    route(node)
    every = [image.SOPInstanceUID for image in images]
    assert "only image" in ainode(node, "exclude", *every, "--reason", "x").stderr
    assert len(node.rows(instance)) == 5  # all or none
    done(ainode(node, "exclude", *every[:4], "--reason", "x"))


@postgres.BOTH
def test_both_databases_move_the_row_and_purge_the_file_with_its_study(engine: sa.Engine) -> None:
    of = {"study_instance_uid": "1.1", "series_instance_uid": "1.1.1"}
    receipts = [
        Receipt(
            sop_instance_uid=f"1.1.1.{number}", sop_class_uid="1", transfer_syntax_uid="1", **of, modality="CT",
            path=f"incoming/{number}.dcm", digest="d", size=100, conflict=False, association=None, received_at=1000.0,
        )
        for number in range(2)
    ]  # fmt: skip
    why = reason(ReasonCode.CONTRADICTION, keywords=["PatientID"], others=["1.1.1.1"], number=1, of=2)
    with begin_immediate(engine) as connection:
        record_instances(connection, receipts)
        connection.execute(series.update().values(state="COMPLETE", generation=1))
        row = {**of, "generation": 1, "outcome": "held", "reason": why, "trace": [], "decided_at": 1001.0}
        connection.execute(decision.insert().values(row))
    with begin_immediate(engine) as connection:
        assert exclude_image(connection, "1.1.1.1", who="otto", why="foreign") == "1.1"
        record_instances(connection, receipts)  # the same file again
        (excluded,) = excluded_images(connection)
        assert (excluded.sop_instance_uid, excluded.who, excluded.why) == ("1.1.1.1", "otto", "foreign")
        state = connection.execute(sa.select(series.c.instances, series.c.size, series.c.state)).one()
        assert state == (1, 100, "RECEIVING")
        with pytest.raises(NodeError, match="only image"):
            exclude_image(connection, "1.1.1.0", who="otto", why="foreign")
        include_image(connection, "1.1.1.1", who="otto")
        assert connection.scalar(sa.select(series.c.instances)) == 2
        exclude_image(connection, "1.1.1.1", who="otto", why="foreign")
        connection.execute(series.update().values(state="COMPLETE"))
        purged = purge_study(connection, "1.1")
        assert sorted(purged.paths) == ["incoming/0.dcm", "incoming/1.dcm"]
        assert excluded_images(connection) == []
