"""The language of rules: which values match, who sent them and when, and what a trace may tell."""

from __future__ import annotations

import json
import re
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from node.config import Companion, PriorTable, Rule, parse
from node.config.routing import FORWARD, PREFERENCES
from node.config.rule_condition import parse_condition
from node.errors import ConfigError
from node.reasons import reason_text
from node.routing.rules import Decision, Origin, SeriesHeader, decide, sum_up

TABLES = '[pipelines.p]\n[pipelines.q]\n[destinations.a]\ntitle = "A"\nhost = "h"\nport = 1\n'
TABLES += '[destinations.b]\ntitle = "B"\nhost = "h"\nport = 2\n'


def rules(*lines: str):
    """One rule of each text, which holds keys of the rule."""
    tables = (f'[[rules]]\nname = "r{i}"\npipelines = ["p"]\ndestinations = ["a"]\n{e}\n' for i, e in enumerate(lines))
    return parse(TABLES + "".join(tables)).rules


def header(**attributes) -> Dataset:
    dataset = Dataset()
    dataset.Modality = "CT"
    dataset.Rows = 4
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return dataset


def chest() -> Dataset:
    dataset = header(
        SeriesDescription="Ax Flair 5mm",
        SliceThickness="5.0",
        StudyDate="20240615",
        StudyTime="071530.5",
        ImageType=["ORIGINAL", "PRIMARY", "AXIAL"],
        ConvolutionKernel="B[3]0",
        PatientAge="045Y",
        BodyPartExamined="",
        PatientName="Doe^Jane",
        PatientID="4711",
    )
    request, other = Dataset(), Dataset()
    request.RequestedProcedureDescription = "CT Lung cancer screening"
    other.RequestedProcedureDescription = "CT Abdomen"
    dataset.RequestAttributesSequence = [request, other]
    dataset.add_new(0x0019100C, "LO", "HR lung")
    dataset.add_new(0x0019100D, "DS", "120")
    return dataset


def says(of: Dataset, condition: str, table: str = "match", origin: Origin | None = None) -> Decision:
    return decide(SeriesHeader.of([of]), rules(f"{table} = {{ {condition} }}"), origin or Origin())


@pytest.mark.parametrize(
    ("condition", "matched"),
    [
        ('Modality = "CT"', True),
        ('Modality = "MR"', False),
        ('Modality = ["MR", "CT"]', True),
        ('SeriesDescription = "*flair*"', True),
        ('SeriesDescription = "AX ????? 5MM"', True),
        ('SeriesDescription = "AX ??? 5MM"', False),
        ('SeriesDescription = "re:^ax.*[45]mm$"', True),
        ('SeriesDescription = "re:flair"', True),
        ('SeriesDescription = "re:(?-i)flair"', False),
        ('SeriesDescription = ["*T2*", "re:fl.ir"]', True),
        ('SliceThickness = "1.0-5.0"', True),
        ('SliceThickness = "1.0-4.9"', False),
        ('SliceThickness = "5-"', True),
        ("SliceThickness = 5", True),
        ('SliceThickness = ["0-1", "5-6"]', True),
        ('SliceThickness = "?*"', True),
        ('SliceThickness = "re:^5[.]0$"', True),
        ('RescaleSlope = ""', True),
        ('StudyDate = "20240101-20241231"', True),
        ('StudyDate = "20250101-"', False),
        ('StudyDate = "-20240615"', True),
        ('StudyDate = "202406*"', True),
        ('StudyTime = "0700-0800"', True),
        ('StudyTime = "0800-"', False),
        ('PatientAge = "018Y-"', True),
        ('PatientAge = "-017Y"', False),
        ('PatientAge = "500M-"', True),
        ('PatientAge = "045Y"', True),
        ('BodyPartExamined = "*"', True),
        ('BodyPartExamined = ""', True),
        ('BodyPartExamined = "?*"', False),
        ('BodyPartExamined = ["CHEST", ""]', True),
        ('BodyPartExamined = "CHEST"', False),
        ('ImageType = "AXIAL"', True),
        ('ConvolutionKernel = "B[3]0"', True),
        ('"RequestAttributesSequence.RequestedProcedureDescription" = "*lung*"', True),
        ('"RequestAttributesSequence.RequestedProcedureDescription" = "*heart*"', False),
        ('"RequestAttributesSequence.RequestedProcedureID" = ""', True),
        ('"0019,100c" = "HR*"', True),
        ('"0019,100D" = 120', True),
        ('"0019,100E" = "?*"', False),
        ('PatientName = "doe*"', True),
    ],
)
def test_conditions_match_as_ps3_4_c_2_2_2_says_and_as_the_page_adds(condition: str, *, matched: bool):
    decision = says(chest(), condition)
    assert decision.outcome == ("routed" if matched else "ignored")
    assert decision.trace[0]["conditions"][0]["matched"] is matched
    assert decision.trace[0]["pipelines"] == ["p"]


