"""OHIF at the end of the demonstration: one address for its pages and the archive, and links that open the results."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import real_peers
from dicom_files import ct_series, write

from node.demo.pacs import HeldSeries, OrthancPacs, SmallPacs, make_pacs
from node.demo.viewer import check_viewer, serve_viewer, study_links
from node.errors import PlatformError
from node.process.loopback import HERE, get

CT = HeldSeries("1.2.3", "1.2.3.1", "DEMO", "Chest & more", "CT", "axial", ("1.2.3.1.1",))


@pytest.fixture(scope="module")
def pacs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OrthancPacs]:
    running = make_pacs(tmp_path_factory.mktemp("pacs"), {"STORESCU": (HERE, 1)})
    if not isinstance(running, OrthancPacs) or not running.dicomweb:
        pytest.skip("Orthanc is not installed (Debian packages orthanc, orthanc-dicomweb)")
    running.start()
    try:
        yield running
    finally:
        running.stop()


@pytest.fixture
def pages(tmp_path: Path) -> Path:
    folder = tmp_path / "pages"
    folder.mkdir()
    (folder / "index.html").write_text("the viewer")
    (folder / "code.js").write_text("1")
    (tmp_path / "secret").write_text("of others")
    return folder


def test_pages_and_archive_have_one_address(pacs: OrthancPacs, pages: Path, tmp_path: Path):
    (image,) = write(ct_series(1), tmp_path / "sent")
    real_peers.dcmtk("storescu", "-aec", "DEMOPACS", HERE, pacs.port, image)
    with serve_viewer(pages, pacs) as address:
        assert get(f"{address}/viewer?StudyInstanceUIDs=1.2.3") == b"the viewer"
        assert b"hangingProtocolId=results" in get(f"{address}/app-config.js")
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"{address}/code.js") as answer:
            assert answer.headers["Cross-Origin-Embedder-Policy"] == "require-corp"
        (study,) = json.loads(get(f"{address}/dicom-web/studies?limit=5"))
        retrieve = study["00081190"]["Value"][0]
        assert retrieve.startswith(f"{address}/dicom-web/studies/"), "the browser comes back to the same address"
        assert get(retrieve).count(b"application/dicom") >= 1
        assert get(f"{address}/%2e%2e/secret") == b"the viewer", "nothing beside the pages is served"


def test_a_link_opens_each_study_that_has_results():
    seg = HeldSeries("1.2.3", "1.2.3.2", "DEMO", "Chest & more", "SEG", "AI", ("1.2.3.2.1",))
    report = HeldSeries("1.2.3", "1.2.3.3", "DEMO", "Chest & more", "SR", "AI", ("1.2.3.3.1",))
    ((description, link),) = study_links("http://127.0.0.1:1", [CT, seg, report])
    assert description == "Chest & more"
    assert parse_qs(urlsplit(link).query) == {"StudyInstanceUIDs": ["1.2.3"], "hangingProtocolId": ["results"]}
    assert study_links("http://127.0.0.1:1", [CT]) == []


def test_what_is_missing_is_said_before_anything_is_started(pages: Path, tmp_path: Path):
    with pytest.raises(PlatformError, match="holds no OHIF"):
        check_viewer(tmp_path, SmallPacs(tmp_path / "pacs"))
    with pytest.raises(PlatformError, match="apt-get install orthanc orthanc-dicomweb"):
        check_viewer(pages, SmallPacs(tmp_path / "pacs"))
