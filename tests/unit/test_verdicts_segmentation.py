"""An edited segmentation that comes back: kept, changed, missing and new lesions, and objects that are no verdict."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from dicom_files import ct_series
from pydicom import Dataset, FileDataset
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid
from reader_edits import cube, workstation_seg
from reader_site import Site

from node.ledger.engine import begin_immediate
from node.ledger.events import EventKind
from node.ledger.retention import purge_study
from node.ledger.tables import event, reader_object, series, verdict
from node.operate.explain import explain
from node.operate.explain_text import describe
from node.reasons import ReasonCode
from node.studies.source import SourceSeries


def edited(site: Site, **options: object) -> FileDataset:
    """Nodule 1 with one row less, Nodule 2 gone, and a lesion that the node did not report."""
    changed = site.masks["Nodule 1"].copy()
    changed[:, 10, :] = 0
    new = cube(changed.shape, (0, 24, 24), (3, 28, 29))
    return workstation_seg(site.source, {"A": changed, "C": new}, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["BINARY", "LABELMAP"])
def test_a_changed_a_missing_and_a_new_segment_are_told_apart_by_overlap(site: Site, kind: str):
    dataset = edited(site, kind=kind)
    verdicts = site.collect(dataset)
    assert {name: row.verdict for name, row in verdicts.items()} == {
        "Nodule 1": "edited",
        "Nodule 2": "rejected",
        "segment 2": "added",
    }
    ours, theirs = site.masks["Nodule 1"], site.masks["Nodule 1"].copy()
    theirs[:, 10, :] = 0
    row = verdicts["Nodule 1"]
    assert row.matched_by == "overlap"
    assert row.dice == pytest.approx(2 * (ours & theirs).sum() / (ours.sum() + theirs.sum()))
    step = np.linalg.norm(site.source.grid.affine[:3, :3], axis=0)
    stacked = (np.stack([mask, 1 - mask])[None].astype(np.float32) for mask in (theirs, ours))
    from monai.metrics import compute_hausdorff_distance  # not for every worker that collects

    independent = compute_hausdorff_distance(*stacked, include_background=True, percentile=95, spacing=step.tolist())
    assert row.hd95_mm == pytest.approx(float(independent[0, 0]), abs=1e-4)
    assert row.volume_mm3 == pytest.approx(ours.sum() * np.prod(step))
    assert row.reader_volume_mm3 == pytest.approx(theirs.sum() * np.prod(step))
    assert verdicts["segment 2"].reader_volume_mm3 == pytest.approx(3 * 4 * 5 * np.prod(step))
    assert row.job_id == site.job_id
    assert row.source == dataset.SOPInstanceUID
    assert row.given_at == 5000.0
    assert len(row.reader) == 16
    assert "Rita" not in str(list(verdicts.values()))
    with site.engine.connect() as connection:
        assert connection.scalar(sa.select(event.c.kind).where(event.c.kind == EventKind.VERDICTS)) is not None
    assert "1 edited, 1 rejected, 1 added" in describe(explain(site.engine, site.study))


def as_ohif_exports(dataset: FileDataset) -> FileDataset:
    """A label map as OHIF 3.13.2 stores it: of nobody, no code but "Tissue", images without their SOP class."""
    tissue = Dataset()
    tissue.CodeValue, tissue.CodingSchemeDesignator, tissue.CodeMeaning = "T-D0050", "SRT", "Tissue"
    dataset.SegmentSequence = [item for item in dataset.SegmentSequence if item.SegmentNumber]
    for item in dataset.SegmentSequence:
        item.SegmentedPropertyCategoryCodeSequence = item.SegmentedPropertyTypeCodeSequence = [tissue]
        item.SegmentAlgorithmType, item.SegmentAlgorithmName = "MANUAL", "OHIF Brush"
    (orientation,) = dataset.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence
    for groups in dataset.PerFrameFunctionalGroupsSequence:
        del groups.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPClassUID
        groups.PlaneOrientationSequence = [orientation]
        if "FrameContentSequence" in groups:
            del groups.FrameContentSequence
    dataset.Manufacturer = dataset.ManufacturerModelName = "Unspecified"
    dataset.ContentCreatorName = ""
    return dataset


def test_a_label_map_with_the_traits_of_ohif_is_read_and_names_nobody(site: Site):
    verdicts = site.collect(as_ohif_exports(edited(site, kind="LABELMAP")))
    assert {name: (row.verdict, row.reader) for name, row in verdicts.items()} == {
        "Nodule 1": ("edited", ""),
        "Nodule 2": ("rejected", ""),
        "segment 2": ("added", ""),
    }


def test_what_a_reader_left_as_it_was_is_accepted(site: Site):
    verdicts = site.collect(workstation_seg(site.source, site.masks))
    assert {name: row.verdict for name, row in verdicts.items()} == {"Nodule 1": "accepted", "Nodule 2": "accepted"}
    assert {row.dice for row in verdicts.values()} == {None}


def test_the_tracking_uid_counts_before_the_overlap(site: Site):
    masks = {"Nodule 1": site.masks["Nodule 2"], "Nodule 2": site.masks["Nodule 1"]}
    verdicts = site.collect(workstation_seg(site.source, masks, tracking=site.tracking))
    assert {name: (row.verdict, row.matched_by, row.dice) for name, row in verdicts.items()} == {
        "Nodule 1": ("edited", "Tracking UID", 0.0),
        "Nodule 2": ("edited", "Tracking UID", 0.0),
    }


def test_segments_that_hardly_overlap_are_two_lesions(site: Site):
    ours = site.masks["Nodule 1"]
    far = cube(ours.shape, (0, 15, 19), (5, 30, 30))  # shares one row of one column with it
    verdicts = site.collect(workstation_seg(site.source, {"A": far, "B": site.masks["Nodule 2"]}))
    assert {name: row.verdict for name, row in verdicts.items()} == {
        "Nodule 1": "rejected",
        "Nodule 2": "accepted",
        "segment 1": "added",
    }


def test_frames_that_name_no_image_are_placed_by_their_position(site: Site):
    dataset = edited(site)
    for groups in dataset.PerFrameFunctionalGroupsSequence:
        del groups.DerivationImageSequence
    assert {row.verdict for row in site.collect(dataset).values()} == {"edited", "rejected", "added"}


@pytest.mark.thorough
def test_an_object_counts_once_and_a_later_one_takes_its_place(site: Site):
    dataset = edited(site)
    first = site.collect(dataset)
    assert site.look() == 0
    second = site.collect(workstation_seg(site.source, site.masks, reader="Other^Reader"), at=6000.0)
    assert {row.verdict for row in second.values()} == {"accepted"}
    assert set(second) == {"Nodule 1", "Nodule 2"}
    assert first["Nodule 1"].reader != second["Nodule 1"].reader
    with site.engine.connect() as connection:
        old = connection.execute(sa.select(verdict).where(verdict.c.source == dataset.SOPInstanceUID)).all()
    assert [row.superseded_at for row in old] == [6000.0] * 3


def test_a_reader_who_names_nobody_has_no_hash(site: Site):
    assert {row.reader for row in site.collect(edited(site, reader="")).values()} == {""}


def _of_this_software(dataset: FileDataset, _site: Site) -> None:
    dataset.Manufacturer = _site.seg.Manufacturer


def _of_another_patient(dataset: FileDataset, _site: Site) -> None:
    dataset.PatientID = "SOMEBODY-ELSE"


def _of_another_series(dataset: FileDataset, _site: Site) -> None:
    dataset.ReferencedSeriesSequence[0].SeriesInstanceUID = generate_uid()


def _cut(dataset: FileDataset, _site: Site) -> None:
    dataset.PixelData = dataset.PixelData[: len(dataset.PixelData) // 2]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (_of_this_software, ReasonCode.OF_THIS_SOFTWARE),
        (_of_another_patient, ReasonCode.OF_ANOTHER_PATIENT),
        (_of_another_series, ReasonCode.OF_OTHER_IMAGES),
        (_cut, ReasonCode.UNREADABLE_OBJECT),
    ],
)
def test_an_object_that_is_no_verdict_is_left_alone(
    site: Site, change: Callable[[FileDataset, Site], None], why: ReasonCode
):
    dataset = edited(site)
    change(dataset, site)
    assert site.refusal(dataset) == why
    assert "no verdict" in describe(explain(site.engine, site.study))


def test_a_segmentation_by_another_algorithm_is_no_verdict(site: Site):
    assert site.refusal(edited(site, algorithm="AUTOMATIC", tracking=site.tracking)) == ReasonCode.OF_AN_ALGORITHM


def test_segments_elsewhere_are_no_verdict_on_ours(site: Site):
    lung = cube(site.masks["Nodule 1"].shape, (0, 24, 24), (3, 28, 29))
    assert site.refusal(workstation_seg(site.source, {"Lung": lung})) == ReasonCode.OF_OTHER_FINDINGS


def test_deleting_every_segment_is_seen_when_the_object_names_ours(site: Site):
    dataset = workstation_seg(site.source, {"New": cube(site.masks["Nodule 1"].shape, (0, 24, 24), (3, 28, 29))})
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = site.seg.SOPClassUID, site.seg.SOPInstanceUID
    dataset.ReferencedSeriesSequence[0].ReferencedInstanceSequence.append(item)
    verdicts = site.collect(dataset)
    assert {name: row.verdict for name, row in verdicts.items()} == {
        "Nodule 1": "rejected",
        "Nodule 2": "rejected",
        "segment 1": "added",
    }


def test_an_organ_in_the_same_object_is_no_missed_lesion(site: Site):
    masks = {**site.masks, "Lung": cube(site.masks["Nodule 1"].shape, (0, 24, 24), (3, 28, 29))}
    dataset = workstation_seg(site.source, masks)
    organ = dataset.SegmentSequence[2]
    organ.SegmentedPropertyCategoryCodeSequence[0].CodeValue = codes.SCT.AnatomicalStructure.value
    organ.SegmentedPropertyTypeCodeSequence[0].CodeValue = codes.SCT.Lung.value
    assert set(site.collect(dataset)) == {"Nodule 1", "Nodule 2"}


def test_own_results_that_come_back_are_not_even_looked_at(site: Site):
    site.receive(site.seg)
    assert site.look() == 0


def test_a_segmentation_in_a_study_without_results_is_not_looked_at(site: Site, tmp_path: Path):
    images = ct_series(4, 32)
    paths = []
    for number, image in enumerate(images):
        image.save_as(tmp_path / f"{number}.dcm", enforce_file_format=True)
        paths.append(tmp_path / f"{number}.dcm")
    source = SourceSeries.read(paths)
    site.receive(workstation_seg(source, {"A": cube((4, 32, 32), (0, 3, 3), (2, 8, 8))}))
    assert site.look() == 0


def test_verdicts_outlive_their_study_and_what_was_read_does_not(site: Site):
    site.collect(edited(site))
    with begin_immediate(site.engine) as connection:
        connection.execute(series.update().values(state="COMPLETE"))
        assert purge_study(connection, site.study).jobs
        assert connection.scalar(sa.select(sa.func.count()).select_from(reader_object)) == 0
    assert len(site.verdicts()) == 3
    with site.engine.connect() as connection:
        assert site.study not in str(connection.execute(sa.select(verdict)).all())