@pytest.mark.parametrize(
    ("wanted", "value", "matched"),
    [
        ("*FLAIR*", "頭部　ＦＬＡＩＲ　横断", True),  # noqa: RUF001 - as Japanese consoles write it
        ("*ﾌﾚｱ*", "頭部フレア", True),  # half-width katakana in the rule
        ("*フレア*", "頭部ﾌﾚｱ", True),
        ("STRASSE", "straße", True),
        ("re:^flair", "ＦＬＡＩＲ", True),  # noqa: RUF001
        ("*FLAIR*", "Ｔ１", False),  # noqa: RUF001
    ],
)
def test_full_and_half_width_and_case_make_no_difference(wanted: str, value: str, *, matched: bool):
    assert parse_condition("SeriesDescription", wanted).matches([value]) is matched


def test_any_condition_of_unless_excludes_and_the_trace_says_which():
    assert says(chest(), 'SeriesDescription = "*MIP*", ImageType = "MPR"', "unless").outcome == "routed"
    refused = says(chest(), 'SeriesDescription = "*MIP*", ImageType = "AXIAL"', "unless")
    assert refused.outcome == "ignored"
    first, second = refused.trace[0]["conditions"]
    assert (first["matched"], second["matched"], second["unless"]) == (True, False, True)


@pytest.mark.parametrize(
    ("senders", "matched"),
    [
        ('["CT1"]', True),
        ('["CT?"]', True),
        ('["ct1"]', False),
        ('["10.1.2.0/24"]', True),
        ('["10.1.2.3"]', True),
        ('["MR1", "10.9.0.0/16"]', False),
    ],
)
def test_a_rule_can_ask_who_sent_the_images(senders: str, *, matched: bool):
    origin = Origin(senders=(("MR7", "10.7.0.1"), ("CT1", "::ffff:10.1.2.3")))
    assert (decide(SeriesHeader.of([header()]), rules(f"senders = {senders}"), origin).outcome == "routed") is matched
    assert decide(SeriesHeader.of([header()]), rules(f"senders = {senders}"), Origin()).outcome == "ignored"


@pytest.mark.parametrize(
    ("hours", "at", "matched"),
    [
        ("22:00-06:00", "21:59", False),
        ("22:00-06:00", "22:00", True),
        ("22:00-06:00", "23:10", True),
        ("22:00-06:00", "05:59", True),
        ("22:00-06:00", "06:00", False),
        ("08:00-16:30", "07:59", False),
        ("08:00-16:30", "08:00", True),
        ("08:00-16:30", "16:30", False),
    ],
)
def test_a_rule_can_ask_for_the_time_of_day_also_across_midnight(hours: str, at: str, *, matched: bool):
    origin = Origin(received_at=datetime.fromisoformat(f"2026-01-02T{at}:00+01:00"))
    decision = decide(SeriesHeader.of([header()]), rules(f'hours = "{hours}"'), origin)
    assert (decision.outcome == "routed") is matched
    assert decision.trace[0]["conditions"][0]["found"] == [at]


