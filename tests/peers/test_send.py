"""`ainode send`: images of a folder, an archive or a CD are stored by the node's own receiver, each with an answer."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import real_peers
from certificates import Authority, tls
from click.testing import CliRunner, Result
from dicom_files import ct_series, mr_series, secondary_capture, write
from pynetdicom.sop_class import BasicFilmBox
from receivers import Node, configuration, receiving

from node.__main__ import main
from node.errors import ConfigError, DeliveryError, InputError, RejectedError, UnreachableError
from node.ledger.tables import association, instance


def send(node: Node, *arguments: object, ae: str = "") -> Result:
    folder = node.config.storage.folder
    config = folder.parent / "send.toml"
    config.write_text(configuration(folder, node.port, ae))
    return CliRunner().invoke(main, ["send", "--config", str(config), *map(str, arguments)])


def here(node: Node) -> set[str]:
    return {row.sop_instance_uid for row in node.rows(instance)}


def test_a_folder_and_its_archive_are_stored_once(tmp_path: Path):
    images = [*ct_series(4), *mr_series(3), secondary_capture()]
    files = write(images, tmp_path / "images")
    (tmp_path / "images/readme.txt").write_text("a viewer is on this CD")
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        for file in files:
            archive.write(file, f"CD/{file.name}")
    with receiving(tmp_path / "node") as node:
        sent = send(node, tmp_path / "images")
        assert (sent.exit_code, sent.output) == (0, "1 other file is no DICOM file\n8 instances are stored\n")
        assert here(node) == {image.SOPInstanceUID for image in images}
        again = send(node, "--json", tmp_path / "images.zip", files[0])
        assert json.loads(again.output) == {"stored": 9, "other": 0, "refused": [], "missing": []}
        assert len(node.rows(instance)) == 8
        assert {row.calling_ae for row in node.rows(association)} == {"AINODE"}


def test_a_cd_that_lacks_an_image_and_holds_a_damaged_one_is_not_called_whole(tmp_path: Path):
    images = ct_series(5)
    for number, image in enumerate(images):
        image.StudyID = "1"
        write([image], tmp_path / "one")[0].rename(tmp_path / f"IM{number}")
    cd = tmp_path / "cd"
    cd.mkdir()
    for number in range(5):
        (tmp_path / f"IM{number}").rename(cd / f"IM{number}")
    real_peers.dcmtk("dcmmkdir", "+r", "+I", "+id", cd, "+D", cd / "DICOMDIR")
    (cd / "IM1").unlink()
    (cd / "IM2").write_bytes((cd / "IM2").read_bytes()[:-100])
    with receiving(tmp_path / "node") as node:
        sent = send(node, "--json", cd)
        summary = json.loads(sent.stdout)
        assert (summary["stored"], summary["missing"]) == (3, [images[1].SOPInstanceUID])
        assert [(refusal["name"], refusal["sop_instance_uid"]) for refusal in summary["refused"]] == [
            ("IM2", images[2].SOPInstanceUID)
        ]
        assert "0xC000" in summary["refused"][0]["reason"]
        assert sent.exit_code == DeliveryError.exit_code
        assert here(node) == {images[number].SOPInstanceUID for number in (0, 3, 4)}
        text = send(node, cd).output
        assert f"names instance {images[1].SOPInstanceUID}, which is not on the medium" in text
        assert "1 file was refused: status 0xC000" in text


def test_a_folder_without_images_is_an_error(tmp_path: Path):
    (tmp_path / "letter.txt").write_text("no image")
    with receiving(tmp_path / "node") as node:
        assert send(node, tmp_path / "letter.txt").exit_code == InputError.exit_code


def test_callers_and_tls_hold_for_an_upload_as_for_any_sender(tmp_path: Path):
    files, authority = write(ct_series(2), tmp_path / "images"), Authority(tmp_path / "ca")
    ae = tls(authority, callers='{ title = "CT1" }')
    with receiving(tmp_path / "node", ae) as node:
        refused = send(node, *files, ae=ae)
        assert refused.exit_code == RejectedError.exit_code
        assert "list AINODE in [ae] callers, for the address 127.0.0.1" in refused.output
        assert here(node) == set()
        assert send(node, "--title", "CT1", *files, ae=ae).exit_code == 0
        assert len(here(node)) == 2


def test_the_address_of_a_proxy_is_explained(tmp_path: Path):
    files = write(ct_series(1), tmp_path / "images")
    with receiving(tmp_path / "node", 'proxies = ["127.0.0.0/8"]') as node:
        sent = send(node, *files, ae='proxies = ["127.0.0.0/8"]')
        assert sent.exit_code == ConfigError.exit_code
        assert "only a proxy may connect" in sent.output


def test_a_class_that_the_receiver_does_not_take_is_refused_by_name(tmp_path: Path):
    image = ct_series(1)[0]
    image.SOPClassUID = image.file_meta.MediaStorageSOPClassUID = BasicFilmBox
    files = write([image], tmp_path / "print")
    with receiving(tmp_path / "node") as node:
        sent = send(node, *files, *write(ct_series(1), tmp_path / "images"))
        assert sent.exit_code == DeliveryError.exit_code
        assert "1 file was refused" in sent.output
        assert "Basic Film Box" in sent.output
        assert "1 instance is stored" in sent.output
        alone = send(node, *files)
        assert alone.exit_code == DeliveryError.exit_code
        assert "1 file was refused" in alone.output


def test_without_a_receiver_the_address_is_named(tmp_path: Path):
    files = write(ct_series(1), tmp_path / "images")
    with receiving(tmp_path / "node") as node:
        pass
    sent = send(node, *files)
    assert sent.exit_code == UnreachableError.exit_code
    assert f"this node (AINODE at 127.0.0.1:{node.port})" in sent.output
