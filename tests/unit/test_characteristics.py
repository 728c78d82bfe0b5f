"""What a series is: found in its headers, never guessed, and asked for by rules."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from click.testing import CliRunner
from dicom_files import AXIAL, CORONAL, SAGITTAL, ct_series, mr_series, write
from enhanced_files import enhanced
from odd_series import tilted, with_gap, with_scout
from pydicom import Dataset
from pydicom.uid import SecondaryCaptureImageStorage, generate_uid
from routing_scene import Scene

from node.__main__ import main
from node.config import parse
from node.config.characteristics import BODY_REGION, CHARACTERISTICS, UNKNOWN
from node.config.rule_condition import parse_condition
from node.operate.characteristics import characteristic_lines
from node.operate.explain import explain
from node.operate.explain_text import describe
from node.routing.replay_decisions import SeriesFiles, decide_files
from node.routing.rules import Origin
from node.studies.characteristics import Characteristic, characteristics_of

SPIN = {"ScanningSequence": "SE"}
INVERSION = {"ScanningSequence": ["SE", "IR"]}
GRADIENT = {"ScanningSequence": "GR", "SequenceVariant": "SP"}
BALANCED = {"ScanningSequence": "GR", "SequenceVariant": "SS"}
PLANAR = {"ScanningSequence": ["EP", "GR"]}


def mr(images: int = 3, **attributes: Any) -> list[Dataset]:
    times = ("ScanningSequence", "SequenceVariant", "RepetitionTime", "EchoTime", "InversionTime")
    bare = without(mr_series(images, 16), *times)
    return with_attributes(bare, ImageType=["ORIGINAL", "PRIMARY", "M"], **attributes)


def ct(images: int = 3, **attributes: Any) -> list[Dataset]:
    return with_attributes(ct_series(images, 16), **{"ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"], **attributes})


def with_attributes(headers: list[Any], **attributes: Any) -> list[Any]:
    for header in headers:
        for keyword, value in attributes.items():
            setattr(header, keyword, value)
    return headers


def without(headers: list[Any], *keywords: str) -> list[Any]:
    for header in headers:
        for keyword in keywords:
            if keyword in header:
                delattr(header, keyword)
    return headers


def of(headers: list[Any], name: str) -> tuple[str, str]:
    characteristic = characteristics_of(headers)[name]
    return ", ".join(characteristic.values), characteristic.certainty


@pytest.mark.parametrize(
    ("orientation", "plane"),
    [(AXIAL, "axial"), (CORONAL, "coronal"), (SAGITTAL, "sagittal"), ((0.6, 0.8, 0, 0, 0, -1), "sagittal")],
)
def test_the_plane_is_computed_from_the_orientation(orientation, plane):
    assert of(ct_series(4, 16, orientation=orientation), "plane") == (plane, "certain")


def test_without_orientation_the_plane_follows_from_the_positions():
    headers = without(ct_series(4, 16, orientation=CORONAL), "ImageOrientationPatient")
    assert of(headers, "plane") == ("coronal", "likely")
    assert of(headers, "slice_spacing_mm")[1] == "likely"
    assert of(headers[:2], "plane") == ("unknown", "unknown"), "two positions are no line"


def test_images_of_several_planes_are_mixed_and_have_no_spacing():
    headers = [*ct_series(3, 16, orientation=AXIAL), *ct_series(3, 16, orientation=SAGITTAL)]
    characteristics = characteristics_of(headers)
    assert characteristics["plane"].values == ("mixed",)
    assert characteristics["slice_spacing_mm"].values == characteristics["coverage_mm"].values == ("unknown",)


@pytest.mark.parametrize("change", [lambda d: d, enhanced, lambda d: tilted(d, 0.61), with_scout])
def test_spacing_and_coverage_are_those_of_the_positions(change):
    headers = change(with_attributes(ct_series(6, 16), SpacingBetweenSlices="99", SliceThickness="77"))
    characteristics = characteristics_of(headers)
    assert (characteristics["slice_spacing_mm"].values, characteristics["coverage_mm"].values) == (("2.5",), ("15",))
    assert characteristics["coverage_mm"].certainty == ("likely" if change is with_scout else "certain")


def test_a_missing_slice_makes_the_spacing_likely_and_is_shown():
    spacing = characteristics_of(with_gap(ct_series(6, 16)))["slice_spacing_mm"]
    assert spacing.certainty == "likely"
    assert any(name == "steps in mm" for name, _ in spacing.basis)


def test_a_single_image_has_neither_spacing_nor_coverage():
    headers = ct(1, SpacingBetweenSlices="5", SliceThickness="5")
    assert of(headers, "slice_spacing_mm") == of(headers, "coverage_mm") == ("unknown", "unknown")


@pytest.mark.parametrize(
    ("image_type", "kind"),
    [
        (["ORIGINAL", "PRIMARY", "AXIAL"], "original"),
        (["ORIGINAL", "PRIMARY", "LOCALIZER"], "localizer"),
        (["DERIVED", "SECONDARY", "MIP"], "MIP"),
        (["DERIVED", "SECONDARY", "PROJECTION IMAGE"], "MIP"),
        (["DERIVED", "PRIMARY", "MNIP"], "MinIP"),
        (["DERIVED", "SECONDARY", "REFORMATTED", "AVERAGE"], "reformatted"),
        (["DERIVED", "SECONDARY", "MPR"], "reformatted"),
        (["ORIGINAL", "PRIMARY", "MPR"], "original"),
        (["DERIVED", "PRIMARY", "ADC"], "map"),
        (["ORIGINAL", "PRIMARY", "P", "ND"], "phase"),
        (["DERIVED", "SECONDARY", "SCREEN SAVE"], "capture"),
        (["DERIVED", "PRIMARY", "AXIAL"], "derived"),
    ],
)
def test_the_kind_of_images_is_that_of_image_type(image_type, kind):
    assert of(ct(ImageType=image_type), "image_kind") == (kind, "certain")


def test_a_secondary_capture_is_one_whatever_its_image_type_states():
    headers = ct(SOPClassUID=SecondaryCaptureImageStorage)
    assert of(headers, "image_kind") == ("capture", "certain")


def test_without_image_type_the_kind_is_unknown():
    assert of(without(ct(), "ImageType"), "image_kind") == ("unknown", "unknown")


@pytest.mark.parametrize(
    ("attributes", "kind"),
    [
        (SPIN | {"RepetitionTime": 600, "EchoTime": 9}, "T1"),
        (SPIN | {"RepetitionTime": 5000, "EchoTime": 91}, "T2"),
        (SPIN | {"RepetitionTime": 3000, "EchoTime": 20}, "PD"),
        (SPIN | {"RepetitionTime": 3000, "EchoTime": 55}, "unknown"),  # between PD and T2
        (SPIN | {"RepetitionTime": 1400, "EchoTime": 12}, "unknown"),  # between T1 and PD
        (INVERSION | {"RepetitionTime": 9000, "EchoTime": 120, "InversionTime": 2500}, "FLAIR"),
        (INVERSION | {"RepetitionTime": 4000, "EchoTime": 60, "InversionTime": 150}, "STIR"),
        (INVERSION | {"RepetitionTime": 2000, "EchoTime": 10, "InversionTime": 800}, "T1"),
        (INVERSION | {"RepetitionTime": 9000, "EchoTime": 120}, "unknown"),  # FLAIR or STIR
        (GRADIENT | {"RepetitionTime": 2300, "EchoTime": 2, "FlipAngle": 9, "InversionTime": 900}, "T1"),
        (GRADIENT | {"RepetitionTime": 5.5, "EchoTime": 2.8, "FlipAngle": 10}, "T1"),
        (GRADIENT | {"RepetitionTime": 30, "EchoTime": 3, "FlipAngle": 3}, "PD"),
        (GRADIENT | {"RepetitionTime": 600, "EchoTime": 20, "FlipAngle": 20}, "T2_STAR"),
        (GRADIENT | {"RepetitionTime": 22, "EchoTime": 4, "FlipAngle": 18, "AngioFlag": "Y"}, "TOF"),
        (BALANCED | {"RepetitionTime": 4, "EchoTime": 2, "FlipAngle": 50}, "unknown"),
        (PLANAR | {"RepetitionTime": 2000, "EchoTime": 30}, "T2_STAR"),
        ({"ScanningSequence": ["EP", "SE"], "RepetitionTime": 5000, "EchoTime": 80}, "unknown"),
        ({"SequenceName": "*tse2d1_19", "RepetitionTime": 5000, "EchoTime": 91}, "T2"),
        ({"RepetitionTime": 5000, "EchoTime": 91}, "unknown"),
        (SPIN | {"RepetitionTime": 600, "EchoTime": 9, "MagneticFieldStrength": 7}, "unknown"),
        (SPIN | {"RepetitionTime": 600, "EchoTime": 9, "SequenceVariant": "MTC"}, "unknown"),
    ],
)  # fmt: skip
def test_the_type_of_an_mr_series_is_concluded_from_its_times(attributes, kind):
    sequence_type = characteristics_of(mr(**attributes))["sequence_type"]
    assert sequence_type.values == (kind,)
    assert sequence_type.certainty == ("unknown" if kind == "unknown" else "likely")


def test_images_of_two_echoes_have_no_single_type():
    headers = mr(4, **SPIN, RepetitionTime=3000, EchoTime=15)
    with_attributes(headers[2:], EchoTime=90)
    sequence_type = characteristics_of(headers)["sequence_type"]
    assert sequence_type.values == ("unknown",)
    assert ("EchoTime", "15, 90") in sequence_type.basis


def test_diffusion_is_certain_and_its_b_values_are_listed():
    headers = mr(4, ScanningSequence=["EP", "SE"], RepetitionTime=5000, EchoTime=80, DiffusionBValue=0.0)
    assert of(headers, "sequence_type") == ("unknown", "unknown"), "b = 0 alone is any spin echo"
    with_attributes(headers[2:], DiffusionBValue=1000.0)
    assert of(headers, "sequence_type") == ("DWI", "certain")
    assert characteristics_of(headers)["b_values"].values == ("0", "1000")


@pytest.mark.parametrize(
    ("group", "creator", "element", "vr", "value"),
    [
        (0x0019, "SIEMENS MR HEADER", 0x0C, "IS", "1000"),
        (0x0043, "GEMS_PARM_01", 0x39, "IS", ["1000001000", "8", "0", "0"]),
        (0x2001, "Philips Imaging DD 001", 0x03, "FL", 1000.0),
        (0x0065, "Image Private Header", 0x09, "FD", 1000.0),
        (0x0019, "SIEMENS MR HEADER", 0x0C, "UN", b"1000"),
    ],
)
def test_b_values_of_makers_count_where_the_standard_attribute_is_absent(group, creator, element, vr, value):
    headers = mr(2)
    for header in headers:
        header.private_block(group, creator, create=True).add_new(element, vr, value)
    assert characteristics_of(headers)["b_values"].values == ("1000",)
    assert of(headers, "sequence_type") == ("DWI", "certain")


def test_a_private_element_of_another_creator_is_no_b_value():
    headers = mr(2)
    for header in headers:
        header.private_block(0x0019, "SOMEBODY ELSE", create=True).add_new(0x0C, "IS", "1000")
    assert of(headers, "b_values") == ("unknown", "unknown")


@pytest.mark.parametrize(("word", "kind"), [("ADC", "ADC"), ("SWI", "SWI"), ("DIFFUSION", "DWI"), ("FA", "unknown")])
def test_maps_are_of_the_type_that_the_scanner_states(word, kind):
    headers = mr(**SPIN, RepetitionTime=600, EchoTime=9)
    with_attributes(headers, ImageType=["DERIVED", "PRIMARY", word])
    assert of(headers, "sequence_type")[0] == kind


def test_phase_images_have_no_weighting():
    headers = with_attributes(mr(**SPIN, RepetitionTime=600, EchoTime=9), ImageType=["ORIGINAL", "PRIMARY", "P"])
    assert of(headers, "sequence_type") == ("unknown", "unknown")


def test_an_enhanced_image_states_its_contrast_unless_its_echo_time_contradicts():
    headers = mr(AcquisitionContrast="FLUID_ATTENUATED")
    assert of(headers, "sequence_type") == ("FLAIR", "certain")
    assert of(with_attributes(headers, AcquisitionContrast="UNKNOWN"), "sequence_type")[0] == "unknown"
    contradicting = with_attributes(headers, AcquisitionContrast="T1", EchoTime=100)
    assert of(contradicting, "sequence_type") == ("unknown", "unknown")


@pytest.mark.parametrize(
    ("maker", "kernel", "sharpness"),
    [
        ("SIEMENS", "B31f", "smooth"), ("SIEMENS", "B70s", "sharp"), ("SIEMENS", "59 .21.B50s", "sharp"),
        ("SIEMENS", "B46f", "unknown"), ("Siemens Healthineers", ["Br40d", "3"], "smooth"),
        ("Siemens Healthineers", ["Bl57d", "3"], "sharp"), ("GE MEDICAL SYSTEMS", "STANDARD", "smooth"),
        ("GE MEDICAL SYSTEMS", "BONEPLUS", "sharp"), ("GE MEDICAL SYSTEMS", "CHST", "unknown"),
        ("TOSHIBA", "FC18", "smooth"), ("TOSHIBA", "FC51", "sharp"), ("TOSHIBA", "FC07", "unknown"),
        ("Philips", "B", "smooth"), ("Philips", "L", "sharp"), ("", "L", "unknown"),
        ("UIH", "B_SHARP_C", "sharp"), ("UIH", "B_SOFT_B", "smooth"), ("", "", "unknown"),
    ],
)  # fmt: skip
def test_a_kernel_is_as_sharp_as_its_maker_names_it(maker, kernel, sharpness):
    headers = ct(Manufacturer=maker, ConvolutionKernel=kernel)
    assert of(headers, "kernel")[0] == sharpness


def test_kernels_of_both_kinds_in_one_series_have_no_sharpness():
    headers = ct(4, Manufacturer="SIEMENS", ConvolutionKernel="B31f")
    with_attributes(headers[2:], ConvolutionKernel="B70f")
    assert of(headers, "kernel") == ("unknown", "unknown")


@pytest.mark.parametrize(
    ("agent", "given"),
    [
        ("Omnipaque 350", "given"), ("IV", "given"), ("ORAL & IV", "given"), ("", "unknown"), (None, "unknown"),
        ("&", "unknown"), ("NONE", "unknown"), ("ORAL", "unknown"), ("no contrast", "unknown"),
    ],
)  # fmt: skip
def test_a_contrast_agent_is_given_only_where_one_is_named(agent, given):
    headers = ct() if agent is None else ct(ContrastBolusAgent=agent)
    assert of(headers, "contrast_agent")[0] == given


def test_absence_of_a_contrast_agent_must_be_stated():
    usage = Dataset()
    usage.ContrastBolusAgentAdministered = "NO"
    headers = ct(ContrastBolusUsageSequence=[usage])
    assert of(headers, "contrast_agent") == ("not given", "certain")
    assert of(headers, "contrast_phase") == ("native", "certain")


@pytest.mark.parametrize(
    ("start", "phase"),
    [("101147", "arterial"), ("101102", "portal venous"), ("100712", "delayed"), ("101127", "unknown"),
     ("101205", "unknown"), ("101300", "unknown"), ("1011", "portal venous"), ("nonsense", "unknown")],
)  # fmt: skip
def test_the_phase_of_ct_follows_from_the_time_since_the_injection(start, phase):
    headers = ct(AcquisitionTime="101212.5")
    for header in headers:
        header.add_new(0x00181042, "LO", start)
    assert of(headers, "contrast_phase")[0] == phase


def test_a_stated_phase_is_certain():
    usage = Dataset()
    usage.ContrastBolusAgentPhase = "PORTAL_VENOUS"
    assert of(ct(ContrastBolusUsageSequence=[usage]), "contrast_phase") == ("portal venous", "certain")


def test_only_characteristics_of_the_modality_are_shown():
    assert set(characteristics_of(ct())).isdisjoint({"sequence_type", "b_values"})
    assert set(characteristics_of(mr())).isdisjoint({"kernel", "contrast_phase"})
    assert set(characteristics_of(ct())) | set(characteristics_of(mr())) | {BODY_REGION} == set(CHARACTERISTICS)


def test_every_value_is_one_that_rules_know():
    for headers in (ct(), mr(**SPIN, RepetitionTime=600, EchoTime=9), without(ct(), "ImagePositionPatient")):
        for name, characteristic in characteristics_of(headers).items():
            for value in characteristic.values:
                parse_condition(name, value)


def test_damaged_headers_show_nothing():
    headers = ct()
    headers[0].add_new(0x00280030, "LO", "no spacing")
    headers[1].add_new(0x00080008, "SQ", [Dataset()])
    headers[2].add_new(0x00200032, "LO", ["a", "b"])
    for characteristic in characteristics_of(headers).values():
        assert isinstance(characteristic, Characteristic)


@pytest.mark.parametrize(
    ("name", "wanted", "values", "matched"),
    [
        ("plane", "axial", ["axial"], True),
        ("plane", ("axial", "oblique"), ["coronal"], False),
        ("slice_spacing_mm", "0-1.5", ["1.25"], True),
        ("slice_spacing_mm", "0-1.5", ["unknown"], False),
        ("slice_spacing_mm", "unknown", ["unknown"], True),
        ("b_values", 1000, ["0", "1000"], True),
        ("b_values", "800-", ["0", "500"], False),
        ("sequence_type", "T2", ["T2_STAR"], False),
    ],
)
def test_rules_match_characteristics(name, wanted, values, matched):
    assert parse_condition(name, wanted).matches(values) is matched


@pytest.mark.parametrize(
    ("name", "wanted", "message"),
    [
        ("plane", "axail", "did you mean 'axial'"),
        ("sequence_type", "T2*", "give one of"),
        ("coverage_mm", "long", "give a number"),
        ("slice_spacng_mm", "1", "did you mean 'slice_spacing_mm'"),
    ],
)
def test_a_value_that_no_series_can_have_is_an_error(name, wanted, message):
    with pytest.raises(ValueError, match=message):
        parse_condition(name, wanted)


def test_lines_name_value_certainty_and_basis():
    characteristics = characteristics_of(mr(**SPIN, RepetitionTime=600, EchoTime=9))
    values = json.loads(json.dumps({name: vars(characteristic) for name, characteristic in characteristics.items()}))
    lines = characteristic_lines(values)
    assert "sequence_type T1 (likely: ScanningSequence SE; EchoTime 9; RepetitionTime 600)" in lines
    assert f"b_values {UNKNOWN} (DiffusionBValue absent)" in lines


RULE = """
[pipelines.scripted]
factory = "job_pipelines:create"
[destinations.pacs]
title = "PACS"
host = "127.0.0.1"
port = 104
[[rules]]
name = "thin"
match = { plane = "axial", slice_spacing_mm = "0-1.5", kernel = "sharp" }
pipelines = ["scripted"]
destinations = ["pacs"]
"""


def thin(spacing: float, study: str = "") -> list[Any]:
    headers = ct_series(4, 16, spacing=(spacing, 0.7, 0.7), study=study)
    return with_attributes(headers, Manufacturer="SIEMENS", ConvolutionKernel="B70f", SliceThickness="1")


def test_the_router_routes_by_characteristics_and_keeps_them_with_the_decision(tmp_path):
    scene = Scene(tmp_path, RULE)
    thick_series, thin_series = (scene.receive(thin(spacing, scene.study)) for spacing in (5.0, 1.0))
    scene.wait(600)
    decided = scene.decided()
    assert (decided[thin_series][0], decided[thick_series][0]) == ("routed", "ignored")
    shown = describe(explain(scene.node.engine, scene.study))
    assert "  slice_spacing_mm 1 (certain: ImageOrientationPatient of all images" in shown
    assert "NO  slice_spacing_mm wanted 0-1.5, found 5" in shown


def test_the_best_series_may_be_one_with_a_characteristic(tmp_path):
    matched, preferred = 'match = { Modality = "CT" }', 'prefer = [{ kernel = "smooth" }]'
    text = re.sub("match = .*", f"{matched}\n{preferred}", RULE)
    study = str(generate_uid())
    series = {}
    for kernel in ("B70f", "B31f"):
        headers = with_attributes(ct_series(4, 16, study=study), Manufacturer="SIEMENS", ConvolutionKernel=kernel)
        with_attributes(headers, FrameOfReferenceUID="1.2.3")
        paths = write(headers, tmp_path / kernel)
        series[str(headers[0].SeriesInstanceUID)] = (kernel, paths)
    files = [
        SeriesFiles(series_instance_uid=uid, paths=tuple(paths), origin=Origin()) for uid, (_, paths) in series.items()
    ]
    decisions = decide_files(files, parse(text).rules)
    assert {series[uid][0]: row.outcome for uid, row in decisions.items()} == {"B70f": "ignored", "B31f": "routed"}


@pytest.mark.thorough
def test_rules_test_shows_what_a_series_is(tmp_path):
    config = tmp_path / "config.toml"
    config.write_text(RULE)
    write(thin(1.0), tmp_path / "dicom")
    arguments = ["rules", "test", "--config", str(config), str(tmp_path / "dicom")]
    shown = CliRunner().invoke(main, arguments, catch_exceptions=False).output
    assert "kernel sharp (certain: Manufacturer SIEMENS; ConvolutionKernel B70F)" in shown
    assert "yes slice_spacing_mm wanted 0-1.5, found 1" in shown
    (answer,) = json.loads(CliRunner().invoke(main, [*arguments, "--json"], catch_exceptions=False).stdout)
    assert answer["characteristics"]["plane"]["values"] == ["axial"]
