"""What a radiologist reads in the list of series: the outcome first, and which result takes the place of which."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from analyses import MOMENT, OUTCOMES, analysis, halved, source_of, two_lesions
from dicom_files import ct_series
from every_object import EVERY
from pydicom import Dataset

from node.outcome import Outcome
from node.pipeline import Findings, Map, codes
from node.results.analysis import Analysis, EncodedObject
from node.results.encode import encode
from node.results.gate.check import check
from node.results.identity import Identity
from node.results.naming import OUTCOMES as WORDS
from node.results.naming import series_description, series_number
from node.results.predecessor import Predecessor, superseding
from node.studies.source import SourceSeries


def with_everything(source: SourceSeries) -> Analysis:
    grid = source.volume()
    entry = Map(name="where", volume=grid.with_array(grid.array * 0 + 1), quantity=codes.DCM.Saliency)
    findings = replace(two_lesions(source), derived=halved(source).derived, maps=(entry,))
    return analysis(findings)


def comments(report: Dataset) -> list[str]:
    """All comments of a report."""
    return [str(element.value) for element in report.iterall() if element.keyword == "TextValue"]


def earlier_in(folder: Path, objects: Iterable[EncodedObject], version: int = 1) -> Predecessor:
    paths = {}
    for made in objects:
        paths[str(made.kind)] = folder / f"{made.kind}.earlier"
        paths[str(made.kind)].write_bytes(made.data)
    return Predecessor.read(paths, version)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> SourceSeries:
    return source_of(tmp_path_factory.mktemp("images"), ct_series(5, 32))


@pytest.mark.thorough
def test_the_outcome_comes_first_and_then_what_it_is(source: SourceSeries):
    objects = encode(with_everything(source), source, EVERY)
    said = {made.kind: str(made.dataset.SeriesDescription) for made in objects}
    assert said["sr"] == said["sr alone"] == "FINDINGS - AI nodule report"
    assert said["seg"] == "FINDINGS - AI nodule segments"
    assert said["labelmap"] == "FINDINGS - AI nodule label map"
    assert said["key images"] == "FINDINGS - AI nodule key images"
    assert said["pdf"] == "FINDINGS - AI nodule PDF"
    assert said["presentation state"] == "FINDINGS - AI nodule outlines"
    assert said["key object selection"] == "FINDINGS - AI nodule key slices"
    assert all(made.description == said[made.kind] for made in objects)


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_without_findings_pdf_and_report_begin_alike(source: SourceSeries, outcome: str):
    objects = encode(analysis(**OUTCOMES[outcome]), source, ["sr", "pdf"])
    analysed = {"no findings": "NO FINDINGS", "indeterminate": "INDETERMINATE", "measured": "MEASURED"}
    word = analysed.get(outcome, "NOT ANALYSED")
    assert [made.description for made in objects] == [f"{word} - AI nodule PDF", f"{word} - AI nodule report"]


def test_every_outcome_has_its_word():
    assert WORDS.keys() >= set(Outcome) - {"derived"}


def test_a_part_is_said_of_new_images_as_well(source: SourceSeries):
    findings = halved(source)
    whole = encode(analysis(findings), source)
    part = encode(analysis(replace(findings, partial="2 slices are missing")), source, ["derived"])
    assert {made.description for made in part} == {f"PARTIAL - {made.description}" for made in whole}


@pytest.mark.parametrize("outcome", sorted(set(Outcome) - {"derived"}))
@pytest.mark.parametrize("name", ["x", "a_very_long_name_of_a_pipeline_that_nobody_would_give_to_one_of_theirs"])
def test_no_description_is_longer_than_dicom_allows(source: SourceSeries, name: str, outcome: str):
    changes = {"pipeline": name, "version": 12, "reason": "why"}
    said = series_description(analysis(Findings(), outcome=outcome, **changes), source, "key images")
    assert len(said) <= 64
    assert said.startswith(f"{WORDS[outcome]} v12 - AI {name[:10]}")
    assert said.endswith(" key images, 5 images")


@pytest.mark.thorough
def test_a_second_version_says_so_in_every_object(tmp_path: Path, source: SourceSeries):
    first = encode(with_everything(source), source, EVERY)
    assert not any(" v1" in made.description or "eplaces" in str(made.dataset) for made in first)
    earlier = earlier_in(tmp_path, first)
    local = Identity.read(source).local(MOMENT)
    second = superseding(replace(with_everything(source), generation=2), earlier, local)
    objects = encode(second, source, EVERY, earlier)
    check(objects, source, earlier)
    assert all("v2 - " in made.description[:20] and made.description.endswith(", 5 images") for made in objects)
    sentence = f"Version 2; replaces the report of {local:%H:%M}."
    by_kind = {made.kind: made.dataset for made in objects}
    for kind in ("sr", "sr alone", "sr on labelmap"):
        assert sentence in comments(by_kind[kind])
    assert sentence in by_kind["key images"].ImageComments
    assert sentence in by_kind["pdf"].DocumentTitle
    assert not {m.dataset.SOPInstanceUID for m in first} & {m.dataset.SOPInstanceUID for m in objects}


def test_the_day_is_said_when_it_is_another(tmp_path: Path, source: SourceSeries):
    earlier = earlier_in(tmp_path, encode(analysis(two_lesions(source)), source))
    made = Identity.read(source).local(MOMENT)
    assert earlier.named(made) == f"the report of {made:%H:%M}"
    assert earlier.named(made + timedelta(days=1)) == f"the report of {made:%Y-%m-%d %H:%M}"
    assert Predecessor.read({}).named(made) == "an earlier report"


def test_the_hour_is_that_of_the_study(tmp_path: Path):
    images = ct_series(3, 16)
    for image in images:
        image.TimezoneOffsetFromUTC = "-0500"
    elsewhere = source_of(tmp_path / "images", images)
    earlier = earlier_in(tmp_path, encode(analysis(**OUTCOMES["no findings"]), elsewhere))
    local = Identity.read(elsewhere).local(MOMENT)
    assert local.utcoffset() == timedelta(hours=-5)
    assert earlier.named(local) == f"the report of {local:%H:%M}"


def numbered(source: SourceSeries, number: object) -> SourceSeries:
    header = Dataset()
    header.SeriesNumber = number

    class One:
        datasets = (header,)

    return One()  # type: ignore[return-value]


def test_later_versions_sort_after_and_no_two_series_share_a_number(source: SourceSeries):
    places = (1, 2, 3, 89, 90, 94)
    taken: dict[int, tuple[int, int, int]] = {}
    for number in (1, 2, 4, 40, 401, 402, 40201, 214_747):
        of_source = []
        for version in (1, 2, 3, 99):
            result = replace(analysis(two_lesions(source)), version=version)
            for place in places:
                value = series_number(result, numbered(source, number), place)
                assert value not in taken
                assert value < 2**31
                taken[value] = (number, version, place)
                of_source.append(value)
        assert of_source == sorted(of_source)
    late = replace(analysis(two_lesions(source)), version=120)
    assert series_number(late, numbered(source, 3), 94) < 40_000
    assert series_number(late, numbered(source, None), 2) == 9000 + 9800 + 2
    assert series_number(late, numbered(source, 2**31 - 1), 2) < 2**31
