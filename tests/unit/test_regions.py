"""Findings with a shape instead of a mask: in report, key image, presentation state and PDF, and through the gate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from analyses import ALGORITHM, analysis, source_of, spoiled, two_lesions
from dicom_files import CORONAL, ct_series
from odd_series import oblique, tilted
from pydicom import Dataset, FileDataset

from node.errors import EncodeError, GateError
from node.inference.findings_document import read_findings, write_findings
from node.pipeline import Code, Findings, Measurement, MeasurementGroup, Region, Shape, codes
from node.results.analysis import EncodedObject, in_order, outcome_of
from node.results.encode import encode
from node.results.gate.check import check
from node.results.key_image import EDGE
from node.results.placed_region import place_regions
from node.results.prior.lesion_matching import compare
from node.results.prior.report import read_prior
from node.results.report_items import measurement_groups
from node.studies.source import SourceSeries
from node.web.report_table import findings_in

KINDS = ("seg", "sr", "key images", "pdf", "presentation state", "key object selection")
OPACITY = codes.DCM.Opacity
DISTANCE = codes.DCM.Distance


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> SourceSeries:
    return source_of(tmp_path_factory.mktemp("series"), ct_series(6, 40))


def region(shape: Shape, label: str = "Opacity 1", **more: object) -> Region:
    return Region(label=label, shape=shape, finding=OPACITY, **more)  # type: ignore[arg-type]


def objects_of(findings: Findings, source: SourceSeries) -> dict[str, EncodedObject]:
    objects = encode(analysis(findings), source, KINDS)
    check(objects, source)
    return {entry.kind: entry for entry in objects}


def regions_in(report: Dataset) -> dict[str, list[tuple[str, str, list[list[float]]]]]:
    """Tracking Identifier -> value type, graphic type and points of each region, also below measurements."""
    regions: dict[str, list[tuple[str, str, list[list[float]]]]] = {}
    for group in measurement_groups(report):
        (name,) = [str(i.TextValue) for i in group.ContentSequence if i.ValueType == "TEXT" and "TextValue" in i][:1]
        for parent in (group, *group.ContentSequence):
            for item in parent.get("ContentSequence") or ():
                if "GraphicData" in item:
                    size = 3 if item.ValueType == "SCOORD3D" else 2
                    points = np.reshape(np.array(item.GraphicData), (-1, size)).tolist()
                    regions.setdefault(name, []).append((item.ValueType, item.GraphicType, points))
    return regions


def test_the_report_states_shapes_of_an_image_as_the_pipeline_gave_them(source: SourceSeries) -> None:
    image = source.images()[2]
    shapes = {
        "Point": Shape.point((10.5, 20.25), on=image),
        "Line": Shape.polyline([(1, 2), (3.5, 4), (5, 39.75)], on=image),
        "Box": Shape.box(4, 8, 20, 30, on=image),
        "Ellipse": Shape.ellipse(((5, 10), (25, 10)), ((15, 6), (15, 14)), on=image),
    }
    findings = Findings(regions=tuple(region(shape, label) for label, shape in shapes.items()))
    report = objects_of(findings, source)["sr"].dataset
    stated = regions_in(report)
    for label, shape in shapes.items():
        kind = "POLYLINE" if shape.graphic_type == "POLYGON" else shape.graphic_type
        assert stated[label] == [("SCOORD", kind, [list(point) for point in shape.points])]
    assert stated["Box"][0][2] == [[4, 8], [20, 8], [20, 30], [4, 30], [4, 8]]
    for group in measurement_groups(report):
        (place,) = [i for i in group.ContentSequence if i.ValueType == "SCOORD"]
        assert place.ContentSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID == image.sop_instance_uid


@pytest.mark.parametrize(
    "make",
    [
        lambda: ct_series(6, 40),
        lambda: ct_series(6, 40, orientation=CORONAL),
        lambda: ct_series(6, 40, orientation=oblique(17, 8)),
        lambda: tilted(ct_series(6, 40), 0.4),
    ],
    ids=["axial", "coronal", "oblique", "tilted"],
)
def test_a_shape_in_the_patient_is_stated_there_and_on_the_image_in_whose_plane_it_lies(
    tmp_path: Path, make: Callable[[], list[FileDataset]]
) -> None:
    source = source_of(tmp_path, make())
    header = source.datasets[3]
    cosines = np.reshape(np.array(header.ImageOrientationPatient, float), (2, 3))
    origin, spacing = np.array(header.ImagePositionPatient, float), np.array(header.PixelSpacing, float)

    def lps(column: float, row: float) -> list[float]:
        """Centre of pixel (column, row), which is at (column + 0.5, row + 0.5) of the image."""
        return list(origin + cosines[0] * column * spacing[1] + cosines[1] * row * spacing[0])

    corners = [lps(8, 10), lps(20, 10), lps(20, 26), lps(8, 26)]
    findings = Findings(regions=(region(Shape.polygon(corners)),))
    on_image, in_patient = regions_in(objects_of(findings, source)["sr"].dataset)["Opacity 1"]
    assert on_image[:2] == ("SCOORD", "POLYLINE")
    assert np.array(on_image[2]) == pytest.approx(
        np.array([(8.5, 10.5), (20.5, 10.5), (20.5, 26.5), (8.5, 26.5), (8.5, 10.5)]), abs=0.01
    )
    assert in_patient[:2] == ("SCOORD3D", "POLYGON")
    assert np.array(in_patient[2][:4]) == pytest.approx(np.array(corners), abs=1e-3)
    assert place_regions(findings, source, "")[0].image == f"Image {header.InstanceNumber}"


def test_a_line_through_several_slices_is_stated_in_the_patient_only(source: SourceSeries) -> None:
    first, last = source.datasets[0].ImagePositionPatient, source.datasets[-1].ImagePositionPatient
    findings = Findings(regions=(region(Shape.polyline([first, last])),))
    objects = objects_of(findings, source)
    (stated,) = regions_in(objects["sr"].dataset)["Opacity 1"]
    assert stated[:2] == ("SCOORD3D", "POLYLINE")
    assert "key images" not in objects


def test_a_distance_and_an_angle_name_the_lines_that_they_were_measured_on(source: SourceSeries) -> None:
    image = source.images()[1]
    width = Measurement(
        name=DISTANCE,
        value=21.4,
        unit=codes.UCUM.Millimeter,
        shapes=(Shape.polyline([(2, 20), (32.5, 20)], on=image),),
    )
    angle = Measurement(
        name=codes.SCT.CobbAngle,
        value=12,
        unit=Code("deg", "UCUM", "deg"),
        shapes=(Shape.polyline([(2, 3), (30, 4)], on=image), Shape.polyline([(2, 30), (30, 36)], on=image)),
    )
    findings = Findings(groups=(MeasurementGroup(label="Spine", finding=codes.SCT.Spine, measurements=(width, angle)),))
    assert outcome_of(findings) == "measured"
    objects = objects_of(findings, source)
    stated = regions_in(objects["sr"].dataset)["Spine"]
    assert [points for *_, points in stated] == [
        [[2, 20], [32.5, 20]],
        [[2, 3], [30, 4]],
        [[2, 30], [30, 36]],
    ]
    (annotation,) = objects["presentation state"].dataset.GraphicAnnotationSequence
    assert len(annotation.GraphicObjectSequence) == 3
    assert annotation.ReferencedImageSequence[0].ReferencedSOPInstanceUID == image.sop_instance_uid


def test_every_region_of_an_image_is_drawn_on_its_key_image_where_it_lies(source: SourceSeries) -> None:
    image = source.images()[4]
    findings = Findings(
        regions=(
            region(Shape.box(8, 4, 20, 14, on=image), "Opacity 1", probability=0.9),
            region(Shape.point((30, 30), on=image), "Opacity 2"),
        )
    )
    placed = place_regions(findings, source, "")
    picture = objects_of(findings, source)["key images"].dataset
    assert picture.SourceImageSequence[0].ReferencedSOPInstanceUID == image.sop_instance_uid
    pixels = picture.pixel_array[:EDGE, :EDGE]
    for one_region, place in zip(placed, ((4, 8, 14, 20), (29.5, 29.5, 30.5, 30.5)), strict=True):
        drawn = np.argwhere((pixels == one_region.colour).all(axis=-1)) / EDGE * 40
        near = np.abs(drawn - np.clip(drawn, place[:2], place[2:])).max(axis=1) <= 0.6
        inside = drawn[near]
        assert len(inside) > 15
    assert "Opacity 1, Opacity 2" in picture.ImageComments


def test_masks_and_regions_stand_in_one_report_and_the_sure_come_first(source: SourceSeries) -> None:
    image = source.images()[0]
    unsure, sure = (region(Shape.point((3, 3), on=image), name, probability=p) for name, p in (("a", 0.3), ("b", 0.95)))
    mark = region(Shape.point((9, 3), on=image), "Carina", landmark=True)
    findings = in_order(Findings(lesions=two_lesions(source).lesions, regions=(mark, unsure, sure)))
    assert [one_region.label for one_region in findings.regions] == ["b", "a", "Carina"]
    objects = objects_of(findings, source)
    names = list(regions_in(objects["sr"].dataset))
    assert names == ["Nodule 1", "Nodule 2", "b", "a", "Carina"]


@pytest.mark.parametrize(
    ("more", "looked_for", "outcome"),
    [({}, (), "findings"), ({"landmark": True}, (), "measured"), ({"landmark": True}, (OPACITY,), "no findings")],
)
def test_a_landmark_is_no_finding(
    source: SourceSeries, more: dict[str, bool], looked_for: tuple[Code, ...], outcome: str
) -> None:
    place = Shape.point((3, 3), on=source.images()[0])
    assert outcome_of(Findings(regions=(region(place, **more),), looked_for=looked_for)) == outcome


def test_the_handover_keeps_regions_and_shapes(source: SourceSeries) -> None:
    image = source.images()[0]
    line = Shape.polyline([(1, 1), (9, 9)], on=image)
    width = Measurement(name=DISTANCE, value=8, unit=codes.UCUM.Millimeter, shapes=(line,))
    findings = Findings(
        regions=(
            region(Shape.box(1, 2, 3, 4, on=image), probability=0.7, laterality=codes.SCT.Left),
            region(Shape.point((1.0, 2.0, 3.0)), "Point", landmark=True, evaluations={OPACITY: codes.SCT.Mild}),
        ),
        groups=(MeasurementGroup(label="Heart", finding=codes.SCT.Heart, measurements=(width,)),),
    )
    arrays: dict[str, object] = {}
    again = read_findings(write_findings(findings, arrays), arrays)  # type: ignore[arg-type]
    assert [vars(one_region) for one_region in again.regions] == [vars(one_region) for one_region in findings.regions]
    assert again.groups[0].measurements == (width,)


@pytest.mark.parametrize(
    ("make", "fault"),
    [
        (lambda at: Shape.box(9, 4, 8, 14, on=at), "has no area"),
        (lambda at: Shape.point((1, 2, 3), on=at), r"give \(column, row\)"),
        (lambda _: Shape.point((1, 2)), r"give \(x, y, z\) in LPS mm"),
        (lambda at: Shape.point((1, float("nan")), on=at), "no numbers"),
        (lambda at: Shape.polyline([(1, 1)], on=at), "2 are needed"),
        (lambda at: Shape.polygon([(1, 1), (2, 2)], on=at), "4 are needed"),
        (lambda at: Shape.ellipse(((1, 1), (3, 1)), ((2, 0), (2, 9)), on=at), "the longer axis"),
        (lambda _: Shape.polygon([(0, 0, 0), (9, 0, 0), (9, 9, 5), (0, 9, 0)]), "do not lie in one plane"),
    ],
)
def test_a_shape_that_is_none_cannot_be_made(source: SourceSeries, make: Callable[..., Shape], fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        make(source.images()[0])


def test_a_shape_off_its_image_is_refused_with_what_is_wrong(source: SourceSeries, tmp_path: Path) -> None:
    image = source.images()[0]
    other = source_of(tmp_path, ct_series(3, 40)).images()[0]
    for shape, fault in (
        (Shape.point((41, 3), on=image), "leaves its image of 40 columns and 40 rows"),
        (Shape.point((3, 3), on=other), "is not one of the analysed images"),
        (Shape.point((500.0, 0.0, 0.0)), "lies outside the source images"),
    ):
        with pytest.raises(EncodeError, match=fault):
            encode(analysis(Findings(regions=(region(shape),))), source, ["sr"])


def moved(points: int) -> Callable[[FileDataset], None]:
    """Move the first coordinates of a report."""

    def change(report: FileDataset) -> None:
        for group in measurement_groups(report):
            for item in group.ContentSequence:
                if item.ValueType == "SCOORD":
                    item.GraphicData = [value + points for value in item.GraphicData]

    return change


def elsewhere(report: FileDataset) -> None:
    for group in measurement_groups(report):
        for item in group.ContentSequence:
            if item.ValueType == "SCOORD3D":
                item.ReferencedFrameOfReferenceUID = "1.2.3"


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (moved(1), "are not the same place"),
        (moved(90), "leaves its image"),
        (elsewhere, "another frame of reference"),
    ],
)
def test_the_gate_refuses_coordinates_that_moved(
    source: SourceSeries, change: Callable[[FileDataset], None], fault: str
) -> None:
    at = source.datasets[2].ImagePositionPatient
    objects = encode(analysis(Findings(regions=(region(Shape.point(at)),))), source, ["sr"])
    check(objects, source)
    with pytest.raises(GateError, match=fault):
        check(spoiled(objects, "sr", change), source)


def test_regions_are_not_compared_with_a_prior_study_and_none_seems_to_be_missing(source: SourceSeries) -> None:
    image = source.images()[0]
    findings = Findings(regions=(region(Shape.box(1, 2, 9, 12, on=image)),), looked_for=(OPACITY,))
    assert read_prior(objects_of(findings, source)["sr"].dataset) is None
    prior = read_prior(objects_of(Findings(looked_for=(OPACITY,)), source)["sr"].dataset)
    assert prior is not None
    compared = compare(findings, replace(source, prior=prior), ALGORITHM, "")
    assert compared.remarks == ("Findings without an outline are not compared with the earlier study.",)


def test_the_dashboard_lists_a_region_without_any_number(source: SourceSeries, tmp_path: Path) -> None:
    image = source.images()[0]
    mark = region(Shape.point((3, 3), on=image), "Nipple", landmark=True)
    path = tmp_path / "report.dcm"
    path.write_bytes(objects_of(Findings(regions=(mark,), looked_for=(OPACITY,)), source)["sr"].data)
    assert [row.label for row in findings_in(path)] == ["Nipple"]
