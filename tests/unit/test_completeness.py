"""When a series is complete: strong signals at once, doubts wait, and every wait ends."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any

import pytest
from dicom_files import ct_series
from pydicom import Dataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom.sop_class import StorageCommitmentPushModel
from receivers import Node, associate, configuration, send_dataset
from scanner import RULE, ask, begin, names, say, send
from timeline import timeline

from node.config import SeriesTable, parse
from node.jobs.engine import Jobs
from node.ledger.engine import now
from node.ledger.jobs import list_jobs
from node.ledger.tables import decision, series
from node.operate.explain import clock, explain
from node.operate.explain_text import describe
from node.reasons import ReasonCode, reason, reason_text
from node.routing.completeness import Absent, Arrival, Interruption, Listing, judge, missing_parts, stated_count
from node.routing.router import Router

SETTINGS = SeriesTable(quiet_seconds=10, gap_seconds=60, procedure_step_seconds=600)
PLAIN = Arrival(instances=3, last_at=0, open_associations=0)
SCANNER = reason(ReasonCode.COMMITMENT_REQUEST, calling_ae="CT1")
STEP = reason(ReasonCode.PROCEDURE_STEP, state="IN PROGRESS", calling_ae="CT1")
ABORTED = reason(ReasonCode.ASSOCIATION_ENDED, calling_ae="CT1", how="aborted", amid="message", with_receiver=False)
ABSENT = reason(ReasonCode.COLLIDED, images=1)
LISTING = Listing(by=SCANNER, named=3, absent=0, unnamed=0)
NEVER = 1e9


@pytest.mark.parametrize(
    ("changes", "complete_at"),
    [
        ({}, 10),
        ({"open_associations": 1}, NEVER),
        ({"missing": "slices are missing"}, 60),
        ({"listings": (LISTING,)}, 0),
        ({"listings": (LISTING,), "open_associations": 1, "missing": "slices are missing"}, 0),
        ({"listings": (replace(LISTING, other_senders=1),), "open_associations": 1}, NEVER),
        ({"listings": (replace(LISTING, named=0),)}, 10),
        ({"listings": (replace(LISTING, named=1),), "instances": 1}, 0),
        ({"listings": (replace(LISTING, unnamed=1),)}, 10),
        ({"listings": (replace(LISTING, absent=1),)}, 60),
        ({"stated": 3}, 0),
        ({"stated": 4}, 60),
        ({"in_progress": STEP}, 600),
        ({"in_progress": STEP, "listings": (LISTING,)}, 0),
        ({"absent": Absent(refused=1, by=(ABSENT,), at=5)}, 65),
        ({"absent": Absent(collided=1, by=(ABSENT,)), "listings": (LISTING,)}, 60),
        ({"absent": Absent(cut_off=1, by=(ABSENT,)), "stated": 3}, 60),
        ({"absent": Absent(refused=1, cut_off=1, by=(ABSENT,)), "stated": 3}, 60),
        ({"absent": Absent(refused=1, collided=1, by=(ABSENT,)), "stated": 3}, 60),
        ({"absent": Absent(changed=1)}, 10),
        ({"interruptions": (Interruption(what=ABORTED, at=3, strong=False),)}, 63),
        ({"interruptions": (Interruption(what=ABORTED, at=3, strong=True),), "listings": (LISTING,)}, 0),
        ({"unreadable": 1}, 10),
    ],
)
def test_each_signal_completes_a_series_when_it_should(changes: dict[str, Any], complete_at: float) -> None:
    for begun in (0, 1_700_000_000):
        arrival = later(replace(PLAIN, **changes), begun)
        for seconds in (0, 9, 10, 59, 60, 599, 600, 10_000):
            completion = judge(arrival, SETTINGS, now=begun + seconds)
            assert completion.complete is (seconds >= complete_at), completion
            assert bool(completion.signal) is not bool(completion.deferrals)


def later(arrival: Arrival, seconds: float) -> Arrival:
    """The same at another time."""
    return replace(
        arrival,
        last_at=arrival.last_at + seconds,
        absent=replace(arrival.absent, at=arrival.absent.at + seconds),
        interruptions=tuple(
            replace(interruption, at=interruption.at + seconds) for interruption in arrival.interruptions
        ),
    )


BROKE_OFF = "the sender broke off in the middle of the transfer"


@pytest.mark.parametrize(
    ("changes", "incomplete", "caveat"),
    [
        ({}, "", ""),
        ({"absent": Absent(refused=2)}, "3 images received, 2 refused", ""),
        (
            {"absent": Absent(refused=2, cut_off=1, unseen="the upper 5 mm were not analysed")},
            "3 images received, 2 refused, 1 cut off in transfer: the upper 5 mm were not analysed",
            "",
        ),
        (
            {"listings": (replace(LISTING, absent=1),)},
            "1 images that a Storage Commitment request of CT1 names are not here",
            "",
        ),
        ({"stated": 4}, "3 of 4 images are here", ""),
        ({"missing": "slices are missing: 2"}, "slices are missing: 2", ""),
        ({"unreadable": 1}, "3 images received, 1 unreadable", ""),
        ({"interruptions": (Interruption(what=ABORTED, at=3, strong=True),)}, BROKE_OFF, ""),
        (
            {"interruptions": (Interruption(what=ABORTED, at=3, strong=True, rejected=True),)},
            "the sender was turned away in the middle of the transfer",
            "",
        ),
        (
            {"interruptions": (Interruption(what=ABORTED, at=3, strong=False),)},
            "",
            "The sender broke off; the series may be incomplete.",
        ),
        ({"interruptions": (Interruption(what=ABORTED, at=3, strong=True),), "stated": 3}, "", ""),
        (
            {"in_progress": STEP},
            "",
            "The scanner has not reported the end of the acquisition; the series may be incomplete.",
        ),
        ({"in_progress": STEP, "listings": (LISTING,)}, "", ""),
    ],
)
def test_what_is_missing_when_its_time_has_run_out_is_said_for_a_radiologist(
    changes: dict[str, Any], incomplete: str, caveat: str
) -> None:
    completion = judge(replace(PLAIN, **changes), SETTINGS, now=10_000)
    assert completion.complete
    assert reason_text(completion.incomplete).endswith(incomplete)
    assert bool(completion.incomplete) is bool(incomplete)
    assert reason_text(completion.incomplete).startswith("3 images received") or not incomplete
    assert reason_text(completion.caveat) == caveat
    assert bool(completion.caveat) is bool(caveat)


def test_every_doubt_names_its_deadline() -> None:
    arrival = replace(
        PLAIN,
        in_progress=STEP,
        missing="slices are missing: 1",
        absent=Absent(refused=1, by=(ABSENT,), at=7),
        interruptions=(Interruption(what=ABORTED, at=9, strong=True),),
    )
    deferrals = judge(arrival, SETTINGS, now=20).deferrals
    assert [(deferral.about, deferral.seconds, deferral.until) for deferral in deferrals] == [
        (STEP, 600, 600),
        (reason(ReasonCode.GAP, explanation="slices are missing: 1"), 60, 60),
        (ABSENT, 60, 67),
        (ABORTED, 60, 69),
    ]
    assert [deferral.about for deferral in judge(arrival, SETTINGS, now=68).deferrals] == [STEP, ABORTED]
    assert [deferral.until for deferral in judge(later(arrival, 500), SETTINGS, now=520).deferrals] == [
        1100, 560, 567, 569,
    ]  # fmt: skip


def test_the_quiet_period_has_a_deadline() -> None:
    [deferral] = judge(later(PLAIN, 500), SETTINGS, now=503).deferrals
    assert deferral.about == reason(ReasonCode.LAST_IMAGE, at=500)
    assert (deferral.seconds, deferral.until) == (10, 510)


def test_an_open_association_has_no_deadline() -> None:
    [deferral] = judge(replace(PLAIN, open_associations=2), SETTINGS, now=NEVER).deferrals
    assert deferral.about == reason(ReasonCode.OPEN_ASSOCIATIONS, associations=2)
    assert (deferral.seconds, deferral.until) == (inf, inf)


def test_every_completion_says_by_which_signal_and_what_was_waited_for_in_vain() -> None:
    listed = judge(replace(PLAIN, listings=(replace(LISTING, absent=1), LISTING)), SETTINGS, now=0)
    assert listed.signal == reason(ReasonCode.LISTED, images=3, by=SCANNER)
    stated = judge(replace(PLAIN, stated=3), SETTINGS, now=0)
    assert stated.signal == reason(ReasonCode.STATED_COUNT, images=3)
    in_vain = judge(replace(PLAIN, in_progress=STEP, stated=4), SETTINGS, now=600)
    expired = [
        {"about": STEP, "seconds": 600},
        {"about": reason(ReasonCode.COUNT_NOT_REACHED, images=3, stated=4), "seconds": 60},
    ]
    assert in_vain.signal == reason(ReasonCode.QUIET_PERIOD, images=3, seconds=10, expired=expired)


def test_reasons_are_data_for_which_every_code_has_a_sentence() -> None:
    parameters = {
        "images": 3, "by": SCANNER, "seconds": 30.0, "expired": [], "associations": 1, "state": "COMPLETED",
        "calling_ae": "CT1", "stated": 4, "explanation": "why", "status": 0xA700, "how": "aborted", "amid": None,
        "with_receiver": False,
    }  # fmt: skip
    for code in ReasonCode:
        stored = json.loads(json.dumps(reason(code, **parameters)))
        assert reason_text(stored), code


def signal(node: Node) -> str:
    """The signal that completed the only series, as its timeline shows it."""
    (row,) = node.rows(series)
    [text] = [line.detail for line in timeline(node.engine) if line.what == "complete"]
    assert row.completed_by in set(ReasonCode)
    return text


def test_the_quiet_period_of_a_rule_replaces_the_settings_one() -> None:
    assert judge(PLAIN, SETTINGS, now=5, quiet_seconds=5).complete
    assert not judge(PLAIN, SETTINGS, now=15, quiet_seconds=20).complete


def header(**values: Any) -> Dataset:
    dataset = Dataset()
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


@pytest.mark.parametrize(
    ("values", "stated"), [([3, 3], 3), ([2, 2], 2), ([1, 1], None), ([3, 4], None), ([3, None], None), ([], None)]
)
def test_a_stated_count_is_believed_when_all_say_it_and_it_is_possible(
    values: Sequence[int | None], stated: int | None
) -> None:
    headers = [header(NumberOfSeriesRelatedInstances=v) if v else header() for v in values]
    assert stated_count(headers) == stated


def test_images_are_counted_in_singular_and_plural() -> None:
    for instances, words in ((1, "1 image received"), (2, "2 images received")):
        arrival = replace(PLAIN, instances=instances, unreadable=1)
        assert reason_text(judge(arrival, SETTINGS, now=10_000).incomplete) == f"{words}, 1 unreadable"


def test_a_concatenation_without_all_its_parts_is_missing_them() -> None:
    parts = [header(ConcatenationUID="1.2", InConcatenationNumber=n, InConcatenationTotalNumber=4) for n in (1, 2, 4)]
    assert missing_parts(parts) == "1 parts of a concatenation are missing"
    parts.append(header(ConcatenationUID="1.2", InConcatenationNumber=3, InConcatenationTotalNumber=4))
    assert missing_parts([*parts, header()]) == ""


@pytest.mark.parametrize("stating", [1, 2, 4])
def test_one_part_of_a_concatenation_that_states_the_total_is_enough(stating: int) -> None:
    parts = [header(ConcatenationUID="1.2", InConcatenationNumber=n) for n in (1, 2, 4)]
    for part in parts:
        if part.InConcatenationNumber == stating:
            part.InConcatenationTotalNumber = 5
    assert missing_parts(parts) == "2 parts of a concatenation are missing"


def test_an_image_that_is_no_part_of_a_concatenation_lacks_none() -> None:
    assert (
        missing_parts([header(ConcatenationUID="1.2"), header(InConcatenationNumber=1, InConcatenationTotalNumber=9)])
        == ""
    )


def test_a_concatenation_without_a_total_hides_no_part_that_another_lacks() -> None:
    without = [header(ConcatenationUID="1.3", InConcatenationNumber=n) for n in (1, 2)]
    assert missing_parts(without) == ""
    part = header(ConcatenationUID="1.2", InConcatenationNumber=1, InConcatenationTotalNumber=2)
    assert missing_parts([*without, part]) == "1 parts of a concatenation are missing"


def router_of(node: Node, rule: str = RULE) -> Router:
    config = parse(configuration(node.spool.folder, node.port) + rule)
    return Router(config, node.engine, node.spool, Jobs(node.engine))


def routed(node: Node, seconds: float = 0.0, rule: str = RULE) -> int:
    """How many series the router completes so many seconds from now."""
    return router_of(node, rule).step(now() + seconds)


def commit(node: Node, images: Sequence[Dataset], named: Sequence[Dataset]) -> None:
    """Send images and ask for commitment on the same association."""
    peer = associate(
        node, [(CTImageStorage, ExplicitVRLittleEndian), (StorageCommitmentPushModel, ExplicitVRLittleEndian)]
    )
    for image in images:
        assert send_dataset(peer, image).Status == 0x0000
    assert ask(peer, names(named)) == 0x0000
    assert routed(node) == (1 if len(named) > 1 and len(named) == len(images) else 0)
    peer.release()


def test_a_commitment_request_for_all_images_completes_their_series_at_once(node: Node) -> None:
    images = ct_series(3, 16)
    commit(node, images, images)
    assert signal(node) == "3 images, all that a Storage Commitment request of PEER names"


def test_a_commitment_request_for_one_image_or_for_absent_ones_completes_nothing_yet(node: Node) -> None:
    images = ct_series(3, 16)
    commit(node, images[:1], images[:1])
    commit(node, images[1:2], images)
    assert routed(node) == 0
    assert routed(node, 40.0) == 0  # past the quiet period, but an image that was named is not here
    send(node, images[2:])
    assert routed(node) == 1


def test_a_completed_procedure_step_completes_its_series_when_all_that_it_made_is_here(node: Node) -> None:
    images = ct_series(3, 16)
    study = images[0].StudyInstanceUID
    _, uid = begin(node, study)
    send(node, images[:2])
    assert routed(node, 60.0) == 0  # in progress: silence says nothing
    say(node, uid, "COMPLETED", images)
    assert routed(node, 60.0) == 0
    send(node, images[2:])
    assert routed(node) == 1
    words = describe(explain(node.engine, study))
    assert "complete: 3 images, all that the COMPLETED procedure step of CT1 names" in words
    assert "procedure step completed: CT at CT1: 3 images in 1 series" in words


def test_explain_says_when_the_quiet_period_ends_and_the_timeline_does_not(node: Node) -> None:
    images = ct_series(2, 16)
    study = images[0].StudyInstanceUID
    send(node, images)
    assert "not complete: receiving images" in describe(explain(node.engine, study))
    router = router_of(node)
    assert [router.step(now() + seconds) for seconds in (5.0, 10.0)] == [0, 0]
    (row,) = node.rows(series)
    assert [wait["until"] for wait in row.doubts] == [row.last_at + 30.0]
    ends = f"not complete: waits for more images; the quiet period of 30 s ends at {clock(row.last_at + 30.0)}"
    assert ends in describe(explain(node.engine, study))
    assert "waiting" not in [line.what for line in timeline(node.engine)]
    send(node, ct_series(1, 16, study=study, series=images[0].SeriesInstanceUID))
    assert "quiet period" not in describe(explain(node.engine, study))


def test_a_gap_in_the_slices_is_waited_for_with_a_deadline(node: Node) -> None:
    images = ct_series(6, 16)
    send(node, images[:2] + images[3:])
    assert routed(node, 60.0) == 0
    assert routed(node, 200.0) == 0
    assert routed(node, 310.0) == 1
    assert "slices are missing: 1" in signal(node)


def test_a_procedure_step_that_never_ends_is_waited_for_with_a_deadline(node: Node) -> None:
    images = ct_series(2, 16)
    begin(node, images[0].StudyInstanceUID)
    send(node, images)
    router = router_of(node)
    assert [router.step(now() + seconds) for seconds in (60.0, 120.0, 3500.0)] == [0, 0, 0]
    (waiting,) = [row.detail for row in timeline(node.engine) if row.what == "waiting"]
    assert waiting == "the IN PROGRESS procedure step of CT1; waiting 3600 s for its end"
    assert routed(node, 3700.0) == 1
    assert "the IN PROGRESS procedure step of CT1 even after 3600 s" in signal(node)


def test_a_step_of_another_modality_holds_nothing_up(node: Node) -> None:
    images = ct_series(2, 16)
    begin(node, images[0].StudyInstanceUID, Modality="MR")
    send(node, images)
    assert routed(node, 60.0) == 1


def test_a_discontinued_step_has_its_series_ignored_and_their_unfinished_jobs_cancelled(node: Node) -> None:
    images, others = ct_series(2, 16), ct_series(2, 16)
    for image in others:
        image.StudyInstanceUID = images[0].StudyInstanceUID
    _, uid = begin(node, images[0].StudyInstanceUID)
    send(node, images)
    assert routed(node, 7200.0) == 1
    send(node, others)
    assert say(node, uid, "DISCONTINUED", [*images, *others]).Status == 0x0000
    assert routed(node, 60.0) == 1
    with node.engine.connect() as connection:
        assert [(j.state, reason_text(j.reason)) for j in list_jobs(connection)] == [
            ("CANCELED", "CT1 discontinued the procedure step")
        ]
    (ignored,) = [row for row in node.rows(decision) if row.outcome == "ignored"]
    assert (ignored.series_instance_uid, reason_text(ignored.reason)) == (
        others[0].SeriesInstanceUID,
        "the DISCONTINUED procedure step of CT1 made it",
    )


def test_a_stated_count_that_is_reached_completes_a_series_before_the_quiet_period_is_over(node: Node) -> None:
    images = ct_series(3, 16)
    for image in images:
        image.NumberOfSeriesRelatedInstances = 3
    send(node, images[:2])
    assert routed(node, 60.0) == 0
    send(node, images[2:])
    assert routed(node, 4.0) == 1


def test_the_longest_quiet_period_of_the_matching_rules_holds(node: Node, tmp_path: Path) -> None:
    slow = RULE + RULE[RULE.index("[[rules]]") :].replace('"ct"', '"slow"') + "\n"
    slow = slow.replace('name = "slow"', 'name = "slow"\nquiet_seconds = 100').replace('"CT" }', '["CT", "MR"] }')
    quick = RULE.replace('name = "ct"', 'name = "ct"\nquiet_seconds = 5')
    send(node, ct_series(2, 16))
    assert routed(node, 40.0, slow) == 0
    assert routed(node, 110.0, slow) == 1
    send(node, ct_series(2, 16))
    assert routed(node, 3.0, quick) == 0
    assert routed(node, 6.0, quick) == 1


def test_a_series_whose_headers_make_no_sense_is_ignored_and_holds_up_no_other(node: Node) -> None:
    strange, sound = ct_series(2, 16), ct_series(2, 16)
    for image in strange:
        image.NumberOfSeriesRelatedInstances = [2, 3]
    send(node, [*strange, *sound])
    assert routed(node, 60.0) == 2
    assert sorted(reason_text(row.reason) for row in node.rows(decision)) == [
        "its headers cannot be understood (TypeError)",
        "matches 'ct'",
    ]
