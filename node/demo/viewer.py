"""OHIF on the archive of the demonstration: its pages and the DICOMweb of Orthanc under one address.

A browser lets a page read DICOMweb from the address that the page came from, so both are served together and Orthanc
needs no CORS settings. OHIF is not part of the node: ``make demo OHIF=1`` takes the npm package @ohif/app.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlencode

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, Response, StreamingResponse
from starlette.routing import Route

from node.demo.pacs import HeldSeries, OrthancPacs, Pacs
from node.errors import PlatformError
from node.process import loopback
from node.web.http_connections import served

RESULTS = ("SEG", "SR")
"""Modalities of the series that a link opens: the hanging protocol ``results`` of the settings."""
SETTINGS = Path(__file__).with_name("ohif-config.js")
"""``app-config.js`` of OHIF 3 (https://docs.ohif.org/configuration/configurationFiles)."""
_ISOLATED = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""OHIF shares memory between its threads; browsers allow that to pages with these headers."""
_PASSED_ON = ("accept", "host", "range")
"""Orthanc makes the addresses of bulk data from the Host that the browser used."""


def check_viewer(pages: Path, pacs: Pacs) -> None:
    """Raise ``PlatformError`` when ``pages`` holds no OHIF, or ``pacs`` speaks no DICOMweb."""
    if not (pages / "index.html").is_file():
        raise PlatformError(f"{pages} holds no OHIF (index.html is missing); `make demo OHIF=1` unpacks it from npm")
    if not isinstance(pacs, OrthancPacs) or not pacs.dicomweb:
        raise PlatformError("OHIF needs a PACS with DICOMweb; apt-get install orthanc orthanc-dicomweb")


@contextmanager
def serve_viewer(pages: Path, pacs: Pacs) -> Iterator[str]:
    """Serve OHIF, whose built ``pages`` are in a folder, on loopback, and yield its address."""
    with socket.create_server((loopback.HERE, 0)) as listener:
        address = f"http://{loopback.HERE}:{listener.getsockname()[1]}"
        with served(_application(pages, pacs.web_url), listener, "ohif"):
            yield address


def study_links(address: str, series: Sequence[HeldSeries]) -> list[tuple[str, str]]:
    """Return description and link of each study with results; the link opens a segmentation and a report of it."""
    links: dict[tuple[str, str], None] = {}
    for held in series:
        if held.modality in RESULTS:
            query = urlencode({"StudyInstanceUIDs": held.study_instance_uid, "hangingProtocolId": "results"})
            links[held.study_description, f"{address}/viewer?{query}"] = None
    return list(links)


def _application(pages: Path, orthanc: str) -> Starlette:
    root = pages.resolve()
    # No connection outlives its answer, because nobody closes the client when the server ends.
    limits = httpx.Limits(max_connections=6, max_keepalive_connections=0)
    plain = {"Accept-Encoding": "identity"}
    client = httpx.AsyncClient(base_url=orthanc, headers=plain, timeout=120.0, limits=limits, trust_env=False)

    async def archive(request: Request) -> Response:
        headers = {name: request.headers[name] for name in _PASSED_ON if name in request.headers}
        path = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        try:
            answer = await client.send(client.build_request("GET", path, headers=headers), stream=True)
        except httpx.HTTPError as error:
            return Response(f"the PACS does not answer: {error}", 502)

        async def content() -> AsyncIterator[bytes]:
            try:
                async for part in answer.aiter_raw():
                    yield part
            finally:
                await answer.aclose()

        return StreamingResponse(content(), answer.status_code, _ISOLATED, answer.headers.get("content-type"))

    async def page(request: Request) -> Response:
        if request.url.path == "/app-config.js":
            return FileResponse(SETTINGS, media_type="text/javascript", headers=_ISOLATED)
        file = (root / request.path_params["path"]).resolve()
        # A path without a file is a view of the application, which finds its way from there.
        target = file if file.is_relative_to(root) and file.is_file() else root / "index.html"
        return FileResponse(target, headers=_ISOLATED)

    return Starlette(
        routes=[
            *(Route(f"/{part}{rest}", archive) for part in ("dicom-web", "wado") for rest in ("", "/{path:path}")),
            Route("/{path:path}", page),
        ]
    )
