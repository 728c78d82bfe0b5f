"""Every kind of object that the node writes, of any series and with every outcome: what validators are run on.

    python tests/support/every_object.py OUT [FOLDER ...]

writes, for each series below the folders, or for synthetic ones, ``OUT/SERIES/images`` (what was analysed) and
``OUT/SERIES/results``, at last a note for each reason to withdraw them all.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import numpy as np
from analyses import OUTCOMES, analysis, source_of
from dicom_files import AXIAL, CORONAL, SAGITTAL, ct_series, mr_series
from enhanced_files import enhanced
from odd_series import SERIES, flipped_columns, oblique, tilted
from pydicom import FileDataset

from node.config import ObjectKind
from node.errors import InputError
from node.pipeline import Code, DerivedSeries, Findings, Lesion, Map, Segment, Unsuitable, Volume, codes
from node.results.analysis import EncodedObject, Kind, of_part
from node.results.encode import encode
from node.results.gate.check import check, check_rejection
from node.results.rejection import REJECTIONS, encode_rejection
from node.studies.folder import series_below
from node.studies.source import SourceSeries

EVERY = tuple(kind for kind in get_args(Kind) if kind not in ("rejection", "image seg"))
"""Every kind that an analysis of a volume can have."""
_BESIDE = frozenset(get_args(ObjectKind)) - {"seg", "labelmap", "sr"}
PROFILES = (_BESIDE | {"seg", "sr"}, _BESIDE | {"labelmap", "sr on labelmap"}, _BESIDE | {"sr alone"})
"""What three destinations get: a report names only what goes wherever it goes itself."""
_TEXTURE = {Code("C41144", "NCIt", "Texture"): Code("RID50151", "RADLEX", "solid pulmonary nodule")}


def _sparse(datasets: list[FileDataset]) -> list[FileDataset]:
    """With a header that says little of the patient, and in attributes that are retired."""
    for dataset in datasets:
        del dataset.BodyPartExamined
        dataset.Laterality = dataset.EthnicGroup = ""
    return datasets


SYNTHETIC = {
    "axial": lambda: ct_series(8, 48, orientation=AXIAL),
    "coronal": lambda: ct_series(8, 48, orientation=CORONAL),
    "sagittal": lambda: ct_series(8, 48, orientation=SAGITTAL),
    "oblique": lambda: ct_series(8, 48, orientation=oblique(17, 8)),
    "reversed": lambda: _sparse(ct_series(8, 48, orientation=flipped_columns(AXIAL))),
    "not-square": lambda: mr_series(8, volume=np.full((8, 40, 56), 300), spacing=(3.0, 1.1, 0.6)),
    "tilted": lambda: tilted(ct_series(8, 48), 0.61),
    "gap": lambda: SERIES["a slice missing"](ct_series(8, 48)),
    "frames-of-reference": lambda: SERIES["another frame of reference in every image"](ct_series(8, 48)),
    "mr": lambda: mr_series(8, 48),
    "enhanced-ct": lambda: enhanced(ct_series(8, 48)),
    "enhanced-mr": lambda: enhanced(mr_series(8, 48), shuffle=2),
}
"""Makers of series by name."""


def _ball(grid: Volume, at: tuple[float, float, float], radius: float) -> Volume:
    """``at`` and ``radius`` in parts of the volume's extent along each axis: an ellipsoid."""
    size = np.array(grid.spatial_shape)
    index = np.moveaxis(np.indices(grid.spatial_shape), 0, -1)
    inside = (((index + 0.5) / size - at) ** 2).sum(-1) < radius**2
    return grid.with_array(inside.astype(np.uint8))


