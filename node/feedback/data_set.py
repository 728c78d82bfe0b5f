"""A training data set of verified cases in the form of nnU-Net v2, with splits by patient and a data card."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from node import __version__
from node.confined import Bounds, ConfinedProcess
from node.errors import InputError
from node.feedback.acceptance import SIZES_MM
from node.feedback.case_export import ExportedCase, ExportFiles, export_case, segment_types
from node.feedback.truth_comparison import diameter_mm
from node.feedback.verified_cases import VerifiedCase, VerifiedCases, read_verified_cases
from node.ledger.engine import begin_immediate
from node.ledger.patient_hash import patient_hash
from node.ledger.verdict import Verdict
from node.spool import Spool
from node.studies.folder import Progress

FOLDS = 5
_BOUNDS = Bounds(memory_mib=8192, cpu_seconds=300, wall_seconds=900.0)
_ID_LENGTH = 16


@dataclass(frozen=True, kw_only=True)
class SetCase:
    """A case of the data set."""

    name: str
    patient: str
    """Keyed hash."""
    verified: VerifiedCase
    exported: ExportedCase


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """What was written."""

    cases: tuple[SetCase, ...]
    labels: dict[str, int]
    """Value of the maps by name."""
    left_out: dict[str, int]


def export_data_set(engine: sa.Engine, spool: Spool, pipeline: str, folder: Path, progress: Progress) -> DataSet:
    """Write the verified cases of a pipeline to an empty or new folder.

    Raises ``InputError`` when it holds something, when no case can be written, or the modalities differ.
    """
    if folder.exists() and any(folder.iterdir()):
        raise InputError(f"{folder} is not empty; give a new folder")
    verified = read_verified_cases(engine, spool, pipeline)
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    process = ConfinedProcess(
        "export of cases", readable=spool.data_folders, writable=[folder.absolute()], bounds=_BOUNDS
    )
    try:
        cases = [case.judged.segmentation for case in verified.cases]
        ours = spool.all_readable(path for path in cases if path is not None)
        types = process.call("segmentations", segment_types, ours) or {"": "lesion"}
        written = _written(_Writer(engine, process, folder.absolute(), types), verified, progress)
    finally:
        process.close()
    if not written.cases:
        raise InputError(f"none of {len(verified.cases)} verified cases can be exported: {_counted(written.left_out)}")
    modalities = {case.exported.modality for case in written.cases}
    if len(modalities) > 1:
        raise InputError(f"the cases are of several modalities ({', '.join(sorted(modalities))}): no data set of one")
    _describe(pipeline, written, folder, modalities.pop())
    return written


class _Writer:
    """Writes cases one by one."""

    def __init__(self, engine: sa.Engine, process: ConfinedProcess, folder: Path, types: Mapping[str, str]) -> None:
        """``types``: meaning of each property type by code."""
        self._engine = engine
        self._process = process
        self._folder = folder
        self._values = {code: number for number, code in enumerate(sorted(types, key=lambda code: types[code]), 1)}
        self.labels = {types[code]: value for code, value in self._values.items()}

    def write(self, verified: VerifiedCase) -> SetCase:
        """Write a case under a name that says nothing of it. Raises ``InputError``."""
        image, label = self._folder / "image.part.nii.gz", self._folder / "map.part.nii.gz"
        files = ExportFiles(
            images=verified.case.images, parts=verified.case.parts, labels=self._values, image=image, map=label
        )
        exported = self._process.call(f"series {verified.case.series_instance_uid}", export_case, files)
        with begin_immediate(self._engine) as connection:
            patient = patient_hash(connection, exported.patient)[:_ID_LENGTH]
            name = f"case_{patient_hash(connection, verified.case.series_instance_uid)[:_ID_LENGTH]}"
        image.replace(self._folder / "imagesTr" / f"{name}_0000.nii.gz")
        label.replace(self._folder / "labelsTr" / f"{name}.nii.gz")
        return SetCase(name=name, patient=patient, verified=verified, exported=exported)

    def tidy(self) -> None:
        """Remove what a case that could not be written left behind."""
        for path in self._folder.glob("*.part.nii.gz"):
            path.unlink()


def _written(writer: _Writer, verified: VerifiedCases, progress: Progress) -> DataSet:
    cases: list[SetCase] = []
    left_out = Counter(verified.left_out)
    for number, case in enumerate(verified.cases):
        progress(f"case {number + 1} of {len(verified.cases)}", number, len(verified.cases))
        try:
            cases.append(writer.write(case))
        except InputError as error:
            left_out[str(error)] += 1
            writer.tidy()
    progress("done", len(verified.cases), len(verified.cases))
    return DataSet(cases=tuple(cases), labels=writer.labels, left_out=dict(left_out))


def _describe(pipeline: str, written: DataSet, folder: Path, modality: str) -> None:
    document = {
        "channel_names": {"0": modality},
        "labels": {"background": 0, **written.labels},
        "numTraining": len(written.cases),
        "file_ending": ".nii.gz",
        "name": pipeline,
        "description": "Cases that radiologists have verified; see DATA_CARD.md",
    }
    splits = splits_by_patient({case.name: case.patient for case in written.cases})
    if splits:
        _save_json(folder / "splits_final.json", splits)
    (folder / "DATA_CARD.md").write_text(data_card(pipeline, written, modality), encoding="utf-8")
    _save_json(folder / "dataset.json", document)  # the last: with it the set is whole


def _save_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def splits_by_patient(patients: Mapping[str, str]) -> list[dict[str, list[str]]]:
    """Folds for cross-validation, no patient in both parts of one; none of a single patient.

    ``patients``: by case. Those with most cases are dealt first, each to the fold with the fewest cases.
    """
    cases: dict[str, list[str]] = {}
    for case, patient in sorted(patients.items()):
        cases.setdefault(patient, []).append(case)
    number = min(FOLDS, len(cases))
    if number < 2:
        return []
    folds: list[list[str]] = [[] for _ in range(number)]
    for _, own in sorted(cases.items(), key=lambda item: (-len(item[1]), item[0])):
        min(folds, key=len).extend(own)
    return [
        {"train": sorted(case for other in folds if other is not fold for case in other), "val": sorted(fold)}
        for fold in folds
    ]


def data_card(pipeline: str, written: DataSet, modality: str) -> str:
    """Return what the set is, for whoever trains on it: counts, scanners, sources, dates as months, and its bias."""
    cases = written.cases
    verdicts = [verdict for case in cases for verdict in case.verified.judged.verdicts]
    given = Counter(verdict.verdict for verdict in verdicts)
    months = sorted(datetime.fromtimestamp(case.verified.judged.at, UTC).strftime("%Y-%m") for case in cases)
    diameters = [diameter_mm(volume) for case in cases for volume in case.exported.volumes_mm3]
    bounds = (0.0, *SIZES_MM, float("inf"))
    bands = [(low, high, sum(low <= diameter < high for diameter in diameters)) for low, high in pairwise(bounds)]
    sections: dict[str, Mapping[str, object]] = {
        "Cases": {
            "cases": len(cases),
            "patients": len({case.patient for case in cases}),
            "without a lesion": sum(not case.exported.volumes_mm3 for case in cases),
            "modality": modality,
            "analysed": f"{months[0]} to {months[-1]}",
            "voxels of several lesions": sum(case.exported.overlapping for case in cases),
        },
        "Lesions": {"all": len(diameters)}
        | {
            f"{low:g} mm and more" if high == bounds[-1] else f"{low:g} to {high:g} mm": number
            for low, high, number in bands
        },
        "Verdicts": {str(name): given[name] for name in Verdict},
        "Read in": dict(Counter(verdict.kind for verdict in verdicts)),
        "Readers": {"readers (keyed hashes)": len({verdict.reader for verdict in verdicts if verdict.reader})},
        "Scanners": dict(Counter(case.exported.scanner or "not named" for case in cases).most_common()),
        "Versions of the pipeline": dict(Counter(case.verified.judged.version or "not known" for case in cases)),
        "Left out": written.left_out,
    }
    lines = [
        f"# Data card: verified cases of {pipeline}",
        "",
        "Truth is what radiologists kept, corrected and added in the results of this pipeline. They started from its",
        "outlines, and judged the studies that they chose to judge: the set favours what the pipeline finds.",
        "",
        "Files hold voxels and geometry, no header of DICOM. They are not anonymous: an image of a head shows a face,",
        "and whoever has the node's key can link names of cases to patients. Treat them as the hospital's rules for",
        "pseudonymous health data say.",
        "",
    ]
    for title, rows in sections.items():
        if rows:
            lines += [
                f"## {title}",
                "",
                "| | |",
                "|---|---|",
                *(f"| {name} | {value} |" for name, value in rows.items()),
                "",
            ]
    return "\n".join([*lines, f"Written by ainode {__version__}.", ""])


def _counted(reasons: Mapping[str, int]) -> str:
    return "; ".join(f"{number}: {why}" for why, number in reasons.items())


def as_text(written: DataSet, folder: Path) -> str:
    """Return what was written, for a terminal."""
    cases: Sequence[SetCase] = written.cases
    lesions = sum(len(case.exported.volumes_mm3) for case in cases)
    patients = len({case.patient for case in cases})
    lines = [f"{folder}: {len(cases)} cases with {lesions} lesions, patients: {patients}; DATA_CARD.md describes them"]
    lines += [f"  left out, {number}: {why}" for why, number in written.left_out.items()]
    if not splits_by_patient({case.name: case.patient for case in cases}):
        lines.append("  no splits: they need two patients")
    return "\n".join(lines)