def test_a_trace_never_holds_a_value_that_tells_who_the_patient_is():
    secret = chest()
    secret.AccessionNumber = "ACC9"
    secret.PatientBirthDate = "19790102"
    tables = (
        'PatientName = "Doe*", PatientID = "4711", AccessionNumber = "ACC*", PatientBirthDate = "1970-", '
        '"0019,100C" = "HR*", PatientAge = "018Y-"'
    )
    decision = says(secret, tables)
    assert decision.outcome == "routed"
    told = json.dumps(decision.trace)
    for value in ("Doe", "4711", "ACC", "1979", "HR lung"):
        assert value not in told
    assert "045Y" in told


def test_a_pattern_that_would_backtrack_for_ever_takes_no_time():
    started = time.thread_time()
    assert says(header(ImageComments="a" * 10_000 + "!"), 'ImageComments = "re:^(a+)+$"').outcome == "ignored"
    assert time.thread_time() - started < 1


def test_a_value_that_its_vr_does_not_allow_matches_nothing_and_stops_nothing():
    broken = header()
    broken[0x00180050] = RawDataElement(Tag(0x00180050), "DS", 4, b"thin", 0, False, True)
    assert says(broken, 'SliceThickness = "0-5"').trace[0]["conditions"][0]["found"] == ["thin"]
    assert says(broken, 'SliceThickness = "*"').outcome == "routed"


def test_every_matching_rule_applies_and_one_pipeline_runs_once_with_all_destinations():
    text = """
    [[rules]]
    name = "first"
    pipelines = ["p"]
    destinations = ["a"]
    priority = "low"
    [[rules]]
    name = "second"
    match = { Modality = "CT" }
    pipelines = ["p", "q"]
    destinations = ["b"]
    """
    routes = decide(SeriesHeader.of([header()]), parse(TABLES + text).rules, Origin()).routes
    assert [(r.pipeline, r.rule, r.destinations, r.priority) for r in routes] == [
        ("p", "first", ("a", "b"), 2),
        ("q", "second", ("b",), 2),
    ]


def test_a_stat_request_comes_first_wherever_it_is_written():
    request = Dataset()
    request.RequestedProcedurePriority = "STAT"
    for urgent in (
        header(RequestedProcedurePriority="STAT"),
        header(ScheduledProcedureStepPriority="HIGH"),
        header(RequestAttributesSequence=[request]),
    ):
        assert says(urgent, 'Modality = "CT"').routes[0].priority == 1
    assert says(header(RequestedProcedurePriority="ROUTINE"), 'Modality = "CT"').routes[0].priority == 2
    assert decide(SeriesHeader.of([header()]), rules('priority = "high"'), Origin()).routes[0].priority == 1


