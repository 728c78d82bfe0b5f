"""Viewers that open a study by its Study Instance UID, and their addresses as ``[web] viewer_url`` takes them.

Sources: documentation of OHIF, configuration/url; OrthancExplorer.js of the OHIF plugin, which takes Study Instance
UIDs with the data source dicom-web only, and of the Stone Web Viewer; release notes of Orthanc Explorer 2 (expand);
documentation of Weasis, integration ($dicom:rs). The Orthanc Explorer that Orthanc itself has takes no DICOM UIDs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote

from node.errors import ConfigError
from node.translation import marked


@dataclass(frozen=True, kw_only=True)
class Viewer:
    """A viewer, by the address under which browsers reach it, or its archive."""

    asked: str
    """Question for that address."""
    template: str
    """``viewer_url`` with ``{address}``."""
    quoted: bool = False
    """The address is inside of a command that is percent-encoded."""
    remark: str = ""
    """What it needs besides, in words."""


VIEWERS: dict[str, Viewer] = {
    "ohif": Viewer(
        asked=marked("Address of OHIF, such as https://ohif.example.org"),
        template="{address}/viewer?StudyInstanceUIDs={study}",
    ),
    "orthanc-ohif": Viewer(
        asked=marked("Address of Orthanc, such as https://orthanc.example.org"),
        template="{address}/ohif/viewer?StudyInstanceUIDs={study}",
        remark='Orthanc needs the DICOMweb plugin, and "OHIF": {"DataSource": "dicom-web"} in its configuration',
    ),
    "orthanc-stone": Viewer(
        asked=marked("Address of Orthanc, such as https://orthanc.example.org"),
        template="{address}/stone-webviewer/index.html?study={study}",
        remark=marked("Orthanc needs the DICOMweb plugin"),
    ),
    "orthanc-explorer-2": Viewer(
        asked=marked("Address of Orthanc, such as https://orthanc.example.org"),
        template="{address}/ui/app/#/filtered-studies?StudyInstanceUID={study}&expand=study",
    ),
    "weasis": Viewer(
        asked=marked("Address of the archive's DICOMweb service, such as https://pacs.example.org/dicom-web"),
        template="weasis://%24dicom%3Ars%20--url%20%22{address}%22%20-r%20%22studyUID%3D{study}%22",
        quoted=True,
        remark=marked("Weasis must be installed on the computers of the users"),
    ),
}
"""By the name that ``ainode init`` gives them."""


def viewer_url(viewer: Viewer, address: str) -> str:
    """Return ``viewer_url`` of a viewer. Raises ``ConfigError`` unless ``address`` is one of HTTP or HTTPS."""
    if not re.fullmatch(r"https?://[^\s/?#{}\"]+(/[^\s?#{}\"]*)?", address):
        raise ConfigError(f"viewer address {address!r}: must begin with https:// or http:// and have neither ? nor #")
    base = address.rstrip("/")
    return viewer.template.replace("{address}", quote(base, safe="") if viewer.quoted else base)
