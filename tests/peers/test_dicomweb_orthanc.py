"""Orthanc's DICOMweb client stores into the node, searches it, and retrieves what it stored."""

from __future__ import annotations

from pathlib import Path

import real_peers
from dicom_files import ct_series, mr_series
from dicomweb_services import TOKENS, encoded, serving_beside
from receivers import receiving


def test_orthanc_sends_finds_and_retrieves_a_study(tmp_path: Path):
    images = [*ct_series(12), *mr_series(4)]
    with receiving(tmp_path / "node") as node, serving_beside(node, tmp_path) as service:
        url = f"{service.http.base_url}/"
        servers = {
            name: {"Url": url, "HttpHeaders": {"Authorization": f"Bearer {token}"}} for name, token in TOKENS.items()
        }
        dicomweb = {"Enable": True, "Root": "/dicom-web/", "Servers": servers}
        with real_peers.orthanc(tmp_path, DicomWeb=dicomweb) as pacs:
            for content in encoded(images):
                pacs.upload(content)
            pacs.post("/dicom-web/servers/vna/stow", {"Resources": pacs.get("/studies"), "Synchronous": True})
            assert service.here == {image.SOPInstanceUID for image in images}
            study = images[0].StudyInstanceUID
            arguments = {"PatientID": images[0].PatientID, "StudyInstanceUID": study}
            (answer,) = pacs.post("/dicom-web/servers/viewer/qido", {"Uri": "/studies", "Arguments": arguments})
            assert answer["0020000D"]["Value"] == study
            pacs.empty()
            pacs.post("/dicom-web/servers/viewer/retrieve", {"Resources": [{"Study": study}], "Synchronous": True})
            assert pacs.instances() == sorted(
                image.SOPInstanceUID for image in images if image.StudyInstanceUID == study
            )
            for image in images:
                if image.StudyInstanceUID == study:
                    assert pacs.download(image.SOPInstanceUID).pixel_array.tobytes() == image.pixel_array.tobytes()
