"""What a pipeline judges, and whether the images are fit for measuring it, stand as codes in the report."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from analyses import analysis, one, source_of, two_lesions
from dicom_files import ct_series
from pydicom import Dataset

from node.pipeline import Findings, Measurement, codes
from node.results.encode import encode
from node.results.finding import place_findings
from node.results.gate.check import check
from pipelines.nodule.appearance import MALIGNANCY, PART_SOLID, SCORES, TEXTURE


def said(item: Dataset) -> dict[str, str]:
    """The coded content below ``item``: name -> value."""
    return {
        i.ConceptNameCodeSequence[0].CodeMeaning: i.ConceptCodeSequence[0].CodeMeaning
        for i in item.ContentSequence
        if i.ValueType == "CODE"
    }


def children(report: Dataset, code: str) -> list[Dataset]:
    (container,) = [i for i in report.ContentSequence if i.ConceptNameCodeSequence[0].CodeValue == code]
    return list(container.ContentSequence)


@pytest.mark.parametrize("kind", ["sr", "sr on labelmap", "sr alone"])
def test_what_a_pipeline_judges_of_a_lesion_is_said_once_beside_its_lobe(tmp_path: Path, kind: str) -> None:
    source = source_of(tmp_path, ct_series(5, 32))
    findings = two_lesions(source)
    lesion = replace(
        findings.lesions[0],
        site=codes.SCT.UpperLobeOfLung,
        evaluations={TEXTURE: PART_SOLID, MALIGNANCY: SCORES[2]},
        measurements=(Measurement(name=codes.DCM.ProbabilityOfCancer, value=37.0, unit=codes.UCUM.Percent),),
    )
    objects = encode(analysis(replace(findings, lesions=(lesion,))), source, ["seg", "labelmap", kind])
    check(objects, source)
    groups = children(one(objects, kind), "126010")
    assert [said(g).get("Texture") for g in groups].count(PART_SOLID.meaning) == 1
    for group in groups:
        (site,) = [i for i in group.ContentSequence if i.ConceptNameCodeSequence[0].CodeValue == "363698007"]
        assert site.ConceptCodeSequence[0].CodeMeaning == "Upper lobe of lung"
        assert site.ContentSequence[0].ConceptCodeSequence[0].CodeMeaning == "Left"
    numbers = [
        i.ConceptNameCodeSequence[0].CodeValue for g in groups for i in g.ContentSequence if i.ValueType == "NUM"
    ]
    assert numbers.count("111047") == 1


def test_the_side_and_the_measurements_of_a_structure_stand_in_segment_and_report(tmp_path: Path) -> None:
    source = source_of(tmp_path, ct_series(5, 32))
    volume = Measurement(name=codes.SCT.Volume, value=3210.0, unit=codes.UCUM.CubicMillimeter)
    kidneys = tuple(
        replace(
            lesion.segment,
            category=codes.SCT.AnatomicalStructure,
            type=codes.SCT.Kidney,
            laterality=side,
            measurements=(volume,),
        )
        for lesion, side in zip(two_lesions(source).lesions, (codes.SCT.Left, codes.SCT.Right), strict=True)
    )
    findings = Findings(segments=kidneys)
    objects = encode(analysis(findings), source, ["seg", "sr"])
    check(objects, source)
    for segment, side in zip(one(objects, "seg").SegmentSequence, ("Left", "Right"), strict=True):
        (modifier,) = segment.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence
        assert modifier.CodeMeaning == side
        assert "AnatomicRegionSequence" not in segment, "the type of the segment says it already"
    groups = children(one(objects, "sr"), "126010")
    sides, volumes = [], []
    for group in groups:
        (site,) = [i for i in group.ContentSequence if i.ConceptNameCodeSequence[0].CodeValue == "363698007"]
        sides.append(
            (site.ConceptCodeSequence[0].CodeMeaning, site.ContentSequence[0].ConceptCodeSequence[0].CodeMeaning)
        )
        named = [i for i in group.ContentSequence if i.ConceptNameCodeSequence[0].CodeMeaning == "Volume"]
        volumes += [float(i.MeasuredValueSequence[0].NumericValue) for i in named]
    assert sorted(set(sides)) == [("Kidney", "Left"), ("Kidney", "Right")]
    assert volumes == [3210.0, 3210.0], "stated once for each, in place of the node's own"
    geometry = source.geometry
    assert place_findings(findings, source, geometry, "")[0].described() == ("Kidney, left",)


def test_what_is_judged_of_the_images_stands_with_the_outcome(tmp_path: Path) -> None:
    source = source_of(tmp_path, ct_series(5, 32))
    findings = replace(two_lesions(source), evaluations={codes.DCM.ImageQuality: codes.DCM.PoorImageQuality})
    objects = encode(analysis(findings), source)
    check(objects, source)
    (container,) = [
        i for i in one(objects, "sr").ContentSequence if i.ConceptNameCodeSequence[0].CodeValue == "C0034375"
    ]
    assert said(container)["Image Quality"] == "Poor image quality"


def test_a_lesion_shorter_than_two_steps_between_slices_is_said_to_be_measured_roughly(tmp_path: Path) -> None:
    source = source_of(tmp_path, ct_series(5, 32))  # 2.5 mm apart; the lesions are some 8.9 and 3.4 mm long
    findings = two_lesions(source)
    large, small = place_findings(findings, source, source.geometry, "key")
    assert large.rough == ""
    assert "two voxels of 2.5 mm" in small.measured()[-1]
    groups = children(one(encode(analysis(findings), source), "sr"), "126010")
    quality = [said(g)["Quality Assessment"] for g in groups if "Quality Assessment" in said(g)]
    assert quality == ["Usable - Does not meet the quality control standard"], "nobody assessed the other images"