def test_a_localizer_is_sent_on_but_not_analysed():
    localizer = header(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    to_send = rules('send = ["b"]')
    decision = decide(SeriesHeader.of([localizer]), to_send, Origin())
    assert decision.outcome == "routed"
    assert [(route.pipeline, route.destinations) for route in decision.routes] == [(FORWARD, ("b",))]
    assert re.search("r0.*not analysed.*localizer", reason_text(decision.reason))
    back = decide(SeriesHeader.of([localizer]), to_send, Origin(destinations=frozenset({"b"})))
    assert (back.outcome, back.routes) == ("ignored", ())
    assert reason_text(back.reason) == "it is a localizer (ImageType)"


def test_a_rule_that_could_only_send_images_back_says_so_and_is_not_chosen():
    only_back = parse(TABLES + '[[rules]]\nname = "r"\nsend = ["b"]\nmatch = { Modality = "CT" }').rules
    (entry,) = decide(SeriesHeader.of([header()]), only_back, Origin(destinations=frozenset({"b"}))).trace
    assert (entry["matched"], entry["chosen"]) == (True, False)
    assert "sent back" in reason_text(entry["note"])
    other = decide(SeriesHeader.of([header(Modality="MR")]), only_back, Origin(destinations=frozenset({"b"}))).trace[0]
    assert (other["matched"], "note" in other) == (False, False)


@pytest.mark.parametrize(("modality", "chosen"), [("CT", None), ("MR", False)])
def test_only_a_rule_that_matches_leaves_its_choice_to_the_study(modality: str, chosen: object):
    of_study = rules('match = { Modality = "CT" }\nprefer = ["thinnest"]')
    assert decide(SeriesHeader.of([header(Modality=modality)]), of_study, Origin()).trace[0]["chosen"] is chosen


def test_a_trace_shows_one_value_as_a_value_and_several_as_a_list():
    for written, shown in (('"CT"', "CT"), ('["CT", "MR"]', ["CT", "MR"])):
        entry = decide(SeriesHeader.of([header()]), rules(f"match = {{ Modality = {written} }}"), Origin()).trace[0]
        assert entry["conditions"][0]["wanted"] == shown


@pytest.mark.parametrize(("word", "number"), [("high", 1), ("medium", 2), ("low", 3)])
def test_a_priority_is_the_number_that_orders_the_queues(word: str, number: int):
    assert decide(SeriesHeader.of([header()]), rules(f'priority = "{word}"'), Origin()).routes[0].priority == number


def test_localizers_captures_and_non_images_are_ignored_with_the_reason():
    everything = rules("")
    assert "localizer" in reason_text(
        decide(SeriesHeader.of([header(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])]), everything, Origin()).reason
    )
    capture = header(SOPClassUID="1.2.840.10008.5.1.4.1.1.7")
    assert "secondary captures" in reason_text(decide(SeriesHeader.of([capture]), everything, Origin()).reason)
    report = Dataset()
    report.Modality = "SR"
    assert "no images" in reason_text(decide(SeriesHeader.of([report]), everything, Origin()).reason)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('match = { Modalty = "CT" }', r"'Modalty' is no DICOM attribute keyword \(did you mean 'Modality'\?\)"),
        ('match = { SliceThickness = "thin" }', "SliceThickness = 'thin': give a number"),
        ('match = { SliceThickness = "3-0" }', "SliceThickness = '3-0': nothing lies in this range"),
        ('unless = { SeriesDescription = "re:(ax" }', r"re:\(ax': missing \).*RE2"),
        ('match = { SeriesDescription = "re:(?=x)" }', "invalid perl operator"),
        ('match = { RequestAttributesSequence = "x" }', "is a sequence; name an attribute of its items"),
        ('match = { "Modality.CodeValue" = "x" }', "Modality is no sequence"),
        ('match = { "0018,0050" = "5" }', "write SliceThickness"),
        ('match = { StudyDate = "yesterday" }', "StudyDate = 'yesterday': give digits"),
        ('match = { PatientAge = "18" }', "PatientAge = '18': give an age such as '018Y'"),
        ("match = { Modality = [] }", "give at least one value"),
        ('hours = "22-6"', "hours = '22-6': give a span of the day"),
        ('senders = ["10.1.2.3/24"]', "has host bits set"),
        ('senders = ["A TITLE THAT IS TOO LONG"]', "1 to 16 characters"),
        ('prefer = ["thinest"]', r"'thinest' \(did you mean 'thinnest'\?\)"),
        ('prefer = [{ ConvolutionKernl = "B70*" }]', "did you mean 'ConvolutionKernel'"),
        ('companions = { t1c = { match = { Modalty = "MR" } } }', "did you mean 'Modality'"),
        ("companions = { t1c = { mtch = {} } }", r"did you mean 'match'"),
    ],
)
def test_a_mistake_in_a_rule_is_refused_with_its_place_and_the_remedy(line: str, message: str):
    with pytest.raises(ConfigError, match=message) as error:
        rules(line)
    assert "rules.0." in str(error.value)


def test_a_prior_comes_from_a_destination_that_can_be_asked():
    with pytest.raises(ConfigError, match=r"'pcas', which is not defined"):
        rules('prior = { source = "pcas" }')
    with pytest.raises(ConfigError, match=r"prior.source names 'f', which has no host"):
        parse(
            TABLES + '[destinations.f]\nfolder = "/tmp"\n'
            '[[rules]]\nname = "x"\npipelines = ["p"]\ndestinations = []\nprior.source = "f"'
        )


