"""Several volumes in one series: told apart by their attributes or refused, never mixed."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_files import ct_series, mr_series, write
from diffusion import ADC, SIGNAL, diffusion_series
from enhanced_files import enhanced
from pydicom import Dataset, dcmread

from node.config import PipelineTable
from node.inference.plugins import load_pipeline
from node.inference.run_pipeline import analyse
from node.inference.try_pipeline import run_trial
from node.pipeline import Needs, Unsuitable
from node.results.analysis import Analysis
from node.results.encode import encode
from node.results.gate.check import check
from node.studies.preflight import unmet
from node.studies.source import SourceSeries

B_VALUES = Needs(modalities=frozenset({"MR"}), volumes_by="b_value")


def source_of(images: list[Any], folder: Path) -> SourceSeries:
    return SourceSeries.read(write(images, folder))


def test_volumes_are_told_apart_by_b_value_and_come_in_ascending_order(tmp_path):
    source = source_of(diffusion_series((1000, 0, 500)), tmp_path)
    volumes = source.volumes()
    assert [dict(part.key) for part in volumes] == [{"b_value": 0}, {"b_value": 500}, {"b_value": 1000}]
    middle = [float(part.volume.array[2, 16, 16]) for part in volumes]
    assert middle == [round(SIGNAL * np.exp(-b * ADC)) for b in (0, 500, 1000)]
    assert all(np.array_equal(part.volume.affine, volumes[0].volume.affine) for part in volumes)
    assert [part.volume.array.shape for part in source.volumes("LPH")] == [(32, 32, 5)] * 3


def test_a_series_of_several_volumes_is_no_single_volume_and_the_reason_names_what_is_mixed(tmp_path):
    source = source_of(diffusion_series(), tmp_path)
    reason = "slice positions occur more than once: 3 volumes in one series, by b-value (s/mm2) 0, 500, 1000"
    with pytest.raises(Unsuitable, match=re.escape(reason)):
        source.volume()
    assert unmet(Needs(modalities=frozenset({"MR"})), source) == reason
    assert unmet(B_VALUES, source) == ""


@pytest.mark.parametrize(
    ("keyword", "name", "values"),
    [
        ("EchoTime", "echo_time_ms", (15.0, 90.0)),
        ("InversionTime", "inversion_time_ms", (50.0, 400.0, 1100.0)),
        ("TemporalPositionIdentifier", "temporal_position", (1, 2, 3, 4)),
        ("NominalPercentageOfCardiacPhase", "cardiac_phase_percent", (40.0, 75.0)),
        ("AcquisitionNumber", "acquisition", (1, 2)),
    ],
)
def test_every_attribute_that_tells_volumes_apart_is_a_key(tmp_path, keyword, name, values):
    images, first = [], mr_series(3, 16)[0]
    for value in values:
        for image in mr_series(3, 16, study=first.StudyInstanceUID, series=first.SeriesInstanceUID):
            image.FrameOfReferenceUID = first.FrameOfReferenceUID
            setattr(image, keyword, value)
            images.append(image)
    assert [dict(part.key) for part in source_of(images, tmp_path).volumes()] == [{name: value} for value in values]


def test_a_number_that_differs_in_every_image_is_no_key(tmp_path):
    images = diffusion_series()
    for number, image in enumerate(images):
        image.AcquisitionNumber = number
        image.EchoTime = 80 + number % 2
    volumes = source_of(images, tmp_path).volumes()
    assert [dict(part.key) for part in volumes] == [{"b_value": 0}, {"b_value": 500}, {"b_value": 1000}]


def test_two_attributes_together_may_tell_volumes_apart_and_a_pipeline_for_one_refuses_them(tmp_path):
    images = [*diffusion_series((0, 1000))]
    for image in diffusion_series((0, 1000)):
        image.StudyInstanceUID, image.SeriesInstanceUID = images[0].StudyInstanceUID, images[0].SeriesInstanceUID
        image.FrameOfReferenceUID, image.EchoTime = images[0].FrameOfReferenceUID, 120.0
        images.append(image)
    source = source_of(images, tmp_path)
    assert len(source.volumes()) == 4
    assert "by b-value (s/mm2) 0, 1000 and echo time (ms) 80, 120" in source.grid.fault
    assert unmet(B_VALUES, source).endswith("volumes that differ in b-value (s/mm2) alone are needed")


def _set(keyword: str, of_one: Any, of_others: Any, *, b_value: int) -> Any:
    """Change an attribute of the images, to one value of one b-value and to another of the others."""

    def change(images: list[Any]) -> list[Any]:
        for image in images:
            setattr(image, keyword, of_one if int(image.DiffusionBValue) == b_value else of_others)
        return images

    return change


def _without_b_value(images: list[Any]) -> list[Any]:
    del images[4].DiffusionBValue
    return images


def _misplaced(images: list[Any]) -> list[Any]:
    images[0].DiffusionBValue = 500
    return images


def _directions(images: list[Any]) -> list[Any]:
    for image in images:
        image.DiffusionBValue = min(image.DiffusionBValue, 500)
    return images


SPOILED = {
    "an image is missing": lambda images: images[1:],
    "an image without b-value": _without_b_value,
    "an image with the b-value of another": _misplaced,
    "directions of one b-value": _directions,
    "another pixel spacing": _set("PixelSpacing", [1.0, 1.0], [0.9, 0.9], b_value=500),
    "other frames of reference": _set("FrameOfReferenceUID", "1.2.3", "1.2.4", b_value=500),
    "phase images": _set("ImageType", ["ORIGINAL", "PRIMARY", "P"], ["ORIGINAL", "PRIMARY", "M"], b_value=500),
    "real parts": _set("ComplexImageComponent", "REAL", "MAGNITUDE", b_value=0),
    "a map of the others": _set("ImageType", ["DERIVED", "PRIMARY", "ADC"], ["DERIVED", "PRIMARY"], b_value=1000),
}


@pytest.mark.parametrize("name", SPOILED)
def test_what_attributes_do_not_account_for_is_refused(tmp_path, name):
    source = source_of(SPOILED[name](diffusion_series()), tmp_path)
    assert source.parts == ()
    assert unmet(B_VALUES, source)
    with pytest.raises(Unsuitable):
        source.volumes()


def test_a_plain_series_has_one_volume_without_a_key_and_is_none_of_several(tmp_path):
    source = source_of(ct_series(4, 16), tmp_path)
    (only,) = source.volumes("HPL")
    assert dict(only.key) == {}
    assert np.array_equal(only.volume.array, source.volume("HPL").array)
    needs = Needs(modalities=frozenset({"CT"}), volumes_by="temporal_position")
    assert (
        unmet(needs, source) == "the series holds one volume; volumes that differ in temporal position alone are needed"
    )


def test_frames_of_an_enhanced_image_are_told_apart(tmp_path):
    images = diffusion_series((0, 1000))
    (whole,) = enhanced(images)
    for group, image in zip(whole.PerFrameFunctionalGroupsSequence, images, strict=True):
        item = Dataset()
        item.DiffusionBValue = image.DiffusionBValue
        group.MRDiffusionSequence = [item]
    del whole.DiffusionBValue
    volumes = source_of([whole], tmp_path).volumes()
    assert [dict(part.key) for part in volumes] == [{"b_value": 0}, {"b_value": 1000}]
    assert float(volumes[1].volume.array[2, 16, 16]) == round(SIGNAL * np.exp(-1000 * ADC))


def test_a_key_that_no_series_has_is_an_error():
    with pytest.raises(ValueError, match=r"Needs.volumes_by is 'b-value'; give one of b_value, "):
        Needs(modalities=frozenset({"MR"}), volumes_by="b-value")


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The factory of the example of the page."""
    text = (Path(__file__).parents[2] / "docs" / "write-a-pipeline.md").read_text()
    (code,) = (
        block for block in re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE) if "volumes_by" in block
    )
    (tmp_path / "adc_of_the_page.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    return "adc_of_the_page:create"


def test_the_adc_of_the_page_becomes_a_parametric_map_on_the_images_of_the_first_volume(tmp_path, page):
    pipeline: Any = load_pipeline("adc", PipelineTable(factory=page), "cpu")
    images = diffusion_series()
    source = source_of(images, tmp_path / "scan")
    outcome, _, findings = analyse(pipeline, source)
    assert findings.remarks[0] == "The 3 volumes of the series were analysed together: b-value (s/mm2) 0, 500, 1000."
    analysis = Analysis(
        pipeline="adc",
        algorithm=pipeline.algorithm,
        generation=1,
        outcome=outcome,
        findings=findings,
        analysed_at=datetime.now(UTC),
    )
    objects = encode(analysis, source.first_volume, ("parametric map", "sr"))
    check(objects, source.first_volume)
    (parametric_map,) = [instance.dataset for instance in objects if instance.kind == "parametric map"]
    values = np.frombuffer(parametric_map.FloatPixelData, "<f4").reshape(-1, 32, 32)
    assert values[:, 16, 16] == pytest.approx(ADC, rel=2e-3)
    assert values[:, 0, 0].tolist() == [0, 0, 0, 0], "no signal, no coefficient"
    mapping = parametric_map.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence[0]
    assert mapping.MeasurementUnitsCodeSequence[0].CodeValue == "mm2/s"
    first = {str(image.SOPInstanceUID) for image in images if image.DiffusionBValue == 0}
    referenced = {
        str(reference.ReferencedSOPInstanceUID)
        for series in parametric_map.ReferencedSeriesSequence
        for reference in series.ReferencedInstanceSequence
    }
    assert referenced
    assert referenced <= first


@pytest.mark.thorough
def test_a_trial_of_the_page_writes_what_a_node_would_send(tmp_path, page):
    write(diffusion_series(), tmp_path / "in" / "dwi")
    write(mr_series(4, 32), tmp_path / "in" / "flair")
    kinds = ("parametric map", "sr")
    table = PipelineTable(factory=page)
    trial = run_trial("adc", table, tmp_path / "in", tmp_path / "out", device="cpu", progress=print, kinds=kinds)
    analysed, unsuited = trial.series
    assert (analysed.images, analysed.outcome, analysed.fault) == (15, "measured", "")
    assert sorted(dcmread(path).Modality for path in analysed.files) == ["OT", "SR"]
    assert unsuited.outcome == "not applicable"
    assert "the series holds one volume" in unsuited.reason
