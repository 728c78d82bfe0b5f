"""Conversion for a destination: what the process that decodes leaves is an object, or nothing is sent."""

from __future__ import annotations

from pathlib import Path

import pytest
from dicom_files import ct_series, write
from pydicom import dcmread
from pydicom.uid import ImplicitVRLittleEndian

from node.deliver import transcode
from node.errors import EncodeError
from node.spool import Spool


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    spool = Spool(tmp_path / "node")
    write(ct_series(n=1, size=8), spool.folder / "incoming")
    return spool


def only_file(spool: Spool) -> str:
    (path,) = spool.files("incoming")
    return path


@pytest.mark.thorough
def test_the_copy_that_is_sent_has_the_other_syntax_and_its_digest_and_nothing_is_left(spool: Spool) -> None:
    with transcode.transcoded(spool, only_file(spool), ImplicitVRLittleEndian) as (path, sent):
        assert dcmread(path).file_meta.TransferSyntaxUID == sent.transfer_syntax_uid == ImplicitVRLittleEndian
    assert [file for file in spool.files("temporary") if file[-1].isdigit()] == []


@pytest.mark.thorough
def test_an_object_that_grows_beyond_what_archives_take_is_not_copied(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.spool.drafts.LARGEST_OBJECT", 100)
    with (
        pytest.raises(EncodeError, match="has more than 100 bytes"),
        transcode.transcoded(spool, only_file(spool), ImplicitVRLittleEndian),
    ):
        pass
    assert [file for file in spool.files("temporary") if file[-1].isdigit()] == []
