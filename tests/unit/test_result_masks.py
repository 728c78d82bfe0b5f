"""Masks of another pipeline's result as inputs of somebody else's model."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest
import torch
from bundles import write_bundle
from dicom_files import ct_series, write
from volume_series import MaskResult, VolumeSeries, points, same_places

from node.errors import PipelineError
from node.pipeline import Unsuitable, Volume, content_digest
from pipelines.channels import channels
from pipelines.container.options import ContainerOptions
from pipelines.container.pipeline import ContainerPipeline
from pipelines.model_file import create
from pipelines.monai_bundle import create as bundle
from pipelines.options import read_options

ORIENTATIONS = ["HPL", "ARF", "LHA"]


def volume(array: np.ndarray) -> Volume:
    return Volume.from_components(
        array,
        spacing=(2.0, 1.0, 1.5),
        coordinate_system="PATIENT",
        position=(-20.0, -30.0, -14.0),
        patient_orientation="HPL",
    )


def two_spots() -> tuple[Volume, Volume]:
    """Two bright spots, and the mask of an organ that holds the first one."""
    image, organ = np.zeros((20, 30, 40), np.float32), np.zeros((20, 30, 40), np.uint8)
    image[6:9, 8:12, 10:13] = image[14:17, 20:25, 30:36] = 100
    organ[4:11, 6:15, 8:16] = 1
    return volume(image), volume(organ)


def series(orientation: str, *, label: str = "Liver") -> VolumeSeries:
    image, organ = (volume.to_patient_orientation(orientation) for volume in two_spots())
    return VolumeSeries(image, results={"organs": MaskResult({label: organ})})


class Bright(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([torch.zeros_like(x), x - 0.5], dim=1)


@pytest.fixture
def bright(tmp_path: Path) -> Path:
    path = tmp_path / "bright.pt"
    torch.jit.script(Bright()).save(str(path))
    return path


def load(path: Path, **options: Any) -> Any:
    spot = {"channel": 1, "label": "Spot", "category": ["49755003", "SCT", "Morphologically Altered Structure"]}
    given = {
        "sha256": content_digest(path),
        "name": "Bright",
        "version": "1",
        "modality": "CT",
        "spacing_mm": [2.0, 1.0, 1.5],
        "window": [0, 100],
        "roi": [16, 16, 16],
        "segments": [{**spot, "type": ["52988006", "SCT", "Lesion"]}],
        **options,
    }
    return create(weights=path, device="cpu", options=given)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_a_model_file_sees_the_box_around_the_organ_only(bright, orientation):
    pipeline = load(bright, crop={"to": ["organs:Liver"], "margin_mm": 4})
    findings = pipeline.run(series(orientation))
    (lesion,) = findings.lesions
    image, organ = two_spots()
    inside = image.with_array(((image.array > 50) & (organ.array > 0)).astype(np.uint8))
    assert lesion.segment.mask.array.shape == (7 + 4, 9 + 8, 8 + 6), "4 mm are 2, 4 and 3 voxels on each side"
    assert same_places(points(lesion.segment.mask), points(inside))
    assert [str(remark) for remark in findings.remarks] == ["Only the part of the images around Liver was analysed."]
    assert json.loads(pipeline.algorithm.parameters["crop"]) == {"to": ["organs:Liver"], "margin_mm": 4.0}


def test_without_the_option_all_is_seen_and_the_identity_is_as_before(bright):
    pipeline = load(bright)
    (lesion,) = pipeline.run(series("HPL")).lesions
    assert len(points(lesion.segment.mask)) == 3 * 4 * 3 + 3 * 5 * 6
    assert "crop" not in pipeline.algorithm.parameters


def test_an_organ_that_was_not_seen_makes_the_series_unsuitable(bright):
    pipeline = load(bright, crop={"to": ["organs:Liver", "organs:Spleen"]})
    with pytest.raises(Unsuitable, match="The model needs Liver, Spleen, which was not outlined"):
        pipeline.run(series("HPL", label="Kidney"))
    assert len(pipeline.run(series("HPL", label="Spleen")).lesions) == 1


def test_a_result_that_the_configuration_does_not_give_is_named_with_the_remedy(bright):
    image, _ = two_spots()
    with pytest.raises(PipelineError, match=r"""'organs:Liver': .* set after = "organs" in the table"""):
        load(bright, crop={"to": ["organs:Liver"]}).run(VolumeSeries(image))


@pytest.mark.parametrize(
    ("crop", "fault"),
    [
        ({"to": ["Liver"]}, "PIPELINE:LABEL"),
        ({"to": []}, "at least 1"),
        ({"to": ["a:b"], "x": 3}, "not permitted"),
    ],
)
def test_a_crop_that_is_none_is_refused(bright, crop, fault):
    with pytest.raises(ValueError, match=fault):
        load(bright, crop=crop)


CONTAINER = {"name": "x", "version": "1", "modality": "CT"}


def test_files_of_dicom_are_not_cropped_and_two_inputs_have_two_files():
    labels = {"labels": {"1": "spot"}}
    for more, fault in (
        ({"contract": "mercure", "crop": {"to": ["organs:Liver"]}}, 'crop needs contract = "plain"'),
        ({**labels, "masks": "dicom"}, 'set input = "dicom" too'),
        ({**labels, "inputs": ["organs:left lung", "organs:left_lung"]}, "a second file organs_left_lung.nii"),
        ({**labels, "inputs": ["image"]}, "a second file image.nii"),
    ):
        with pytest.raises(ValueError, match=fault):
            read_options(ContainerOptions, {**CONTAINER, **more})


@dataclass
class Folders:
    """``Outside`` with a container that notes what it was given and measures one thing."""

    folder: Path
    files: dict[str, tuple[Path, ...]]
    segmentations: dict[str, Path]

    @property
    def inputs(self) -> Path:
        return self.folder / "in"

    @property
    def outputs(self) -> Path:
        return self.folder / "out"

    def call(self) -> None:
        (self.outputs / "result.json").write_text('{"share": 0.5}')


@pytest.mark.parametrize(("masks", "contract"), [("", "mercure"), ("", "map"), ("nifti", "mercure"), ("", "plain")])
def test_a_container_of_dicom_files_gets_the_mask_beside_them(tmp_path, masks, contract):
    images = tuple(write(ct_series(n=2, size=16), tmp_path / "images"))
    segmentation = pydicom.Dataset()
    segmentation.SegmentSequence = [pydicom.Dataset(), pydicom.Dataset()]
    for number, label in enumerate(("Kidney", "Liver"), 1):
        segmentation.SegmentSequence[number - 1].SegmentNumber = number
        segmentation.SegmentSequence[number - 1].SegmentLabel = label
    segmentation.SeriesInstanceUID, segmentation.SOPInstanceUID = "1.2.3", "1.2.3.4"
    segmentation.SOPClassUID = pydicom.uid.SegmentationStorage
    segmentation.file_meta = pydicom.dataset.FileMetaDataset()
    segmentation.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    segmentation.save_as(tmp_path / "seg.dcm", enforce_file_format=True)
    outside = Folders(tmp_path, {"": images}, {"organs": tmp_path / "seg.dcm"})
    for folder in (outside.inputs, outside.outputs):
        folder.mkdir()
    share = {"key": "share", "name": ["X", "99TEST", "Share"], "unit": "1"}
    more = {"contract": contract, "masks": masks, "inputs": ["organs:Liver"], "measurements": [share]}
    options = read_options(
        ContainerOptions, {**CONTAINER, **more, **({"input": "dicom"} if contract == "plain" else {})}
    )
    pipeline = ContainerPipeline(image="x:1", outside=outside, device="cpu", options=options)
    pipeline.run(series("HPL"))
    (said,) = json.loads((outside.inputs / "task.json").read_text())["masks"]
    assert len([*outside.inputs.glob("*.dcm")]) == (2 if masks else 3)
    given = outside.inputs / said["file"]
    if masks:
        assert said == {"name": "organs:Liver", "file": "organs_Liver.nii"}
        assert np.asanyarray(nibabel.load(given).dataobj).sum() == two_spots()[1].array.sum()
        assert pipeline.algorithm.parameters["masks"] == "nifti"
    else:
        assert said == {"name": "organs:Liver", "file": "1.2.3#1.2.3.4.dcm", "segment_number": 2}
        assert given.read_bytes() == (tmp_path / "seg.dcm").read_bytes()
        assert "masks" not in pipeline.algorithm.parameters
    with pytest.raises(Unsuitable, match="The model needs Liver"):
        pipeline.run(series("HPL", label="Lung"))


def test_a_mask_is_a_channel_on_the_grid_of_the_series():
    for orientation in ORIENTATIONS:
        image, mask = channels(series("HPL"), ["this", "organs:Liver"], orientation)
        np.testing.assert_array_equal(mask.affine, image.affine)
        assert set(np.unique(mask.array)) == {0.0, 1.0}
        assert same_places(points(mask), points(two_spots()[1]))
    with pytest.raises(Unsuitable, match="The model needs Lung"):
        channels(series("HPL"), ["this", "organs:Lung"])


@pytest.mark.filterwarnings("default")  # MONAI announces its own deprecations
def test_a_bundle_that_sees_a_box_gives_its_mask_back_in_place(tmp_path):
    folder = write_bundle(tmp_path / "spleen")
    options = {"sha256": content_digest(folder), "crop": {"to": ["organs:Liver"], "margin_mm": 6}}
    pipeline = bundle(weights=folder, device="cpu", options=options)
    index = np.indices((20, 48, 44)) - np.array([9, 20, 24])[:, None, None, None]
    ball = 150 * (np.linalg.norm(index * np.array([2.0, 1.0, 1.5])[:, None, None, None], axis=0) < 12)
    image = volume(ball.astype(np.float32))
    given = VolumeSeries(
        image, results={"organs": MaskResult({"Liver": image.with_array((ball > 0).astype(np.uint8))})}
    )
    (segment,) = pipeline.run(given).segments
    assert segment.mask.array.shape < image.array.shape
    np.testing.assert_allclose(points(segment.mask).mean(axis=0), points(image).mean(axis=0), atol=0.3)
