"""What a decision of the rules holds in full: routes, reasons, and the trace that explains it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
from pydicom import Dataset

from node.config import Config, parse
from node.config.characteristics import UNKNOWN
from node.config.order_values import OrderValues
from node.config.routing import FORWARD
from node.ledger.states import ShadowCause
from node.reasons import ReasonCode, reason
from node.routing.rules import WITHHELD, Decision, Origin, Route, SeriesHeader, decide, merged, representative
from node.studies.characteristics import Certainty, Characteristic

PEERS = """
[pipelines.p]
[pipelines.q]
[destinations.a]
title = "A"
host = "h"
port = 1
[destinations.b]
title = "B"
host = "h"
port = 2
"""


def config(*rules: str) -> Config:
    """One rule of each text, which holds keys of the rule."""
    return parse(PEERS + "".join(f'[[rules]]\nname = "r{i}"\n{text}\n' for i, text in enumerate(rules)))


def header(**attributes: Any) -> Dataset:
    dataset = Dataset()
    dataset.Modality = "CT"
    dataset.Rows = 4
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return dataset


def decided(of: Dataset, *rules: str, origin: Origin | None = None, orders: tuple[OrderValues, ...] = ()) -> Decision:
    return decide(SeriesHeader.of([of], orders), config(*rules).rules, origin or Origin())


RULE = 'pipelines = ["p"]\ndestinations = ["a"]\n'
CT = 'match = { Modality = "CT" }'
IS_CT = {"attribute": "Modality", "wanted": "CT", "found": ["CT"], "matched": True}


def test_an_origin_names_senders_local_time_and_the_destinations_that_have_the_images() -> None:
    senders = [(" B ", "10.0.0.1"), ("CT1", "10.0.0.2")]
    origin = Origin.of(senders, 1_700_000_000.0, config(RULE).destinations)
    assert origin.senders == ((" B ", "10.0.0.1"), ("CT1", "10.0.0.2"))
    assert origin.received_at is not None
    assert origin.received_at.timestamp() == 1_700_000_000.0
    assert origin.received_at.replace(tzinfo=None) == datetime.fromtimestamp(1_700_000_000)  # noqa: DTZ006 - local
    assert origin.destinations == {"b"}
    assert Origin.of([], 0.0, config(RULE).destinations).destinations == frozenset()


def test_a_trace_has_an_entry_for_each_rule_and_each_companion() -> None:
    companions = 'companions = { prior = { match = { Modality = "MR" } } }\nshadow = ["q"]\n'
    decision = decided(header(), RULE + CT, RULE + companions + CT)
    assert decision.trace == (
        {"rule": "r0", "pipelines": ["p"], "matched": True, "chosen": True, "conditions": [IS_CT]},
        {"rule": "r1", "pipelines": ["p", "q"], "matched": True, "chosen": None, "conditions": [IS_CT]},
        {
            "rule": "r1",
            "companion": "prior",
            "pipelines": ["p", "q"],
            "matched": False,
            "chosen": False,
            "conditions": [{**IS_CT, "wanted": "MR", "matched": False}],
        },
    )
    assert decision.routes == (Route(pipeline="p", rule="r0", destinations=("a",), priority=2),)
    assert (decision.outcome, decision.reason) == ("routed", reason(ReasonCode.MATCHES, rules=["r0"]))


def test_what_is_tried_in_shadow_is_of_its_own_rule() -> None:
    decision = decided(header(), RULE, 'destinations = ["b"]\nshadow = ["q"]\n')
    assert decision.routes[1:] == (
        Route(pipeline="q", rule="r1", destinations=("b",), priority=2, shadow=ShadowCause.TRIAL),
    )


def test_a_companion_alone_is_not_routed_and_the_reason_names_it() -> None:
    companions = 'companions = { prior = { match = { Modality = "MR" } } }\n'
    decision = decided(header(Modality="MR"), RULE + companions + CT)
    assert [(entry["matched"], entry["chosen"]) for entry in decision.trace] == [(False, False), (True, False)]
    assert (decision.outcome, decision.routes) == ("ignored", ())
    assert decision.reason == reason(ReasonCode.ONLY_COMPANION, companions=[["prior", "r0"]])


def test_a_companion_needs_every_one_of_its_conditions() -> None:
    companions = 'companions = { prior = { match = { Modality = "MR", Rows = 4 }, unless = { Rows = 5 } } }\n'
    for of, matched in ((header(Modality="MR"), True), (header(Modality="MR", Rows=5), False)):
        assert decided(of, RULE + companions + CT).trace[1]["matched"] is matched


def test_rules_after_one_that_only_sends_back_still_apply() -> None:
    back = Origin(destinations=frozenset({"b"}))
    decision = decided(header(), 'send = ["b"]\n' + CT, RULE + CT, 'send = ["a", "b"]\n' + CT, origin=back)
    assert [entry["chosen"] for entry in decision.trace] == [False, True, True]
    assert decision.trace[0]["note"] == reason(ReasonCode.ONLY_BACK)
    assert [(route.pipeline, route.destinations) for route in decision.routes] == [("p", ("a",)), (FORWARD, ("a",))]
    assert decided(header(), 'send = ["b"]\n' + CT, origin=back).reason == reason(ReasonCode.ONLY_BACK)


def test_a_pipeline_of_two_rules_has_the_destinations_of_both_once_and_the_higher_priority() -> None:
    first = Route(pipeline="p", rule="r0", destinations=("a", "b"), priority=3, shadow=ShadowCause.TRIAL, after="q")
    other = Route(pipeline="p", rule="r1", destinations=("b", "c"), priority=1)
    assert merged(None, first) is first
    both = merged(first, other)
    assert (both.rule, both.destinations, both.priority) == ("r0", ("a", "b", "c"), 1)
    assert (both.shadow, both.after) == (ShadowCause.TRIAL, "q")


LOCALIZER = header(ImageType=["ORIGINAL", "primary", "Localizer"])


def without_image() -> Dataset:
    of = header()
    del of.Rows
    return of


@pytest.mark.parametrize("of", [LOCALIZER, without_image(), header(SOPClassUID="1.2.840.10008.5.1.4.1.1.7")])
def test_what_is_never_analysed_is_sent_on_by_the_rules_that_send_and_by_no_other(of: Dataset) -> None:
    sends = 'shadow = ["q"]\nsend = ["b"]\n'
    decision = decided(of, RULE + CT, RULE + sends + CT)
    assert decision.routes == (Route(pipeline=FORWARD, rule="r1", destinations=("b",), priority=2),)
    assert [entry["rule"] for entry in decision.trace] == ["r1"]
    alone = decided(of, RULE + CT)
    assert (alone.outcome, alone.routes, alone.trace) == ("ignored", (), ())
    routed = reason(ReasonCode.MATCHES, rules=["r1"])
    assert decision.reason == reason(ReasonCode.SENT_ON_ONLY, routed=routed, why=alone.reason)


def test_the_reason_why_a_series_is_never_analysed_is_its_own() -> None:
    assert decided(LOCALIZER, RULE).reason == reason(ReasonCode.LOCALIZER)
    assert decided(without_image(), RULE).reason == reason(ReasonCode.NO_IMAGES)
    for uid in ("1.2.840.10008.5.1.4.1.1.7", "1.2.840.10008.5.1.4.1.1.7.4"):
        assert decided(header(SOPClassUID=uid), RULE).reason == reason(ReasonCode.SECONDARY_CAPTURE)
    result = header(SoftwareVersions="ainode 1.2")
    assert decided(result, RULE).reason == reason(ReasonCode.AI_RESULT, mark="SoftwareVersions")
    assert decided(header(SOPClassUID="1.2.840.10008.5.1.4.1.1.2"), RULE).outcome == "routed"


def test_a_series_is_routed_by_its_first_image_that_may_be_analysed() -> None:
    first, second = header(), header()
    assert representative([LOCALIZER, first, second]) is first
    assert representative([LOCALIZER, without_image()]) is LOCALIZER


@pytest.mark.parametrize("keyword", ["ScheduledProcedureStepPriority", "RequestedProcedurePriority", "StudyPriorityID"])
@pytest.mark.parametrize(("value", "priority"), [("STAT", 1), ("HIGH", 1), ("ROUTINE", 3), ("LOW", 3)])
def test_each_attribute_of_urgency_comes_before_the_priority_of_a_rule(keyword: str, value: str, priority: int) -> None:
    (route,) = decided(header(**{keyword: value}), RULE + 'priority = "low"').routes
    assert route.priority == priority


@pytest.mark.parametrize(("keys", "priority"), [("", 1), ('priority = "medium"', 2), ('priority = "low"', 3)])
def test_an_urgent_order_comes_first_unless_the_rule_decides(keys: str, priority: int) -> None:
    orders = (OrderValues(priority="STAT"),)
    (route,) = decided(header(), RULE + keys, orders=orders).routes
    assert route.priority == priority


def conditions(table: str, of: Dataset, orders: tuple[OrderValues, ...] = ()) -> list[dict[str, Any]]:
    return decided(of, f"{RULE}{table}", orders=orders).trace[0]["conditions"]


def test_a_condition_of_an_order_shows_what_it_said_but_no_free_text() -> None:
    orders = (OrderValues(procedure="CT chest", reason="cough since May"),)
    told = {"attribute": "order.procedure", "wanted": "*chest*", "found": ["CT chest"], "matched": True}
    hidden = {"attribute": "order.reason", "wanted": "*cough*", "found": [WITHHELD], "matched": True}
    table = 'match = { "order.procedure" = "*chest*", "order.reason" = "*cough*" }'
    assert conditions(table, header(), orders) == [told, hidden]
    assert conditions('match = { "order.reason" = "*cough*" }', header()) == [
        {"attribute": "order.reason", "wanted": "*cough*", "found": [""], "matched": False}
    ]


def test_only_a_value_that_a_canceled_order_withdrew_is_marked() -> None:
    table = 'match = { "order.procedure" = "*chest*", "order.reason" = "*cough*", Modality = "" }'
    orders = (OrderValues(procedure="CT chest"), OrderValues(canceled=True))
    of = header(Modality="")
    assert ["canceled" in entry for entry in conditions(table, of, orders)] == [False, True, False]
    assert conditions(table, of, orders)[1]["canceled"] is True
    assert not any("canceled" in entry for entry in conditions(table, of, orders[:1]))


def test_identifying_values_are_withheld_on_both_sides_also_where_they_forbid() -> None:
    entry = {"attribute": "PatientID", "wanted": WITHHELD, "found": [WITHHELD], "matched": False, "unless": True}
    assert conditions('unless = { PatientID = "4711" }', header(PatientID="4711")) == [entry]


def test_a_trace_names_who_sent_the_images_and_when() -> None:
    origin = Origin(
        senders=(("CT1", "10.0.0.2"), ("MR1", "10.0.0.3")), received_at=datetime.fromisoformat("2026-01-02T07:05")
    )
    rule = RULE + 'senders = ["CT1", "10.9.0.0/16"]\nhours = "08:00-16:00"'
    assert decided(header(), rule, origin=origin).trace[0]["conditions"] == [
        {
            "attribute": "senders",
            "wanted": ["CT1", "10.9.0.0/16"],
            "found": ["CT1 at 10.0.0.2", "MR1 at 10.0.0.3"],
            "matched": True,
        },
        {"attribute": "hours", "wanted": "08:00-16:00", "found": ["07:05"], "matched": False},
    ]
    unknown = decided(header(), rule).trace[0]["conditions"]
    assert [(entry["found"], entry["matched"]) for entry in unknown] == [([], False), ([], False)]


@pytest.mark.parametrize(
    ("wanted", "title", "address", "matched"),
    [
        ("CT1", " CT1 ", "10.0.0.2", True),
        ("CT[1]", "CT[1]", "10.0.0.2", True),
        ("CT[1]", "CT1", "10.0.0.2", False),
        ("10.0.0.0/24", "CT1", "scanner.local", False),
        ("10.0.0.0/24", "10.0.0.0/24", "10.1.0.2", False),
    ],
)
def test_a_sender_is_a_title_as_it_is_written_or_an_address(
    wanted: str, title: str, address: str, *, matched: bool
) -> None:
    origin = Origin(senders=((title, address),))
    entry = decided(header(), f'{RULE}senders = ["{wanted}"]', origin=origin).trace[0]
    assert entry["conditions"][0]["matched"] is matched


def test_conditions_of_a_table_hold_together_and_what_pixels_show_replaces_what_headers_say() -> None:
    seen = {"body_region": Characteristic(values=("head",), certainty=Certainty.LIKELY, basis=())}
    series = SeriesHeader.of([header(BodyPartExamined="CHEST")], seen=seen)
    assert series.characteristics["body_region"].values == ("head",)
    assert series.matches({"Modality": "CT", "body_region": "head"})
    assert not series.matches({"Modality": "CT", "body_region": "chest"})
    assert series.matches({})
    assert SeriesHeader.of([header(Modality="MR", ContrastBolusAgent="Gd")]).matches({"contrast_agent": "given"})
    bare = SeriesHeader(header=header(), characteristics={})
    assert bare.matches({"body_region": UNKNOWN})
