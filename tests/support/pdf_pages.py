"""What a person reads on the pages of a PDF, by a third party's program."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from pydicom import Dataset


def page(dataset: Dataset) -> str:
    """The text of an encapsulated document as it is laid out; the test is skipped without Debian's poppler-utils."""
    program = shutil.which("pdftotext")
    if program is None:
        pytest.skip("pdftotext is not installed (Debian package poppler-utils)")
    document = dataset.EncapsulatedDocument[: dataset.EncapsulatedDocumentLength]
    done = subprocess.run([program, "-layout", "-", "-"], input=document, capture_output=True, check=True)
    return done.stdout.decode()