def everything(source: SourceSeries) -> Findings:
    """Two lesions, an organ beside them, a derived series and a map."""
    grid = source.volume("HPL")
    chest = source.modality == "CT"
    kind = {"category": codes.SCT.MorphologicallyAbnormalStructure, "type": codes.SCT.Nodule}
    organ = codes.SCT.Lung if chest else codes.SCT.Brain
    first = Segment(label="Nodule 1", mask=_ball(grid, (0.4, 0.5, 0.7), 0.09), **kind)
    second = Segment(label="Nodule 2", mask=_ball(grid, (0.6, 0.5, 0.3), 0.12), **kind)
    whole = Segment(
        label="Organ",
        mask=_ball(grid, (0.5, 0.2, 0.5), 0.15),
        category=codes.SCT.AnatomicalStructure,
        type=organ,
        colour=(80, 160, 255),
    )
    heat = _ball(grid, (0.5, 0.5, 0.5), 0.4).array.astype(np.float32) * 0.5
    return of_part(
        Findings(
            lesions=(
                Lesion(
                    segment=first,
                    finding=codes.SCT.Nodule,
                    site=codes.SCT.UpperLobeOfLung if chest else codes.SCT.FrontalLobe,
                    laterality=codes.SCT.Left,
                    probability=0.83,
                    evaluations=_TEXTURE if chest else {},
                ),
                Lesion(segment=second, finding=codes.SCT.Nodule, laterality=codes.SCT.Right),
            ),
            segments=(whole,),
            derived=(
                DerivedSeries(
                    volume=grid.with_array(grid.array * 0.5), description="Halved", derivation=codes.DCM.Smoothing
                ),
            ),
            maps=(Map(name="Probability", volume=grid.with_array(heat), quantity=codes.DCM.Probability),),
            remarks=("Research use only.",),
            evaluations={codes.DCM.ImageQuality: codes.DCM.GoodImageQuality},
        ),
        source.left_out,
    )


def every_object(source: SourceSeries) -> Iterator[tuple[str, tuple[EncodedObject, ...]]]:
    """Of each outcome every kind of object that it has, past the gate."""
    try:
        findings = everything(source)
    except (Unsuitable, InputError):
        findings = None
    if findings is not None:
        objects = encode(analysis(findings), source, EVERY, profiles=PROFILES)
        check(objects, source)
        yield "findings", objects
    for outcome, values in OUTCOMES.items():
        if findings is None and outcome == "no findings":
            continue
        objects = encode(analysis(**values), source, ["sr", "pdf"])
        check(objects, source)
        yield outcome, objects


def write(source: SourceSeries, folder: Path) -> None:
    """``folder/images`` and ``folder/results``."""
    for place in ("images", "results"):
        (folder / place).mkdir(parents=True, exist_ok=True)
    for number, path in enumerate(dict.fromkeys(source.paths)):
        shutil.copyfile(path, folder / "images" / f"{number:04d}.dcm")
    results: list[Path] = []
    for outcome, objects in every_object(source):
        for number, made in enumerate(objects):
            results.append(folder / "results" / f"{outcome}-{number:04d}-{made.kind}.dcm".replace(" ", "-"))
            results[-1].write_bytes(made.data)
    for reason, note in notes(results):
        (folder / "results" / f"rejection-{reason}.dcm").write_bytes(note.data)


def notes(results: list[Path]) -> Iterator[tuple[str, EncodedObject]]:
    """What withdraws all of ``results``, for each reason, past the gate."""
    withdrawn = analysis(outcome="failed", reason="Withdrawn", findings=None)
    for reason in REJECTIONS:
        note = encode_rejection(withdrawn, results, reason)
        check_rejection(note, results)
        yield reason, note


def main(out: Path, folders: list[Path]) -> None:
    for name, make in SYNTHETIC.items() if not folders else ():
        (out / name / "received").mkdir(parents=True)
        write(source_of(out / name / "received", make()), out / name)
    for folder in folders:
        for number, paths in enumerate(series_below([folder], lambda *_: None)[0].values()):
            write(SourceSeries.read(paths), out / f"{folder.parent.name}-{folder.name}-{number}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(folder) for folder in sys.argv[2:]])
