"""A mask comes back at the patient coordinates where it was drawn, on every grid a scanner makes."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import get_args

import highdicom
import numpy as np
import pytest
from analyses import analysis, box, one, segment, source_of, two_lesions
from dicom_files import AXIAL, CORONAL, SAGITTAL, ct_series, mr_series
from drawn_examples import examples
from enhanced_files import enhanced
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from odd_series import SERIES, flipped_columns, oblique
from pydicom import FileDataset
from pydicom.uid import CTImageStorage, MRImageStorage
from volume_series import points, same_places

from node.errors import EncodeError
from node.pipeline import DerivedSeries, Findings, Map, Volume, codes
from node.results.analysis import Kind, of_part, outcome_of
from node.results.encode import encode
from node.results.gate.check import check, walk
from node.results.headers import frame_key
from node.results.source_grid import place
from node.studies.source import SourceSeries

EVERY = [kind for kind in get_args(Kind) if kind not in ("derived", "rejection")]
DIRECTIONS = ("HPL", "FAR", "PRH", "LHA", "AFL", "RHP", "PLH")


ORIENTATIONS = st.one_of(
    st.sampled_from([AXIAL, CORONAL, SAGITTAL]),
    st.sampled_from([AXIAL, CORONAL, SAGITTAL]).map(flipped_columns),
    st.builds(oblique, st.floats(-40, 40), st.floats(-40, 40)),
)
SPACINGS = st.tuples(*[st.sampled_from([0.45, 0.7, 1.0, 1.25, 2.5])] * 3)


def read_back(source: SourceSeries, mask: Volume) -> Volume:
    objects = encode(analysis(Findings(segments=(segment(mask),))), source)
    check(objects, source)
    seg = highdicom.seg.Segmentation.from_dataset(one(objects, "seg"))
    return seg.get_volume(combine_segments=True)


def images_of(source: SourceSeries) -> dict[tuple[str, int | None], int]:
    """Index of each image of the source by the reference that names it."""
    return {frame_key(d, "SOPInstanceUID"): i for i, d in enumerate(source.datasets)}


def stored_mask(seg: FileDataset, source: SourceSeries) -> np.ndarray:
    """``[image, row, column]``: the frames of a SEG on the images they name and lie on."""
    mask = np.zeros((len(source.datasets), seg.Rows, seg.Columns), bool)
    frames = np.atleast_3d(seg.pixel_array).reshape(-1, seg.Rows, seg.Columns)
    for pixels, group in zip(frames, seg.PerFrameFunctionalGroupsSequence, strict=True):
        index = images_of(source)[frame_key(group.DerivationImageSequence[0].SourceImageSequence[0])]
        position = group.PlanePositionSequence[0].ImagePositionPatient
        assert np.allclose(position, source.datasets[index].ImagePositionPatient, atol=1e-6)
        mask[index] |= pixels.astype(bool)
    return mask


@pytest.mark.parametrize("kind", SERIES)
@settings(max_examples=examples(2, least=1), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    grid=st.fixed_dictionaries(
        {
            "orientation": ORIENTATIONS,
            "spacing": st.tuples(st.sampled_from([1.4, 2.0, 2.5]), *[st.sampled_from([0.45, 0.7, 1.25])] * 2),
        }
    ),
    reverse=st.booleans(),
    direction=st.sampled_from([None, *DIRECTIONS]),
    seed=st.integers(0, 1000),
)
def test_what_is_said_of_a_set_of_voxels_comes_back_on_exactly_these(kind, grid, reverse, direction, seed):
    """A mask of bright voxels is a SEG of exactly the stored pixels that are bright; a copy is a copy of each pixel."""
    with tempfile.TemporaryDirectory() as folder:
        random = np.random.default_rng(seed)
        noise = random.integers(-900, 0, (5, 7, 9))
        bright = random.random(noise.shape) < 0.2
        bright[:, 3, 4] = True
        datasets = ct_series(volume=np.where(bright, noise + 1000, noise), origin=(12.5, -33, 71), **grid)
        for number, dataset in enumerate(datasets[::-1] if reverse else datasets, 1):
            dataset.InstanceNumber = number
        source = source_of(Path(folder), SERIES[kind](datasets))
        volume = source.volume(direction)
        mask = volume.with_array((volume.array > 0).astype(np.uint8))
        copy = DerivedSeries(volume=volume, description="Copy", derivation=codes.DCM.Smoothing)
        objects = encode(analysis(Findings(segments=(segment(mask),), derived=(copy,))), source)
        check(objects, source)
        stored = np.stack(list(source.pixels()))
        assert np.array_equal(stored_mask(one(objects, "seg"), source), stored > 0)
        derived = [o.dataset for o in objects if o.kind == "derived"]
        assert len(derived) == len(source.datasets)
        for image in derived:
            index = images_of(source)[frame_key(image.SourceImageSequence[0])]
            assert np.array_equal(image.pixel_array.astype(int) - 1024, stored[index])
            assert image.SOPClassUID == CTImageStorage


def named_in(image: FileDataset) -> set[str]:
    """The instances in its Common Instance Reference."""
    listed = [i.ReferencedSOPInstanceUID for s in image.ReferencedSeriesSequence for i in s.ReferencedInstanceSequence]
    assert len(set(listed)) == len(listed)
    return set(listed)


@pytest.mark.thorough
@pytest.mark.parametrize("kind", SERIES)
def test_a_map_has_the_values_of_the_pixels_of_the_images_and_every_other_object_is_valid_too(tmp_path, kind):
    source = source_of(tmp_path, SERIES[kind](ct_series(6, 32)))
    grid = source.volume("HPL")
    probability = Map(name="m", volume=grid.with_array((grid.array + 1024) / 1000), quantity=codes.DCM.Probability)
    findings = of_part(replace(two_lesions(source), maps=(probability,)), source.left_out)
    objects = encode(analysis(findings), source, EVERY)
    check(objects, source)
    image = one(objects, "parametric map")
    values = np.frombuffer(image.FloatPixelData, np.float32).reshape(-1, 32, 32)
    assert np.allclose(values, (np.stack(list(source.pixels())) + 1024) / 1000, atol=1e-5)
    places = [f.PlanePositionSequence[0].ImagePositionPatient for f in image.PerFrameFunctionalGroupsSequence]
    assert np.allclose(places, [d.ImagePositionPatient for d in source.datasets], atol=1e-6)
    named = [
        frame_key(f.DerivationImageSequence[0].SourceImageSequence[0]) for f in image.PerFrameFunctionalGroupsSequence
    ]
    assert named == [frame_key(d, "SOPInstanceUID") for d in source.datasets]
    labels, binary = one(objects, "labelmap"), one(objects, "seg")
    assert labels.SegmentationType == "LABELMAP"
    assert np.array_equal(stored_mask(labels, source), stored_mask(binary, source))
    assert named_in(labels) == named_in(image) == {str(d.SOPInstanceUID) for d in source.datasets}
    largest = {frame_key(d.dataset.SourceImageSequence[0]) for d in objects if d.kind == "key images"}
    state, document = one(objects, "presentation state"), one(objects, "key object selection")
    assert {frame_key(a.ReferencedImageSequence[0]) for a in state.GraphicAnnotationSequence} == largest
    assert {frame_key(w.ReferencedImageSequence[0]) for w in state.SoftcopyVOILUTSequence} == largest
    chosen = {frame_key(i.ReferencedSOPSequence[0]) for i in walk(document) if i.get("ValueType") == "IMAGE"}
    assert chosen == largest


@pytest.mark.parametrize("kind", ["a slice missing", "a position twice", "an image of another orientation"])
def test_a_result_of_a_part_of_the_series_names_the_images_of_that_part_only(tmp_path, kind):
    source = source_of(tmp_path, SERIES[kind](ct_series(6, 16)))
    findings = Findings(segments=(segment(box(source.volume(), (0, 2, 2), (2, 9, 9))),))
    findings = of_part(findings, source.left_out)
    objects = encode(analysis(findings, outcome=outcome_of(findings), reason=findings.partial), source)
    check(objects, source)
    report = one(objects, "sr")
    named = {
        str(r.ReferencedSOPInstanceUID)
        for s in report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
        for r in s.ReferencedSOPSequence
    }
    assert named - {str(one(objects, "seg").SOPInstanceUID)} == {str(d.SOPInstanceUID) for d in source.datasets}
    assert source.left_out
    assert any(source.left_out in str(i.get("TextValue", "")) for i in walk(report))


@pytest.mark.thorough
def test_results_across_a_missing_image_lie_on_the_images_that_exist(tmp_path):
    voxels = np.add.outer(np.arange(120) * 10, np.zeros((12, 12)))
    images = mr_series(volume=voxels, spacing=(1.0, 1.0, 1.0), orientation=SAGITTAL)
    del images[60]
    source = source_of(tmp_path, images)
    volume = source.volume()
    assert volume.spatial_shape == (120, 12, 12)
    assert (volume.array[:, 3, 3] == np.arange(120) * 10).all(), "the missing one is the mean of its neighbours"
    mask = box(volume, (55, 2, 2), (66, 6, 6))
    copy = DerivedSeries(volume=volume, description="Copy", derivation=codes.DCM.Smoothing)
    heat = Map(name="Heat", volume=volume, quantity=codes.DCM.Probability)
    findings = of_part(Findings(segments=(segment(mask),), derived=(copy,), maps=(heat,)), source.left_out)
    kinds = ["seg", "labelmap", "sr", "derived", "parametric map", "key images", "pdf"]
    objects = encode(analysis(findings, outcome=outcome_of(findings), reason=findings.partial), source, kinds)
    check(objects, source)
    seg = one(objects, "seg")
    assert seg.NumberOfFrames == 10
    stored = stored_mask(seg, source)
    assert [i for i in range(119) if stored[i].any()] == [*range(55, 65)]
    assert stored[55:65, 2:6, 2:6].all()
    derived = [instance.dataset for instance in objects if instance.kind == "derived"]
    assert len(derived) == 119
    for image, new in zip(source.datasets, derived, strict=True):
        assert new.ImagePositionPatient == image.ImagePositionPatient
    assert [int(d.pixel_array[0, 0]) for d in derived] == [k * 10 for k in range(120) if k != 60]
    volumes = [
        float(i.MeasuredValueSequence[0].NumericValue)
        for i in walk(one(objects, "sr"))
        if i.get("ValueType") == "NUM" and i.ConceptNameCodeSequence[0].CodeMeaning == "Volume"
    ]
    assert volumes == [176.0], "with the slice that was interpolated: the report says so"
    assert any("interpolated between the neighbours" in str(i.get("TextValue", "")) for i in walk(one(objects, "sr")))


def test_a_lesion_in_a_frame_is_referred_to_by_its_frame_number(tmp_path):
    source = source_of(tmp_path, enhanced(ct_series(5, 32), shuffle=1))
    objects = encode(analysis(two_lesions(source)), source)
    check(objects, source)
    seg = one(objects, "seg")
    frames = {
        int(g.DerivationImageSequence[0].SourceImageSequence[0].ReferencedFrameNumber)
        for g in seg.PerFrameFunctionalGroupsSequence
    }
    assert frames == {int(source.datasets[i].ReferencedFrameNumber) for i in range(4)}
    outline = next(i for i in walk(one(objects, "sr")) if i.get("ValueType") == "SCOORD")
    assert int(outline.ContentSequence[0].ReferencedSOPSequence[0].ReferencedFrameNumber) in frames


def test_a_derived_mr_of_an_enhanced_one_is_a_series_of_single_images(tmp_path):
    images = mr_series(4, 16)
    (whole,) = enhanced(images)
    whole.EchoPulseSequence, whole.SegmentedKSpaceTraversal = "SPIN", "PARTIAL"
    source = source_of(tmp_path, [whole])
    copy = DerivedSeries(volume=source.volume("HPL"), description="Copy", derivation=codes.DCM.Smoothing)
    objects = encode(analysis(Findings(derived=(copy,))), source)
    check(objects, source)
    for number, (encoded_object, image) in enumerate(zip(objects, images, strict=True), 1):
        derived = encoded_object.dataset
        assert (derived.SOPClassUID, derived.InstanceNumber) == (MRImageStorage, number)
        assert (list(derived.ScanningSequence), derived.SequenceVariant) == (
            ["SE", "IR"],
            "SK",
        )  # it has an Inversion Time
        assert np.array_equal(derived.pixel_array, image.pixel_array)
        assert "PerFrameFunctionalGroupsSequence" not in derived


@settings(max_examples=examples(25), deadline=None)
@given(orientation=ORIENTATIONS, direction=st.sampled_from(DIRECTIONS), low=st.tuples(*[st.integers(0, 2)] * 3))
def test_a_cropped_mask_lies_where_it_was_drawn(orientation, direction, low):
    with tempfile.TemporaryDirectory() as folder:
        source = source_of(Path(folder), ct_series(volume=np.zeros((6, 7, 8), int), orientation=orientation))
        grid = source.volume(direction)
        part = grid[tuple(slice(a, a + 4) for a in low)]
        drawn = part.with_array(np.ones(part.spatial_shape, np.uint8))
        drawn.array[0, 1, 2] = 0
        assert same_places(points(read_back(source, drawn)), points(drawn))


def test_a_padded_mask_keeps_what_lies_on_the_images(tmp_path):
    source = source_of(tmp_path, ct_series(volume=np.zeros((4, 6, 8), int)))
    grid = source.volume("HPL")
    padded = grid.pad(3)
    drawn = padded.with_array(np.ones(padded.spatial_shape, np.uint8))
    assert same_places(points(read_back(source, drawn)), points(grid.with_array(np.ones(grid.spatial_shape, np.uint8))))


@settings(max_examples=examples(25), deadline=None)
@given(
    orientation=ORIENTATIONS,
    step=st.sampled_from([0.5, 0.8, 1.3]),
    centre=st.tuples(*[st.floats(-4, 4)] * 3),
    radius=st.floats(5, 8),
)
def test_a_resampled_ball_keeps_its_place_and_volume(orientation, step, centre, radius):
    with tempfile.TemporaryDirectory() as folder:
        source = source_of(
            Path(folder),
            ct_series(volume=np.zeros((24, 32, 32), int), spacing=(1.2, 1.0, 1.0), orientation=orientation),
        )
        grid = source.geometry
        middle = (grid.affine @ [12, 16, 16, 1])[:3] + centre
        size = int(40 / step)
        affine = np.diag([-step, step, -step, 1.0])[[2, 1, 0, 3]]  # its own axes: neither the source's nor HPL
        affine[:3, 3] = middle - affine[:3, :3] @ np.full(3, size / 2)
        index = np.stack(np.meshgrid(*[np.arange(size)] * 3, indexing="ij"), axis=-1)
        distance = np.linalg.norm(index @ affine[:3, :3].T + affine[:3, 3] - middle, axis=-1)
        ball = Volume((distance < radius).astype(np.uint8), affine, coordinate_system="PATIENT")
        placed = place(ball, grid, "ball")
        voxels = np.argwhere(placed.voxels) + [s.start for s in placed.box]
        centroid = (voxels @ grid.affine[:3, :3].T + grid.affine[:3, 3]).mean(axis=0)
        assert np.linalg.norm(centroid - middle) < max(1.2, step) / 2  # half of the coarser voxel
        volume = len(voxels) * abs(np.linalg.det(grid.affine[:3, :3]))
        assert volume == pytest.approx(np.count_nonzero(ball.array) * step**3, rel=0.15)


def test_a_mask_of_another_frame_of_reference_is_refused(tmp_path):
    source = source_of(tmp_path, ct_series(3, 8))
    other = Volume(
        np.ones((3, 8, 8), np.uint8),
        source.geometry.affine,
        coordinate_system="PATIENT",
        frame_of_reference_uid="1.2.3",
    )
    with pytest.raises(EncodeError, match="another frame of reference"):
        place(other, source.geometry, "Nodule 1")


@pytest.mark.parametrize("direction", [None, *DIRECTIONS])
def test_derived_pixels_lie_where_they_were_computed(tmp_path, direction):
    hu = np.random.default_rng(5).integers(-900, 900, (4, 6, 9))
    source = source_of(tmp_path, ct_series(volume=hu, orientation=SAGITTAL, spacing=(2.0, 0.5, 0.8)))
    grid = source.volume(direction)
    series = DerivedSeries(volume=grid, description="Copy", derivation=codes.DCM.Smoothing)
    objects = encode(analysis(Findings(derived=(series,))), source)
    check(objects, source)
    for encoded_object, image in zip(objects, hu, strict=True):
        assert np.array_equal(encoded_object.dataset.pixel_array.astype(int) - 1024, image)


def test_derived_pixels_of_another_grid_are_refused_with_the_remedy(tmp_path):
    source = source_of(tmp_path, ct_series(4, 8))
    affine = source.geometry.affine.copy()
    affine[:3, :3] *= 2
    coarse = Volume(np.zeros((2, 4, 4), np.float32), affine, coordinate_system="PATIENT")
    series = DerivedSeries(volume=coarse, description="Coarse", derivation=codes.DCM.Smoothing)
    with pytest.raises(EncodeError, match="resample it to the voxels"):
        encode(analysis(Findings(derived=(series,))), source)
