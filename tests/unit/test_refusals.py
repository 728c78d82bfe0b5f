"""What was sent and not taken is a fact of its series: it waits, it is named, and the outcome is *partial*."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import pytest
import raw_peer
import sqlalchemy as sa
from dicom_files import ct_series
from pydicom import Dataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid
from receivers import Node, associate, configuration, encode, receiving, send, send_dataset, until
from scanner import RULE
from stored_reasons import codes_of

from node.config import parse
from node.jobs.engine import Jobs
from node.ledger.engine import begin_immediate, now
from node.ledger.job_outcome import record_outcome
from node.ledger.jobs import Job, list_jobs
from node.ledger.refusals import record_rejection
from node.ledger.tables import association, refusal, rejection, series
from node.ledger.transitions import cancel_job
from node.operate.account import description, report
from node.operate.account.rows import read
from node.operate.explain import explain
from node.operate.explain_text import describe
from node.operate.purge import Retention
from node.reasons import ReasonCode, reason, reason_text
from node.routing.conflicts import Conflicts
from node.routing.router import Router

CT = [(CTImageStorage, ExplicitVRLittleEndian)]
QUOTA = 'callers = [{ title = "PEER", quota_gib = 0.000008 }]'
"""Room for some of eight images of 16 x 16."""


def routed(node: Node, seconds: float) -> int:
    """How many series the router completes so many seconds from now."""
    config = parse(configuration(node.spool.folder, node.port) + RULE)
    return Router(config, node.engine, node.spool, Jobs(node.engine)).step(now() + seconds)


def jobs_of(node: Node) -> list[Job]:
    """The oldest first."""
    with node.engine.connect() as connection:
        return list_jobs(connection)[::-1]


def outcome_of(node: Node, said: str) -> tuple[str | None, str]:
    """What the newest job may say when its pipeline says ``said``."""
    job = jobs_of(node)[-1]
    with begin_immediate(node.engine) as connection:
        record_outcome(connection, job.id, said, None)
    codes_of(node.engine)
    return jobs_of(node)[-1].outcome, reason_text(jobs_of(node)[-1].reason)


def closed(node: Node) -> None:
    until(lambda: (rows := node.rows(association)) and all(row.closed_at for row in rows))


def store(node: Node, images: Sequence[Dataset], damaged: Sequence[Dataset] = ()) -> None:
    """On one association, those of ``damaged`` without their last bytes; refused ones are not tried again."""
    peer = associate(node, CT)
    for image in images:
        data = encode(image)
        send(peer, CTImageStorage, image.SOPInstanceUID, data[:-9] if image in damaged else data)
    peer.release()
    closed(node)


def test_a_quota_that_is_used_up_in_the_middle_makes_the_outcome_partial(tmp_path: Path) -> None:
    images = ct_series(8, 16)
    with receiving(tmp_path / "node", QUOTA) as node:
        peer = associate(node, CT)
        statuses = [send_dataset(peer, image).Status for image in images]
        peer.release()
        closed(node)
        kept = statuses.count(0x0000)
        refused = 8 - kept
        assert 1 < kept < 7
        assert statuses == [0x0000] * kept + [0xA700] * refused
        assert {row.sop_instance_uid for row in node.rows(refusal)} == {i.SOPInstanceUID for i in images[kept:]}
        assert routed(node, 60.0) == 0
        (row,) = node.rows(series)
        assert [reason_text(doubt["about"]) for doubt in row.doubts] == [
            f"{refused} image(s) of PEER refused with status A700: quota of 8e-06 GiB exceeded"
        ]
        assert 200.0 < row.doubts[0]["until"] - now() < 301.0
        assert routed(node, 310.0) == 1
        (job,) = jobs_of(node)
        assert reason_text(job.incomplete) == (
            f"{kept} images received, {refused} refused: the upper {2.5 * refused:.0f} mm were not analysed"
        )
        assert outcome_of(node, "no findings") == ("partial", reason_text(job.incomplete))


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        ([0, 1], "6 images received, 2 refused: the lower 5 mm were not analysed"),
        ([0, 6, 7], "5 images received, 3 refused: the lower 2 mm and the upper 5 mm were not analysed"),
        ([3, 7], "6 images received, 2 refused; slices are missing: 1"),
        ([1, 3, 5], "5 images received, 3 refused"),
    ],
)
def test_the_side_is_named_where_it_is_known(node: Node, missing: list[int], said: str) -> None:
    images = ct_series(8, 16)
    store(node, images, damaged=[images[index] for index in missing])
    assert routed(node, 310.0) == 1
    (job,) = jobs_of(node)
    assert reason_text(job.incomplete).startswith(said)
    assert ("not analysed" in reason_text(job.incomplete)) is ("not analysed" in said)


def test_what_was_refused_and_comes_later_is_missing_no_more(node: Node) -> None:
    images = ct_series(6, 16)
    store(node, images, damaged=images[4:])
    assert routed(node, 310.0) == 1
    store(node, images[4:])
    assert routed(node, 40.0) == 1
    assert [(job.generation, reason_text(job.incomplete)) for job in jobs_of(node)] == [
        (1, "4 images received, 2 refused: the upper 5 mm were not analysed"),
        (2, ""),
    ]
    assert outcome_of(node, "no findings") == ("no findings", "")
    assert [job.state for job in jobs_of(node)] == ["CANCELED", "SCHEDULED"]


def test_a_refusal_after_the_series_was_complete_opens_it_again(node: Node) -> None:
    images = ct_series(6, 16)
    store(node, images[:4])
    assert routed(node, 40.0) == 1
    store(node, images[4:], damaged=images[4:])
    assert routed(node, 40.0) == 0
    assert routed(node, 310.0) == 1
    assert [(job.generation, reason_text(job.incomplete)) for job in jobs_of(node)] == [
        (1, ""),
        (2, "4 images received, 2 refused: the upper 5 mm were not analysed"),
    ]


def test_an_image_that_is_here_already_is_not_missing_when_it_is_refused(node: Node) -> None:
    images = ct_series(3, 16)
    store(node, images)
    assert routed(node, 40.0) == 1
    store(node, images[:1], damaged=images[:1])
    assert [row.state for row in node.rows(series)] == ["COMPLETE"]
    assert routed(node, 310.0) == 0


def test_a_refusal_of_which_nothing_is_known_belongs_to_what_its_caller_sends(node: Node) -> None:
    images = ct_series(4, 16)
    peer = associate(node, CT)
    for image in images:
        assert send_dataset(peer, image).Status == 0x0000
    assert send(peer, CTImageStorage, generate_uid(), b"\1\2\3\4").Status != 0x0000
    peer.release()
    closed(node)
    assert routed(node, 60.0) == 0
    assert routed(node, 310.0) == 1
    assert reason_text(jobs_of(node)[0].incomplete) == "4 images received, 1 refused"


def test_two_series_of_one_association_keep_their_refusals_apart(node: Node) -> None:
    first, other = ct_series(4, 16), ct_series(4, 16)
    interleaved = [image for pair in zip(first, other, strict=True) for image in pair]
    store(node, interleaved, damaged=first[2:])
    assert routed(node, 60.0) == 1
    assert jobs_of(node)[0].series_instance_uid == other[0].SeriesInstanceUID
    assert routed(node, 310.0) == 1
    assert [job.incomplete is None for job in jobs_of(node)] == [True, False]


def test_many_refusals_are_one_line_of_log(node: Node, caplog: pytest.LogCaptureFixture) -> None:
    images = ct_series(30, 16)
    with caplog.at_level(logging.WARNING):
        store(node, images, damaged=images[2:])
        until(lambda: "refused with status" in caplog.text)
    lines = [record.getMessage() for record in caplog.records if "refused with status" in record.getMessage()]
    assert len(lines) == 1
    assert lines[0].startswith(f"28 images of series {images[0].SeriesInstanceUID} from PEER at 127.0.0.1 refused")


def broken_off(node: Node, images: Sequence[Dataset], after: bytes) -> None:
    """Whole images on one association, then these bytes, then no more."""
    with raw_peer.associated(node) as peer:
        for image in images:
            command = raw_peer.c_store(image.SOPInstanceUID)
            peer.sendall(raw_peer.p_data(raw_peer.COMMAND, command) + raw_peer.p_data(raw_peer.LAST, encode(image)))
            assert raw_peer.status(raw_peer.answer(peer)) == 0x0000
        peer.sendall(after)
    closed(node)


def test_an_image_that_is_cut_off_is_missing_until_it_comes(node: Node) -> None:
    images = ct_series(4, 16)
    begun = raw_peer.p_data(raw_peer.COMMAND, raw_peer.c_store(images[3].SOPInstanceUID))
    begun += raw_peer.p_data(raw_peer.MORE, encode(images[3])[:2000])
    broken_off(node, images[:3], begun + raw_peer.abort(0, 0))
    (row,) = node.rows(association)
    assert (row.ending, row.ended_amid) == ("aborted", "message")
    (lost,) = node.rows(refusal)
    assert (lost.sop_instance_uid, lost.status, lost.position) == (
        images[3].SOPInstanceUID,
        None,
        [float(value) for value in images[3].ImagePositionPatient],
    )
    assert routed(node, 60.0) == 0
    assert routed(node, 310.0) == 1
    assert reason_text(jobs_of(node)[0].incomplete) == (
        "3 images received, 1 cut off in transfer: the upper 2 mm were not analysed; "
        "the sender broke off in the middle of the transfer"
    )
    assert outcome_of(node, "findings")[0] == "partial"
    store_as(node, images, "RAW")
    assert routed(node, 40.0) == 1
    assert jobs_of(node)[-1].incomplete is None


def store_as(node: Node, images: Sequence[Dataset], calling: str) -> None:
    peer = associate(node, CT, calling=calling)
    assert [send_dataset(peer, image).Status for image in images] == [0x0000] * len(images)
    peer.release()
    closed(node)


@pytest.mark.thorough
@pytest.mark.parametrize("after", [raw_peer.abort(0, 0), b""], ids=["A-ABORT", "connection closed"])
def test_a_sender_that_breaks_off_between_two_messages_is_waited_for_and_named(node: Node, after: bytes) -> None:
    images = ct_series(4, 16)
    broken_off(node, images[:3], after)
    assert routed(node, 60.0) == 0
    assert routed(node, 310.0) == 1
    (job,) = jobs_of(node)
    assert (job.incomplete, reason_text(job.caveat)) == (None, "The sender broke off; the series may be incomplete.")


def test_a_sender_that_broke_off_and_comes_back_is_waited_for_no_more(node: Node) -> None:
    images = ct_series(4, 16)
    broken_off(node, images[:3], raw_peer.abort(0, 0))
    store_as(node, images[:3], "RAW")  # the same images once more, and released
    assert routed(node, 40.0) == 1
    assert jobs_of(node)[0].caveat is None


def test_a_caller_that_always_aborts_is_not_waited_for_when_that_is_declared(tmp_path: Path) -> None:
    with receiving(tmp_path / "node", 'callers = [{ title = "RAW", aborts_after_transfer = true }]') as node:
        broken_off(node, ct_series(4, 16), raw_peer.abort(0, 0))
        assert routed(node, 40.0) == 1
        assert jobs_of(node)[0].caveat is None
        assert node.rows(association)[0].ending == "broken off as usual"


def test_a_caller_that_is_rejected_in_the_middle_of_a_series_makes_it_doubtful_until_it_is_back(tmp_path: Path) -> None:
    images = ct_series(4, 16)
    with receiving(tmp_path / "node", "max_associations = 1") as node:
        sender = associate(node, CT, calling="RAW")
        assert send_dataset(sender, images[0]).Status == 0x0000
        assert raw_peer.refused(node) == (2, 3, 2)
        until(lambda: node.rows(rejection))
        sender.release()
        closed(node)
        assert routed(node, 60.0) == 0
        assert routed(node, 310.0) == 1
        assert reason_text(jobs_of(node)[0].incomplete) == (
            "1 image received; the sender was turned away in the middle of the transfer"
        )
        store_as(node, images[1:], "RAW")
        assert routed(node, 40.0) == 1
        assert jobs_of(node)[1].incomplete is None


@pytest.mark.thorough
def test_another_image_under_the_same_uid_is_missing(node: Node) -> None:
    images = ct_series(6, 16)
    images[4].SOPInstanceUID = images[0].SOPInstanceUID
    images[5].SOPInstanceUID = images[1].SOPInstanceUID
    store(node, images)
    with node.engine.connect() as connection:
        assert connection.scalar(sa.select(series.c.instances)) == 4
    assert Conflicts(node.engine, node.spool).step() == 2
    assert routed(node, 60.0) == 0
    assert routed(node, 310.0) == 1
    (job,) = jobs_of(node)
    assert reason_text(job.incomplete) == "4 images received, 2 not used because the UID was that of another image"


def test_another_version_of_an_image_is_named_and_not_missing(node: Node) -> None:
    images = ct_series(4, 16)
    store(node, images)
    images[0].StudyDescription = "another one"
    store(node, images[:1])
    assert Conflicts(node.engine, node.spool).step() == 1
    assert routed(node, 60.0) == 1
    (job,) = jobs_of(node)
    assert (job.incomplete, reason_text(job.caveat)) == (
        None,
        "1 image received again with different content; the first version was analysed.",
    )


def test_explain_and_account_say_what_was_refused_until_it_has_come(node: Node) -> None:
    images = ct_series(8, 16)
    study = str(images[0].StudyInstanceUID)
    store(node, images, damaged=images[5:])
    routed(node, 60.0)
    words = describe(explain(node.engine, study))
    assert "CT, 5 images, 3 refused," in words
    assert "waits until 20" in words
    assert "3 image(s) of PEER refused with status C000" in words
    assert "not taken: images: 3 refused with status C000" in words
    routed(node, 310.0)
    words = describe(explain(node.engine, study))
    assert "INCOMPLETE: 5 images received, 3 refused: the upper 8 mm were not analysed" in words
    assert "even after 300 s" in words
    accounted = description.describe(report.account(read(node.engine), lambda *_: True))
    assert "images   8 sent = 3 refused + 5 stored" in accounted
    assert "NOT TAKEN: images of series" in accounted
    store(node, images[5:7])
    accounted = description.describe(report.account(read(node.engine), lambda *_: True))
    assert "images   8 sent = 1 refused + 7 stored" in accounted
    assert "2 came later; 1 are missing; send them again" in accounted
    store(node, images[7:])
    account = report.account(read(node.engine), lambda *_: True)
    assert description.attention(account) == []
    assert "images   8 sent = 8 stored" in description.describe(account)
    assert "8 images, 3 refused" not in describe(explain(node.engine, study))


def test_a_series_of_which_nothing_was_taken_is_explained(node: Node) -> None:
    images = ct_series(2, 16)
    peer = associate(node, CT)
    for image in images:
        assert send(peer, CTImageStorage, image.SOPInstanceUID, encode(image)[:-9]).Status != 0x0000
    peer.release()
    words = describe(explain(node.engine, str(images[0].StudyInstanceUID)))
    assert f"nothing of series {images[0].SeriesInstanceUID} was taken" in words
    accounted = description.describe(report.account(read(node.engine), lambda *_: True))
    assert "images   2 sent = 2 refused" in accounted


@pytest.mark.thorough
def test_what_was_refused_of_a_study_goes_with_it(node: Node) -> None:
    images = ct_series(3, 16)
    store(node, images, damaged=images[2:])
    routed(node, 310.0)
    with begin_immediate(node.engine) as connection:
        for job in list_jobs(connection):
            cancel_job(connection, job.id, reason(ReasonCode.CANCELLED, operator="anna"))
        record_rejection(connection, "CT1", "10.0.0.1", "too many", now())
    Retention(node.config, node.engine, node.spool).step(now() + 400 * 86400.0)
    assert node.rows(series) == node.rows(refusal) == node.rows(rejection) == []
