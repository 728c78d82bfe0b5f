"""Headers of received files that are not what the standard allows."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom import Dataset, dcmwrite
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from node.errors import InputError
from node.studies.attribute_values import values_of
from node.studies.header import read_header


def test_an_attribute_that_is_wrongly_a_sequence_makes_the_file_unreadable(tmp_path: Path):
    image, item = Dataset(), Dataset()
    item.PatientID = "A"
    image.SOPClassUID, image.SOPInstanceUID, image.Modality = CTImageStorage, "1.2", "CT"
    image.add_new("ImageType", "SQ", [item])
    path = tmp_path / "image.dcm"
    image.ensure_file_meta()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dcmwrite(path, image, enforce_file_format=True)
    with pytest.raises(InputError, match=r"image.dcm: \(0008,0008\) is a sequence"):
        read_header(path)


def test_a_sequence_has_no_text():
    header, request, code = Dataset(), Dataset(), Dataset()
    request.add_new("ScheduledProcedureStepID", "SQ", [code])
    header.RequestAttributesSequence = [request]
    assert values_of(header, "RequestAttributesSequence.ScheduledProcedureStepID") == [""]
