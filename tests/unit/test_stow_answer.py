"""What a DICOMweb service answers: its store results and its lists, whatever form they have."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydicom.datadict import tag_for_keyword

from node.deliver.stow_answer import (
    HeldStudy,
    StoreAnswer,
    read_instances,
    read_series,
    read_store_answer,
    read_studies,
)

STORED = {"00081199": {"vr": "SQ", "Value": [{"00081155": {"vr": "UI", "Value": ["1.2"]}}]}}


def item(sequence: str, tag: str, *values: object) -> dict[str, Any]:
    return {sequence: {"vr": "SQ", "Value": [{tag: {"vr": "US", "Value": list(values)}}]}}


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        (STORED, StoreAnswer(warning=0)),
        (item("00081199", "00081196", 0xB000), StoreAnswer(warning=0xB000)),
        (item("00081198", "00081197", 0xA700), StoreAnswer(failure=0xA700)),
        (item("00081198", "00081197", "49152"), StoreAnswer(failure=0xC000)),
        (item("00081198", "00081197"), StoreAnswer(failure=0x0110)),
        ({"00081198": {"Value": [{}]}}, StoreAnswer(failure=0x0110)),
        ({"00081198": {"Value": [None]}, **STORED}, StoreAnswer(warning=0)),
        ({"00081198": {}, "00081199": {"Value": None}}, StoreAnswer()),
        ({}, StoreAnswer()),
        ([1], StoreAnswer()),
    ],
)
def test_a_store_response_says_failed_stored_or_nothing(body: object, answer: StoreAnswer) -> None:
    for prefix in (b"", b"\xef\xbb\xbf"):
        assert read_store_answer(prefix + json.dumps(body).encode()) == answer


@pytest.mark.parametrize("content", [b"", b"<html>", b"\xff\xfe{", b"[" * 100_000, b"{"])
def test_a_body_that_is_no_json_says_nothing_of_the_object(content: bytes) -> None:
    assert read_store_answer(content) == StoreAnswer()


@pytest.mark.parametrize(
    ("content", "where"),
    [
        (b'{"00081199": []}', "00081199"),
        (b'{"00081199": {"Value": ["x"]}}', "00081199.Value.0"),
        (b'{"00081199": {"Value": {"a": 1}}}', "00081199.Value"),
        (b'{"00081198": {"Value": [{"00081197": {"Value": ["x"]}}]}}', "00081198.Value.0.00081197.Value.0"),
        (b'{"00081198": {"Value": [{"00081197": 1}]}}', "00081198.Value.0.00081197"),
    ],
)
def test_a_store_response_of_another_form_is_an_error_that_names_the_place(content: bytes, where: str) -> None:
    with pytest.raises(ValueError, match=f"^{where}: "):
        read_store_answer(content)


def test_a_list_of_instances_is_read() -> None:
    assert read_instances(b"[]") == set()
    listed = [{"00080018": {"vr": "UI", "Value": [uid]}, "00100020": {"vr": "LO"}} for uid in ("1.2", "1.3")]
    assert read_instances(json.dumps(listed).encode()) == {"1.2", "1.3"}


@pytest.mark.parametrize(
    "content",
    [b"", b"no", b"{}", b"[1]", b"[{}]", b'[{"00080018": {"Value": []}}]', b'[{"00080018": {"Value": [null]}}]',
     b'[{"00080018": ["1.2"]}]', b"[" * 100_000],
)  # fmt: skip
def test_a_list_of_another_form_is_an_error(content: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the parser's own words
        read_instances(content)


def test_a_list_of_series_is_read_with_what_a_service_leaves_out() -> None:
    whole = {"0020000E": {"Value": ["1.2"]}, "00080060": {"Value": ["SEG"]}, "00201209": {"Value": [3]}}
    bare = {"0020000E": {"Value": ["1.3"]}, "00080060": {"vr": "CS"}}
    listed = read_series(json.dumps([whole, bare]).encode())
    assert [(series.series_instance_uid, series.modality, series.instances) for series in listed] == [
        ("1.2", "SEG", 3),
        ("1.3", "", 0),
    ]


@pytest.mark.parametrize("uid", ["", "..", "1.2/../../x", "1.2?limit=1"])
def test_a_series_whose_uid_would_change_an_address_is_an_error(uid: str) -> None:
    with pytest.raises(ValueError, match="0020000E: not a UID"):
        read_series(json.dumps([{"0020000E": {"Value": [uid]}}]).encode())


def studies(**stated: str) -> HeldStudy:
    values = {"0020000D": "1.2", **{f"{tag_for_keyword(name):08X}": value for name, value in stated.items()}}
    (study,) = read_studies(json.dumps([{tag: {"Value": [value]} for tag, value in values.items()}]).encode())
    return study


@pytest.mark.parametrize(
    ("stated", "keyword", "wanted", "matches"),
    [
        ("A1", "AccessionNumber", "A1", True),
        ("A2", "AccessionNumber", "A1", False),
        ("A12", "AccessionNumber", "A1*", True),
        ("A[1]", "AccessionNumber", "A[1]", True),
        ("20260101", "StudyDate", "20260101-", True),
        ("20251231", "StudyDate", "20260101-", False),
        ("20260102", "StudyDate", "20260101-20260102", True),
        ("20260103", "StudyDate", "20260101-20260102", False),
    ],
)
def test_a_listed_study_matches_what_was_asked_for(stated: str, keyword: str, wanted: str, *, matches: bool) -> None:
    assert studies(**{keyword: stated}).matches(keyword, wanted) is matches
    assert not studies().matches(keyword, wanted), "one that does not say so does not match"


@pytest.mark.parametrize("content", [b"{}", b"[1]", b"[{}]", b'[{"0020000D": {"Value": ["../x"]}}]'])
def test_a_list_of_studies_of_another_form_is_an_error(content: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the parser's own words
        read_studies(content)
