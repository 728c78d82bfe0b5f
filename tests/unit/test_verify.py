"""Files against ledger: what is missing, altered or unrecorded is found, and a lost ledger comes back."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from click.testing import CliRunner
from dicom_files import ct_series
from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from receivers import Node, ReceiverProcess, associate, configuration, send_dataset, until
from timeline import timeline

from node.__main__ import main
from node.errors import LedgerError
from node.ledger.engine import begin_immediate, ledger_url, now, open_ledger
from node.ledger.tables import conflict, instance, result, series
from node.operate.verify import SETTLE_SECONDS, Verification, compare, describe, verify
from node.spool import Spool

digests = st.dictionaries(st.sampled_from("abcdef"), st.sampled_from("01"))


@given(digests, digests)
def test_each_path_is_right_or_has_the_one_fault_that_it_has(recorded: dict[str, str], found: dict[str, str]) -> None:
    faults = compare(recorded, found)
    for path in recorded.keys() | found.keys():
        if recorded.get(path) == found.get(path):
            assert path not in faults
        elif path not in found:
            assert faults[path] == "missing"
        else:
            assert faults[path] == ("altered" if path in recorded else "unrecorded")
    assert faults.keys() <= recorded.keys() | found.keys()


def send(node: Node | ReceiverProcess) -> list[Any]:
    """Three images, the last one twice with different content."""
    datasets = ct_series(3, 16)
    sender = associate(node, [(CTImageStorage, ExplicitVRLittleEndian)])
    for dataset in datasets:
        assert send_dataset(sender, dataset).Status == 0x0000
    datasets[-1].PatientComments = "changed"
    assert send_dataset(sender, datasets[-1]).Status == 0x0000
    sender.release()
    return datasets


def make_result(node: Node, sop: str) -> None:
    kept = node.spool.keep_result("job-1", sop, sop.encode())
    row = {column.name: "" for column in result.columns}
    row |= {"sop_instance_uid": sop, "job_id": "job-1", "path": kept.path, "digest": kept.digest}
    with begin_immediate(node.engine) as connection:
        connection.execute(sa.insert(result).values(row | {"size": kept.size, "created_at": now()}))


@pytest.fixture
def full(node: Node) -> Node:
    """A node with three images, a conflict and two results."""
    send(node)
    assert len(node.rows(conflict)) == 1
    make_result(node, "2.1")
    make_result(node, "2.2")
    return node


def look(node: Node) -> Verification:
    """When every file is old enough to be judged."""
    return verify(node.engine, node.spool, now() + SETTLE_SECONDS)


def test_a_spool_that_is_as_it_was_written_agrees_with_its_ledger(full: Node) -> None:
    steps: list[tuple[int, int]] = []
    verification = verify(full.engine, full.spool, now(), lambda *step: steps.append(step))
    assert (verification.files, verification.recorded, verification.faults, verification.leftover) == (6, 6, 0, ())
    assert verification.size == sum(full.spool.absolute(path).stat().st_size for path in full.files())
    assert steps == [(0, 2), (1, 2), (2, 2)]
    assert describe(verification).endswith("Every file is as it was recorded.")


def test_files_that_are_gone_or_changed_by_one_bit_are_named(full: Node) -> None:
    image, other = (row.path for row in full.rows(instance)[:2])
    [twin] = (row.path for row in full.rows(conflict))
    full.spool.absolute(image).unlink()
    full.spool.absolute("results/job-1/2.1.dcm").unlink()
    for path in (other, twin):
        file = full.spool.absolute(path)
        content = bytearray(file.read_bytes())
        content[-1] ^= 1
        file.write_bytes(content)
    verification = look(full)
    assert verification.missing == tuple(sorted([image, "results/job-1/2.1.dcm"]))
    assert verification.altered == tuple(sorted([other, twin]))
    assert (verification.unrecorded, verification.leftover, verification.faults) == ((), (), 4)


def test_an_image_that_was_lost_and_came_again_from_another_sender_is_as_recorded(node: Node) -> None:
    (dataset,) = ct_series(1, 16)
    for calling in ("CT1", "PACS"):
        sender = associate(node, [(CTImageStorage, ExplicitVRLittleEndian)], calling=calling)
        assert send_dataset(sender, dataset).Status == 0x0000
        sender.release()
        [row] = node.rows(instance)
        assert look(node).faults == 0
        node.spool.absolute(row.path).unlink()
    assert [e.what for e in timeline(node.engine)] == ["receiving", "received again"]
    assert look(node).missing == (row.path,)


def test_a_study_whose_folder_is_gone_is_missing_as_a_whole(full: Node) -> None:
    paths = [row.path for table in (instance, conflict) for row in full.rows(table)]
    full.spool.purge(paths)
    assert look(full).missing == tuple(sorted(paths))


def test_files_without_row_are_named_once_their_row_is_overdue(full: Node) -> None:
    [gone] = (row.path for row in full.rows(conflict))
    with begin_immediate(full.engine) as connection:
        connection.execute(sa.delete(conflict))
        connection.execute(sa.delete(result).where(result.c.sop_instance_uid == "2.2"))
    assert verify(full.engine, full.spool, now()).faults == 0
    verification = look(full)
    assert (verification.unrecorded, verification.leftover) == ((gone,), ("results/job-1/2.2.dcm",))
    assert verification.faults == 1
    assert "the receiver records them at its next start" in describe(verification)


class Forgetting(Spool):
    """Retention forgets everything received just before files are listed."""

    def files(self, folder: str) -> list[str]:
        with begin_immediate(open_ledger(ledger_url("", self.folder))) as connection:
            for table in (instance, conflict):
                self.purge(connection.scalars(sa.select(table.c.path)).all())
                connection.execute(sa.delete(table))
        return super().files(folder)


def test_what_retention_forgets_meanwhile_is_no_fault(full: Node) -> None:
    verification = verify(full.engine, Forgetting(full.spool.folder), now() + SETTLE_SECONDS)
    assert (verification.files, verification.recorded, verification.faults) == (2, 6, 0)


@pytest.mark.thorough
def test_a_deleted_ledger_is_rebuilt_from_the_files_when_a_receiver_starts(
    receiver_process: Callable[..., ReceiverProcess],
) -> None:
    process = receiver_process()
    process.start()
    datasets = send(process)
    assert process.stop() == 0
    facts = ("path", "sop_instance_uid", "study_instance_uid", "series_instance_uid", "digest", "size")
    before = [[tuple(getattr(row, fact) for fact in facts) for row in rows] for rows in kept(process.node())]
    for file in process.config.storage.folder.glob("ledger.sqlite*"):
        file.unlink()
    node = process.node()
    lost = look(node)
    assert (lost.recorded, len(lost.unrecorded)) == (0, 4)
    assert "it is rebuilt from these files when the node starts" in describe(lost)
    process.start()
    until(lambda: sum(len(rows) for rows in kept(node)) == 4)
    assert [[tuple(getattr(row, fact) for fact in facts) for row in rows] for rows in kept(node)] == before
    assert {row.sop_instance_uid for row in node.rows(instance)} == {d.SOPInstanceUID for d in datasets}
    [row] = node.rows(series)
    assert (row.instances, row.state, row.generation) == (3, "RECEIVING", 0)
    assert look(node).faults == 0


def kept(node: Node) -> list[list[Any]]:
    return [sorted(node.rows(table), key=lambda row: row.path) for table in (instance, conflict)]


def test_the_verb_names_the_faults_and_ends_with_the_status_of_the_ledger(full: Node, tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(configuration(full.spool.folder, full.port))
    good = CliRunner().invoke(main, ["verify", "--json", "--config", str(file)])
    assert good.exit_code == 0
    assert json.loads(good.stdout)["files"] == 6
    path = full.rows(instance)[0].path
    full.spool.absolute(path).unlink()
    bad = CliRunner().invoke(main, ["verify", "--config", str(file)])
    assert bad.exit_code == LedgerError.exit_code
    assert f"missing    {path}" in bad.stdout
    assert "1 files do not agree with the ledger" in bad.stderr


def test_rows_of_a_version_that_calculated_sha256_stay_verifiable(full: Node):
    path = full.rows(instance)[0].path
    for content, altered in ((full.spool.absolute(path).read_bytes(), ()), (b"other bytes", (path,))):
        with begin_immediate(full.engine) as connection:
            row = sa.update(instance).where(instance.c.path == path)
            connection.execute(row.values(digest=hashlib.sha256(content).hexdigest()))
        assert look(full).altered == altered