def test_rules_have_names_of_their_own():
    with pytest.raises(ConfigError, match="rule 'x' exists 2 times; give each its own name"):
        parse(TABLES + '[[rules]]\nname = "x"\npipelines = ["p"]\ndestinations = ["a"]\n' * 2)


def test_every_example_of_the_page_is_a_rule_that_loads():
    page = (Path(__file__).parents[2] / "docs" / "rules.md").read_text()
    peers = "[pipelines.nodule]\n[pipelines.tumor]\n[destinations.pacs]\ntitle = 'P'\nhost = 'h'\nport = 1\n"
    examples = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    assert len(parse(peers + "".join(examples)).rules) == len(examples) == 8


def test_every_key_of_a_rule_and_every_preference_is_on_the_page():
    page = (Path(__file__).parents[2] / "docs" / "rules.md").read_text()
    for key in {*Rule.model_fields, *Companion.model_fields, *PriorTable.model_fields} - {"quiet_seconds"}:
        assert re.search(rf"\b{key}\b", page), key
    for word in PREFERENCES:
        assert f'`"{word}"`' in page


COMPANION = {"rule": "r0", "matched": True, "companion": "t1c", "chosen": None, "pipelines": ["p"]}
ANOTHER = {**COMPANION, "companion": "b"}
OWN = {"rule": "r1", "matched": True, "chosen": True, "pipelines": ["p"]}


@pytest.mark.parametrize(
    ("trace", "outcome", "reason"),
    [
        ([], "ignored", "no rule matches"),
        ([{**OWN, "matched": False}], "ignored", "no rule matches"),
        ([COMPANION, ANOTHER], "ignored", "only looked at with others: 't1c' of 'r0', 'b' of 'r0'"),
        ([COMPANION, OWN], "routed", "matches 'r1'"),
        ([OWN, {**OWN, "rule": "r2"}], "routed", "matches 'r1', 'r2'"),
        ([COMPANION, {**OWN, "chosen": None}], "waiting", "for other series of the study, by 'r1'"),
        ([{**OWN, "chosen": False}], "ignored", "another series of the study was chosen by 'r1'"),
        ([{**OWN, "chosen": False, "pipelines": []}], "ignored", "it would only be sent back to where it came from"),
    ],
)  # fmt: skip
def test_a_decision_says_in_words_what_its_trace_holds(trace: list[dict[str, Any]], outcome: str, reason: str):
    decided, why = sum_up(trace)
    assert (decided, reason_text(why)) == (outcome, reason)


def test_what_is_tried_in_shadow_is_routed_with_the_rule_and_marked() -> None:
    decision = decide(SeriesHeader.of([header()]), rules('shadow = ["q"]\npriority = "high"'), Origin())
    sent, tried = decision.routes
    assert (sent.shadow, tried.shadow) == (None, "trial")
    assert (tried.pipeline, tried.destinations, tried.priority) == ("q", sent.destinations, 1)
    assert decision.trace[0]["pipelines"] == ["p", "q"]
    localizer = decide(
        SeriesHeader.of([header(ImageType=["LOCALIZER"])]), rules('shadow = ["q"]\nsend = ["b"]'), Origin()
    )
    assert [route.pipeline for route in localizer.routes] == [FORWARD]


def test_results_of_one_pipeline_are_sent_or_tried_in_shadow() -> None:
    with pytest.raises(ConfigError, match="rule 'r0': shadow names 'p', whose results rule 'r0' sends"):
        rules('shadow = ["p"]')
    with pytest.raises(ConfigError, match="rule 'r0': pipelines names 'missing', which is not defined"):
        rules('shadow = ["missing"]')
    grouped = '[pipelines.g]\ntrust_group = "ours"\n'
    rule = '[[rules]]\nname = "r"\npipelines = ["p"]\nshadow = ["g"]\n'
    with pytest.raises(ConfigError, match="shadow names 'g'; remove its trust_group"):
        parse(TABLES + grouped + rule)
