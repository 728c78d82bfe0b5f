"""`ainode fetch` by C-GET from an archive that is slow, refuses a class or sends what it should not."""

from __future__ import annotations

from copy import deepcopy
from functools import partial
from pathlib import Path

import pytest
from dicom_files import ct_series
from fetching import Fetching
from pydicom import FileDataset
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage, MRImageStorage, generate_uid
from receivers import receiving
from scripted_get_archive import TITLE, ScriptedGetArchive

from node.deliver.association import Timeouts
from node.errors import DeliveryError
from node.upload import get_archive


def study_of(count: int, size: int = 16) -> list[list[FileDataset]]:
    """Series of two images each, of one study with accession number A1."""
    study = generate_uid()
    series = [ct_series(n=2, size=size, study=study) for _ in range(count)]
    for images in series:
        for image in images:
            image.AccessionNumber = "A1"
    return series


def test_series_after_one_that_takes_longer_than_the_patience_of_the_node_are_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(get_archive, "Timeouts", partial(Timeouts, answer_seconds=5.0, store_seconds=5.0))
    series = study_of(2)
    archive = ScriptedGetArchive(*series)
    archive.delays = {str(series[0][0].SeriesInstanceUID): 8.0}
    with receiving(tmp_path / "node") as node, archive.running() as port:
        fetching = Fetching(tmp_path, node, TITLE, port)
        fetched = fetching.fetch("--accession", "A1", "--accession", "A1")
        assert fetched.exit_code == 0, fetched.output
        assert len(fetching.here()) == 4


def test_a_series_of_a_class_that_the_archive_does_not_send_costs_only_itself(tmp_path: Path) -> None:
    series = study_of(2)
    for image in series[0]:
        image.SOPClassUID = image.file_meta.MediaStorageSOPClassUID = EnhancedCTImageStorage
    with receiving(tmp_path / "node") as node, ScriptedGetArchive(*series).running() as port:
        fetching = Fetching(tmp_path, node, TITLE, port)
        fetched = fetching.fetch("--accession", "A1")
        assert fetched.exit_code == DeliveryError.exit_code, fetched.output
        assert "accepts C-GET, but to send none of the SOP Classes" in fetched.output
        assert "(Enhanced CT Image Storage)" in fetched.output
        assert fetching.here() == {str(image.SOPInstanceUID) for image in series[1]}


def test_a_data_set_of_another_class_than_it_was_announced_with_is_refused_with_the_reason(tmp_path: Path) -> None:
    class AnnouncedAsCT(FileDataset):
        SOPClassUID = CTImageStorage

    def changed(image: FileDataset) -> FileDataset:
        wrong = deepcopy(image)
        wrong["SOPClassUID"].value = MRImageStorage
        wrong.__class__ = AnnouncedAsCT
        return wrong

    archive = ScriptedGetArchive(*study_of(1))
    archive.changed = changed
    with receiving(tmp_path / "node") as node, archive.running() as port:
        fetching = Fetching(tmp_path, node, TITLE, port)
        failed = fetching.fetch("--accession", "A1")
        assert failed.exit_code == DeliveryError.exit_code
        assert "sent as CT Image Storage, its data set says MR Image Storage" in failed.output
        assert fetching.here() == set()


def test_an_object_larger_than_the_receiver_takes_is_not_received_to_its_end(tmp_path: Path) -> None:
    archive = ScriptedGetArchive(*study_of(1, size=256))
    with receiving(tmp_path / "node") as node, archive.running() as port:
        fetching = Fetching(tmp_path, node, TITLE, port, "max_instance_gib = 0.00001")
        failed = fetching.fetch("--accession", "A1")
        assert failed.exit_code == DeliveryError.exit_code
        assert "an object is larger than 1e-05 GiB (max_instance_gib)" in failed.output
        assert fetching.here() == set()


def test_an_exchange_that_never_ends_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(get_archive, "_LONGEST_SECONDS", 3.0, raising=False)
    archive = ScriptedGetArchive(*study_of(1))
    archive.is_endless = True
    with receiving(tmp_path / "node") as node, archive.running() as port:
        failed = Fetching(tmp_path, node, TITLE, port).fetch("--accession", "A1")
        assert failed.exit_code == DeliveryError.exit_code
        assert "C-GET did not end: it takes more than 3 s" in failed.output
