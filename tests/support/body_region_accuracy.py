"""How often the body region of real CT series is right: tables for docs/development/validation.md.

``python tests/support/body_region_accuracy.py FOLDER ...``: each FOLDER has the files of a source, named by a key of
``TRUTH``. No series of them was trained on. The truth is what a look at every slice showed, written down before the
network saw them; ``*`` series of a source are told apart by their number of files.

Attributes are also removed from the slices, one at a time, and Body Part Examined is set to another region.
"""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from pydicom import Dataset, dcmread

from node.studies.body_region.recognition import SLICES, body_region_of
from node.studies.body_region.verdict import DISAGREEMENT, REGIONS

Shown = tuple[str, str]
"""Regions that a series shows in several slices, and those that it may name as well: at its ends, in one or two."""

TRUTH: dict[tuple[str, int], Shown] = {
    ("lidc-idri-0063", 133): ("chest abdomen", "neck"),
    ("lidc-idri-0001-partial", 83): ("chest", "neck abdomen"),
    ("profmcdan+dicom-project", 135): ("chest abdomen", "neck"),
    ("andygomez3dart+Project1", 49): ("chest abdomen", ""),
    ("rjsgml5698+EXAMPLES", 100): ("chest abdomen", "neck"),
    ("rjsgml5698+EXAMPLES", 5): ("head", ""),
    ("Rushi-Repo+Test-DICOMS", 20): ("chest abdomen", "neck pelvis"),
    ("Medify-2-0+HackPSU_Fall2023", 91): ("head", "neck"),
    ("Medify-2-0+HackPSU_Fall2023", 81): ("head", "neck"),
    ("Medify-2-0+HackPSU_Fall2023", 84): ("head", "neck"),
    ("Nishantppanchal+DeepContrast-osteoporosis-ct", 53): ("head", ""),
    ("niazoys+Dicom-image-viewer", 53): ("head", "neck"),
    ("NikosMouzakitis+itkwidgets-biomed-visual", 160): ("head", "neck"),
    ("seba3939+seb", 507): ("head", "neck"),
    ("okieraised+sample-dicom", 18): ("chest", "abdomen"),
    ("okieraised+sample-dicom", 5): ("chest abdomen", ""),
    ("okieraised+sample-dicom", 4): ("*", ""),
    ("okieraised+sample-dicom", 3): ("chest", ""),
    ("okieraised+sample-dicom", 2): ("chest", "neck"),
    ("laohupdk1hit+brt_needle", 226): ("", ""),
}
"""By source and number of images. No region: its values are no HU. ``*``: by Body Part Examined, which is right."""
REMOVED = ("", "BodyPartExamined", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "ImageType")
_WRONG = "wrong BodyPartExamined"


def main(folders: Sequence[Path]) -> None:
    """Print what is found of each series, and the tables."""
    counts: dict[str, Counter[tuple[str, str]]] = defaultdict(Counter)
    series_of: dict[str, Counter[str]] = defaultdict(Counter)
    for folder in folders:
        for paths, (shown, edges), header in _series(folder):
            for removed in (*REMOVED, _WRONG):
                region, says = _recognized(paths, removed)
                kind = _judged(region, shown, edges)
                series_of[removed][kind] += 1
                if removed == _WRONG:
                    series_of[removed]["disagreement shown"] += says
                for name in REGIONS:
                    counts[removed][name, _of_region(name, region, shown, edges)] += 1
                if not removed:
                    print(folder.name, len(paths), header, "shows", shown or "none", "found", *region, kind)
    for removed, kinds in series_of.items():
        print(f"| {removed or 'intact'} |", dict(kinds))
    for name in REGIONS:
        print(f"| {name} |", {kind: count for (of, kind), count in counts[""].items() if of == name})


def _series(folder: Path) -> Iterator[tuple[list[Path], tuple[set[str], set[str]], str]]:
    groups: dict[str, list[Path]] = defaultdict(list)
    headers: dict[str, Dataset] = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        try:
            header = dcmread(path, stop_before_pixels=True, force=True)
        except Exception:  # noqa: BLE001, S112 - what else lies there
            continue
        if header.get("Modality") == "CT" and "Rows" in header:
            groups[header.SeriesInstanceUID].append(path)
            headers[header.SeriesInstanceUID] = header
    for uid, paths in groups.items():
        truth = TRUTH.get((folder.name, len(paths)))
        if truth is None:
            continue
        part = str(headers[uid].get("BodyPartExamined", ""))
        shown = part.lower() if truth[0] == "*" else truth[0]
        yield paths, (set(shown.split()), set(truth[1].split())), part


def _recognized(paths: Sequence[Path], removed: str) -> tuple[tuple[str, ...], bool]:
    if not removed:
        region = body_region_of(paths)
        return region.values, DISAGREEMENT in region.basis
    step = max(1, len(paths) // (4 * SLICES))
    with TemporaryDirectory() as folder:
        changed = []
        for number, path in enumerate(paths[::step]):
            dataset = dcmread(path, force=True)
            if removed == _WRONG:
                dataset.BodyPartExamined = "PROSTATE"
            else:
                dataset.pop(removed, None)
            changed.append(Path(folder) / f"{number}.dcm")
            dataset.save_as(changed[-1])
        region = body_region_of(changed)
    return region.values, DISAGREEMENT in region.basis


def _judged(region: Sequence[str], shown: set[str], edges: set[str]) -> str:
    if "unknown" in region:
        return "unknown"
    if not set(region) <= shown | edges:
        return "wrong"
    return "right" if shown <= set(region) else "part"


def _of_region(name: str, region: Sequence[str], shown: set[str], edges: set[str]) -> str:
    if name in region:
        return "found" if name in shown | edges else "wrong"
    if name not in shown:
        return "-"
    return "unknown" if "unknown" in region else "not named"


if __name__ == "__main__":
    main([Path(argument) for argument in sys.argv[1:]])
