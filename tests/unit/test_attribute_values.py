"""What is computed once for images that state the same is what each of them would have got."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from dicom_files import ct_series, write
from pydicom import Dataset
from pydicom.datadict import keyword_for_tag
from pydicom.tag import Tag
from pydicom.uid import ComputedRadiographyImageStorage, MRImageStorage, ParametricMapStorage

from node.studies import suitability
from node.studies.attribute_values import of_each
from node.studies.characteristics.image_kind import is_slice, kind_of, kinds_of, slices_among
from node.studies.header import read_header
from node.studies.suitability import slice_fault, slice_faults


class Watched(Dataset):
    """Notes the keywords that are looked at."""

    looked_at: set[str]

    def __contains__(self, name: Any) -> bool:
        self.looked_at.add(keyword_for_tag(Tag(name)))
        return super().__contains__(name)

    def __getitem__(self, key: Any) -> Any:
        self.looked_at.add(keyword_for_tag(Tag(key)))
        return super().__getitem__(key)

    def __getattr__(self, name: str) -> Any:
        self.looked_at.add(name)
        return super().__getattr__(name)


def watched(of: Dataset) -> Watched:
    header = Watched()
    object.__setattr__(header, "looked_at", set())
    header.update(of)
    header.looked_at.clear()
    return header


def headers() -> list[Dataset]:
    """Images that pass every check, and some that fail one."""
    changes: list[dict[str, Any]] = [
        {}, {"Modality": "MR", "SOPClassUID": MRImageStorage}, {"SOPClassUID": ComputedRadiographyImageStorage},
        {"SOPClassUID": ParametricMapStorage, "Modality": "OT"}, {"ImageType": ["DERIVED", "SECONDARY", "MIP"]},
        {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, {"PhotometricInterpretation": "RGB"}, {"Rows": 0},
        {"BitsStored": 99}, {"RescaleSlope": "0"}, {"RescaleType": "OD"}, {"BitsStored": 2}, {"PixelRepresentation": 1},
        {"PixelSpacing": [1000, 1000]}, {"Manufacturer": "AI node", "SoftwareVersions": "ainode 1"},
    ]  # fmt: skip
    images = ct_series(len(changes), 8)
    for image, values in zip(images, changes, strict=True):
        for keyword, value in values.items():
            setattr(image, keyword, value)
    return list(images)


def test_no_more_is_looked_at_than_is_compared() -> None:
    for header in map(watched, headers()):
        slice_fault(header)
        assert header.looked_at <= {*suitability._EXAMINED}
        header.looked_at.clear()
        kind_of(header)
        assert header.looked_at <= {
            "SOPClassUID",
            "ImageType",
            "VolumeBasedCalculationTechnique",
            "ComplexImageComponent",
        }


@pytest.mark.parametrize("times", [1, 3])
def test_each_image_gets_what_it_states(times: int, tmp_path: Path) -> None:
    paths = write(headers(), tmp_path) * times
    expected = [slice_fault(read_header(path)) for path in paths]
    assert len(set(expected)) > 8
    assert slice_faults([read_header(path) for path in paths]) == expected
    kinds = [kind_of(read_header(path)) for path in paths]
    assert len(set(kinds)) > 2
    assert kinds_of([read_header(path) for path in paths]) == kinds
    images = [read_header(path) for path in paths]
    assert slices_among(images) == [image for image in images if is_slice(image)]


def test_a_header_that_was_changed_is_looked_at_again(tmp_path: Path) -> None:
    first, second = (read_header(path) for path in write(ct_series(2, 8), tmp_path))
    second.Modality = "MR"
    assert of_each([first, second], ["Modality"], lambda header: header.Modality) == ["CT", "MR"]


def test_the_function_is_called_once_for_equal_bytes_and_apart_for_others(tmp_path: Path) -> None:
    images = ct_series(4, 8)
    images[2].SpecificCharacterSet = "ISO_IR 144"
    images[3].Manufacturer = ""
    called: list[str] = []
    of_each([read_header(path) for path in write(images, tmp_path)], ["Manufacturer"], lambda h: called.append(str(h)))
    assert len(called) == 3
