"""Every kind of object that a destination can ask for is valid, says what is so, and is refused when it does not."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import highdicom
import numpy as np
import pytest
from analyses import NOTHING, OUTCOMES, analysis, box, halved, one, put, segment, source_of, spoiled, two_lesions
from dicom_files import ct_series, mr_series
from pydicom import FileDataset
from pydicom.charset import convert_encodings
from pydicom.valuerep import PersonName

from node.config import Destination, ObjectKind
from node.errors import EncodeError, GateError
from node.pipeline import Findings, Map, Volume, codes
from node.results.analysis import EncodedObject, Kind
from node.results.encode import encode
from node.results.fonts import can_show, marked_up
from node.results.gate.check import check
from node.studies.source import SourceSeries
from node.wording import NOTICE

EVERY = tuple(kind for kind in get_args(Kind) if kind != "rejection")


def with_map(source: SourceSeries) -> Findings:
    """Two lesions, a derived series, and a map that is not zero on slices 1 to 3, stored head first."""
    grid = source.volume("FPL")
    values = np.zeros(grid.spatial_shape, np.float32)
    values[1:4] = np.linspace(0.1, 0.9, 3)[:, None, None]
    heat = Map(name="Probability of nodule", volume=grid.with_array(values), quantity=codes.DCM.Probability)
    return replace(two_lesions(source), derived=halved(source).derived, maps=(heat,))


@pytest.fixture(scope="module", params=["CT", "MR"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    images = ct_series(5, 32) if request.param == "CT" else mr_series(5, 32)
    source = source_of(tmp_path_factory.mktemp("series"), images)
    return source, encode(analysis(with_map(source), link="https://ainode.example.org/study/1.2.3"), source, EVERY)


Encoded = tuple[SourceSeries, tuple[EncodedObject, ...]]


def test_every_kind_passes_the_gate_and_an_independent_validator(made: Encoded, tmp_path: Path):
    source, objects = made
    assert {o.kind for o in objects} == set(EVERY) - {"image seg"}, "which is of single images"
    check(objects, source)
    for number, encoded in enumerate(objects):
        path = tmp_path / f"{number}.dcm"
        path.write_bytes(encoded.data)
        done = subprocess.run(
            [Path(sys.executable).with_name("dciodvfy"), path], capture_output=True, text=True, check=False
        )
        errors = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")]
        if encoded.kind == "sr on labelmap":  # dciodvfy does not know the Label Map class yet
            errors = [line for line in errors if "attribute <ReferencedSegmentNumber>" not in line]
        assert errors == [], encoded.kind


def test_a_destination_can_ask_for_every_kind_and_gets_the_report_on_its_own_segmentation():
    base = {"title": "P", "host": "h", "port": 1}
    every = Destination(**base, objects=get_args(ObjectKind))
    assert every.kinds | {"sr on labelmap", "sr alone"} == set(EVERY)
    assert Destination(**base, objects=("labelmap", "sr")).kinds == {"labelmap", "sr on labelmap"}
    assert Destination(**base, objects=("pdf", "sr")).kinds == {"pdf", "sr alone"}


def test_a_label_map_holds_the_voxels_of_the_segmentation_with_background_last(made: Encoded):
    source, objects = made
    labels, binary = one(objects, "labelmap"), one(objects, "seg")
    assert [s.SegmentNumber for s in labels.SegmentSequence] == [1, 2, 0]
    assert [s.get("TrackingUID") for s in labels.SegmentSequence][:2] == [s.TrackingUID for s in binary.SegmentSequence]
    first, second = (
        highdicom.seg.Segmentation.from_dataset(d).get_volume(combine_segments=True).match_geometry(source.geometry)
        for d in (labels, binary)
    )
    assert np.array_equal(first.array, second.array)


def test_segments_that_overlap_are_kept_whole_where_a_label_map_was_asked_for(tmp_path: Path):
    source = source_of(tmp_path, ct_series(4, 24))
    grid = source.volume()
    findings = Findings(
        segments=(segment(box(grid, (0, 2, 2), (3, 12, 12)), "A"), segment(box(grid, (1, 8, 8), (4, 20, 20)), "B"))
    )
    objects = encode(analysis(findings), source, ["labelmap", "sr on labelmap"])
    check(objects, source)
    assert one(objects, "labelmap").SegmentationType == "BINARY"


def test_a_map_is_placed_on_the_images_bottom_up(made: Encoded):
    source, objects = made
    made_map = one(objects, "parametric map")
    values = np.frombuffer(made_map.FloatPixelData, np.float32).reshape(-1, 32, 32)
    assert values[:, 0, 0] == pytest.approx([0.9, 0.5, 0.1]), "the array ran from head to foot"
    places = [f.PlanePositionSequence[0].ImagePositionPatient for f in made_map.PerFrameFunctionalGroupsSequence]
    assert np.allclose(places, [d.ImagePositionPatient for d in source.datasets[1:4]])
    mapping = made_map.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence[0]
    assert mapping.QuantityDefinitionSequence[0].ConceptCodeSequence[0].CodeMeaning == "Probability"


def test_a_map_on_a_grid_of_its_own_is_resampled(tmp_path: Path):
    source = source_of(tmp_path, mr_series(4, 24, spacing=(4.0, 1.0, 1.0)))
    affine = source.geometry.affine.copy()
    affine[:3, :3] *= 2
    values = np.ones((2, 12, 12), np.float32)
    heat = Map(name="m", volume=Volume(values, affine, coordinate_system="PATIENT"), quantity=codes.DCM.Saliency)
    image = one(encode(analysis(Findings(maps=(heat,))), source, ["parametric map"]), "parametric map")
    back = np.frombuffer(image.FloatPixelData, np.float32).reshape(-1, 24, 24)
    assert back[:3, :22, :22] == pytest.approx(1.0)


def test_a_map_that_is_zero_or_no_number(tmp_path: Path):
    source = source_of(tmp_path, ct_series(3, 16))
    grid = source.volume()
    empty, broken = (
        Findings(maps=(Map(name="m", volume=grid.with_array(grid.array * 0 + v), quantity=codes.DCM.Saliency),))
        for v in (0, np.nan)
    )
    assert encode(analysis(empty), source, ["parametric map"]) == ()
    with pytest.raises(EncodeError, match="no numbers"):
        encode(analysis(broken), source, ["parametric map"])


def test_outlines_of_the_presentation_state_are_those_of_the_report(made: Encoded):
    _, objects = made
    state, report = one(objects, "presentation state"), one(objects, "sr")
    drawn = {g.TrackingUID: g.GraphicData for a in state.GraphicAnnotationSequence for g in a.GraphicObjectSequence}
    (groups,) = [i for i in report.ContentSequence if i.ConceptNameCodeSequence[0].CodeValue == "126010"]
    outlined = set()
    for group in groups.ContentSequence:
        (uid,) = [i.UID for i in group.ContentSequence if i.ValueType == "UIDREF"]
        for item in group.ContentSequence:
            if item.ValueType == "SCOORD":
                assert np.allclose(item.GraphicData, drawn[uid])
                outlined.add(uid)
    assert len(outlined) == 2


def test_slices_of_different_rescale_have_a_presentation_state_each_in_one_series(tmp_path: Path):
    images = ct_series(4, 32)
    images[0].RescaleSlope = 2  # of the two lesions, one is largest here
    source = source_of(tmp_path, images)
    objects = encode(analysis(two_lesions(source)), source, ["presentation state"])
    check(objects, source)
    states = [o.dataset for o in objects]
    assert {float(s.RescaleSlope) for s in states} == {1.0, 2.0}
    assert [int(s.InstanceNumber) for s in states] == [1, 2]
    assert len({str(s.SeriesInstanceUID) for s in states}) == 1
    drawn = [s.GraphicAnnotationSequence[0].GraphicObjectSequence[0].TrackingID for s in states]
    assert sorted(drawn) == ["Nodule 1", "Nodule 2"]
    for state in states:
        (shown,) = state.ReferencedSeriesSequence[0].ReferencedImageSequence
        slopes = {d.SOPInstanceUID: float(d.RescaleSlope) for d in source.datasets}
        assert slopes[shown.ReferencedSOPInstanceUID] == float(state.RescaleSlope)


def test_the_gate_names_the_kinds_that_it_refuses(made: Encoded):
    source, objects = made
    with pytest.raises(GateError) as raised:
        check(spoiled(objects, "pdf", put(BurnedInAnnotation="NO")), source)
    assert raised.value.kinds == {"pdf"}


def test_series_of_one_analysis_have_different_numbers_however_many(tmp_path: Path):
    source = source_of(tmp_path, ct_series(3, 24))
    derived = halved(source).derived * 80
    grid = source.volume()
    maps = tuple(
        Map(name=f"m {n}", volume=grid.with_array(grid.array * 0 + 1), quantity=codes.DCM.Saliency) for n in range(7)
    )
    mask = segment(box(grid, (0, 2, 2), (3, 12, 12)), "A")
    kinds = set(EVERY) - {"derived j2k"}  # which a destination gets in the place of the others
    objects = encode(analysis(Findings(segments=(mask,), derived=derived, maps=maps)), source, kinds)
    numbers: dict[int, set[str]] = {}
    for made_object in objects:
        if not made_object.kind.startswith("sr "):  # another report of the same goes to another destination
            header = made_object.dataset
            numbers.setdefault(int(header.SeriesNumber), set()).add(str(header.SeriesInstanceUID))
    assert {len(uids) for uids in numbers.values()} == {1}
    assert len(numbers) == 8 + 87
    one_more = Findings(segments=(mask,), derived=derived, maps=(*maps, replace(maps[0], name="one more")))
    with pytest.raises(EncodeError, match="more than 87"):
        encode(analysis(one_more), source, ["parametric map"])


def test_each_lesion_has_the_mean_spread_and_range_of_its_voxels_after_its_size(made: Encoded):
    source, objects = made
    volume = source.volume("HPL")
    report = one(objects, "sr")
    (groups,) = [i for i in report.ContentSequence if i.ConceptNameCodeSequence[0].CodeValue == "126010"]
    volumetric = [g for g in groups.ContentSequence if not any(i.ValueType == "SCOORD" for i in g.ContentSequence)]
    for group, lesion in zip(volumetric, two_lesions(source).lesions, strict=True):
        values = volume.array[lesion.segment.mask.array > 0]
        numbers = [i for i in group.ContentSequence if i.ValueType == "NUM"]
        assert numbers[0].ConceptNameCodeSequence[0].CodeMeaning == "Volume"
        last = numbers[-4:]
        told = [float(i.MeasuredValueSequence[0].NumericValue) for i in last]
        assert told == pytest.approx([values.mean(), values.std(), values.min(), values.max()], abs=0.51)
        unit = {i.MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0].CodeValue for i in last}
        assert unit == {"[hnsf'U]" if source.modality == "CT" else "1"}
        meanings = [
            [str(c.ConceptCodeSequence[0].CodeMeaning) for c in i.get("ContentSequence", [])]
            or [str(i.ConceptNameCodeSequence[0].CodeMeaning)]
            for i in last
        ]
        assert [m[0].split(" of ")[0].split(" Att")[0] for m in meanings] == [
            "Mean",
            "Standard Deviation",
            "Minimum",
            "Maximum",
        ]


def tied(report: FileDataset) -> list[str]:
    """SOP Instance UIDs that a report names as the other objects of its analysis."""
    containers = [i for i in report.ContentSequence if i.ConceptNameCodeSequence[0].CodeValue == "111414"]
    return [
        str(item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID) for c in containers for item in c.ContentSequence
    ]


def test_each_report_is_the_root_that_names_every_other_object_of_the_analysis(made: Encoded):
    _, objects = made
    others = {str(o.dataset.SOPInstanceUID) for o in objects if not o.kind.startswith("sr")}
    assert len(others) == len(objects) - 3
    for kind in ("sr", "sr on labelmap", "sr alone"):
        report = one(objects, kind)
        assert sorted(tied(report)) == sorted(others)
        evidence = {
            str(item.ReferencedSOPInstanceUID)
            for series in report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
            for item in series.ReferencedSOPSequence
        }
        assert others < evidence


def test_a_report_names_only_what_goes_wherever_it_goes_itself(tmp_path: Path):
    source = source_of(tmp_path, ct_series(4, 32))
    profiles = [{"seg", "sr", "pdf"}, {"seg", "sr", "key object selection"}, {"sr alone"}]
    objects = encode(analysis(two_lesions(source)), source, set().union(*profiles), profiles=profiles)
    check(objects, source)
    assert tied(one(objects, "sr")) == [one(objects, "seg").SOPInstanceUID]
    assert tied(one(objects, "sr alone")) == []


def test_the_key_slices_are_selected_of_interest(made: Encoded):
    _, objects = made
    document = one(objects, "key object selection")
    assert document.ConceptNameCodeSequence[0].CodeValue == "113000"
    chosen = [
        i.ReferencedSOPSequence[0].ReferencedSOPInstanceUID for i in document.ContentSequence if i.ValueType == "IMAGE"
    ]
    drawn = {o.dataset.SourceImageSequence[0].ReferencedSOPInstanceUID for o in objects if o.kind == "key images"}
    assert set(chosen) == drawn


def page_text(document: FileDataset, folder: Path) -> str:
    program = shutil.which("pdftotext")
    if program is None:
        pytest.skip("pdftotext is not installed (Debian package poppler-utils)")
    path = folder / "page.pdf"
    path.write_bytes(document.EncapsulatedDocument[: document.EncapsulatedDocumentLength])
    return subprocess.run([program, "-layout", path, "-"], capture_output=True, text=True, check=True).stdout


def test_the_page_names_the_patient_the_findings_and_what_made_them(made: Encoded, tmp_path: Path):
    source, objects = made
    text = page_text(one(objects, "pdf"), tmp_path)
    header = source.datasets[0]
    told = (str(header.PatientID), "Outcome: findings", "Nodule 1", NOTICE, "Long axis", "ab" * 32)
    for words in told:
        assert words in text, words
    assert text.count("\f") == 1, "one page"


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_every_outcome_has_its_page(tmp_path: Path, outcome: str):
    source = source_of(tmp_path, ct_series(3, 16))
    objects = encode(analysis(**OUTCOMES[outcome]), source, ["pdf"])
    check(objects, source)
    text = page_text(one(objects, "pdf"), tmp_path)
    assert f"Outcome: {outcome}" in text
    assert str(OUTCOMES[outcome].get("reason", "")) in text


def test_a_page_holds_whatever_is_said_in_any_script_and_stays_one_page(tmp_path: Path):
    source = source_of(tmp_path, ct_series(4, 32))
    remarks = ("Größe <geschätzt> & mehr", "патологія", "結節の疑い", "결절", "🫁", *["A long remark. " * 20] * 30)
    objects = encode(analysis(replace(two_lesions(source), remarks=remarks)), source, ["pdf"])
    check(objects, source)
    text = page_text(one(objects, "pdf"), tmp_path)
    assert "Größe <geschätzt> & mehr" in text
    assert text.count("\f") == 1


def test_a_page_whose_letters_are_its_own_does_not_speak_of_letters_and_tells_a_date_apart(tmp_path: Path):
    source = source_of(tmp_path, ct_series(3, 16), put(StudyDate="20240102"))
    text = page_text(one(encode(analysis(NOTHING), source, ["pdf"]), "pdf"), tmp_path)
    assert "2024-01-02" in text
    assert "letter" not in text


HIDDEN = "in letters this page cannot show"
NAMES = {
    "Cyrillic, UTF-8": ("ISO_IR 192", "Иванов^Иван", "Иванов, Иван", b"DejaVuSans"),
    "Cyrillic, IR 144": ("ISO_IR 144", "Иванов^Иван", "Иванов, Иван", b"DejaVuSans"),
    "Greek": ("ISO_IR 126", "Διονυσιος", "Διονυσιος", b"DejaVuSans"),
    "Japanese": (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう", "Yamada, Tarou", b"HeiseiKakuGo-W5"),
    "Japanese without Latin": (["", "ISO 2022 IR 87"], "=山田^太郎=やまだ^たろう", "", b"HeiseiKakuGo-W5"),
    "Korean": (["", "ISO 2022 IR 149"], "Hong^Gildong=洪^吉洞=홍^길동", "Hong, Gildong", b"HYGothic-Medium"),
    "Chinese": ("GB18030", "Wang^XiaoDong=王^小东", "Wang, XiaoDong", b"STSong-Light"),
    "Hebrew": ("ISO_IR 138", "שרון^דבורה", HIDDEN, b"DejaVuSans"),
    "Arabic beside Latin": ("ISO_IR 192", "Qabbani^Lnzar=قباني^لنزار", "Qabbani, Lnzar", b"DejaVuSans"),
    "one letter only": ("ISO_IR 192", "Smithק^Ann", HIDDEN, b"DejaVuSans"),
    "Latin": ("ISO_IR 100", "Müller^Jürgen", "Müller, Jürgen", b"DejaVuSans"),
    "accents apart": ("ISO_IR 192", "Mu\u0308ller^Ann", "Müller, Ann", b"DejaVuSans"),
}


@pytest.mark.parametrize("which", NAMES)
def test_a_name_is_on_the_page_whole_or_said_to_be_missing(tmp_path: Path, which: str):
    charset, name, shown, face = NAMES[which]

    def named(image: FileDataset) -> None:
        image.SpecificCharacterSet = charset
        image.PatientName = PersonName(name, encodings=convert_encodings(charset))

    source = source_of(tmp_path, ct_series(3, 16), named)
    objects = encode(analysis(replace(NOTHING, remarks=("Подозрение 🫁",))), source, ["pdf"])
    check(objects, source)
    document = one(objects, "pdf")
    assert face in document.EncapsulatedDocument
    text = page_text(document, tmp_path)
    line = next(line for line in text.splitlines() if line.strip().startswith("Patient "))
    assert shown in line
    assert (HIDDEN in line) == (shown == HIDDEN)
    assert not set("^=") & set(line)
    assert (HIDDEN in line) == (shown == HIDDEN)
    assert str(source.datasets[0].PatientID) in text
    assert "Подозрение ?" in text, "of a remark no letter is left out silently"


@pytest.mark.parametrize("letters", ["山田^太郎", "やまだ^たろう", "홍^길동", "王^小东", "王^小東"])
def test_east_asian_letters_of_one_text_are_set_in_one_face_that_has_them_all(letters: str):
    assert can_show(letters)
    assert len(set(re.findall(r'name="([^"]+)"', marked_up(letters)))) == 1


FAULTS: dict[str, tuple[str, Any, str]] = {
    "background first": (
        "labelmap",
        lambda d: setattr(d, "SegmentSequence", list(reversed(d.SegmentSequence))),
        "Background, 0, last",
    ),
    "map missing voxels": (
        "parametric map",
        lambda d: setattr(d, "FloatPixelData", d.FloatPixelData[:-4]),
        "FloatPixelData has",
    ),
    "map upside down": (
        "parametric map",
        lambda d: setattr(d, "PerFrameFunctionalGroupsSequence", list(reversed(d.PerFrameFunctionalGroupsSequence))),
        "reversed",
    ),
    "a page cut off": ("pdf", lambda d: setattr(d, "EncapsulatedDocumentLength", 100), "cut off"),
    "a page not marked": ("pdf", put(BurnedInAnnotation="NO"), "names the patient"),
    "no PDF": ("pdf", put(EncapsulatedDocument=b"hello"), "no PDF"),
    "an outline elsewhere": (
        "presentation state",
        lambda d: setattr(
            d.GraphicAnnotationSequence[0].GraphicObjectSequence[0], "GraphicData", [0.0, 0.0, 99.0, 1.0]
        ),
        "leaves its image",
    ),
    "slices of another study": (
        "key object selection",
        lambda d: setattr(
            d.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence[0],
            "ReferencedSOPInstanceUID",
            "1.2.3",
        ),
        "neither source nor result",
    ),
    "another patient": ("pdf", put(PatientID="OTHER"), "PatientID is not the source's"),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_caught_and_named(made: Encoded, fault: str):
    source, objects = made
    kind, change, said = FAULTS[fault]
    with pytest.raises(GateError, match=said):
        check(spoiled(objects, kind, change), source)
