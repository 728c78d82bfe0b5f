"""Every public test file that holds an image becomes results or a named outcome; the documentation says which."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import zoo
from analyses import analysis, source_of
from dicom_files import ct_series, secondary_capture
from pydicom.uid import DeflatedExplicitVRLittleEndian

from node.pipeline import DerivedSeries, Findings, codes
from node.results.encode import encode
from node.results.gate.check import check

DOCUMENTED = (Path(__file__).parents[2] / "docs" / "results.md").read_text()


@pytest.mark.filterwarnings("ignore")  # pydicom warns of what these files are known for
@pytest.mark.parametrize("path", zoo.files(), ids=lambda path: path.name)
def test_a_public_test_file_has_the_outcome_that_the_documentation_says(path):
    assert zoo.row(path) in DOCUMENTED


def test_a_deflated_image_with_padding_has_a_derived_one(tmp_path):
    images = ct_series(3, 16, transfer_syntax=DeflatedExplicitVRLittleEndian)
    for image in images:
        image.PixelPaddingValue = 0
    source = source_of(tmp_path, images)
    copy = DerivedSeries(volume=source.volume(), description="Copy", derivation=codes.DCM.Smoothing)
    objects = encode(analysis(Findings(derived=(copy,)), outcome="derived"), source)
    check(objects, source)
    assert all(np.array_equal(o.dataset.pixel_array, i.pixel_array) for o, i in zip(objects, images, strict=True))


def test_an_image_of_a_retired_class_has_a_report_that_says_so(tmp_path):
    image = secondary_capture()
    image.SOPClassUID = image.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.6"  # Ultrasound, retired
    source = source_of(tmp_path, [image])
    objects = encode(analysis(outcome="not applicable", reason="in colour", findings=None), source)
    check(objects, source)
    assert [o.kind for o in objects] == ["sr"]


def test_every_line_of_the_checklist_names_tests_that_exist():
    here = Path(__file__).parents[1]
    code = "".join(path.read_text() for path in here.glob("*/test_*.py"))
    page = (here.parent / "docs" / "air.md").read_text()
    lines = [line for line in page.splitlines() if line.startswith("| ")][1:]
    assert len(lines) > 15
    for line in lines:
        named = re.findall(r"`(test_\w+)(\.py)?`", line)
        assert named, line
        for name, file in named:
            assert list(here.glob(f"*/{name}.py")) if file else f"def {name}(" in code, name
