"""The site that ``make docs`` builds with Sphinx, MyST and Furo. Its pages are plain Markdown, which GitHub shows too.

Everything that a browser needs is in the site: it opens from a folder, a USB stick or any web server, without network.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from node import __version__

NAVIGATION = {
    "Administrators": (
        *(
            "install",
            "deploy",
            "capacity",
            "connect",
            "rules",
            "orders",
            "dicomweb",
            "workitems",
            "deliver",
            "deidentify",
            "operate",
            "object-store",
            "dashboard",
            "inputs",
            "troubleshoot",
        ),
        *("security", "threat-model", "reliability", "records", "conformance"),
    ),
    "Radiologists": ("results", "similar", "verdicts", "acceptance", "trials", "brain-volumes", "air"),
    "Model developers": ("models", "containers", "remote", "write-a-pipeline", "export"),
    "Maintainers": tuple(
        f"development/{page}"
        for page in (
            "architecture",
            "glossary",
            "decisions",
            "migrations",
            "dimse-acceptor",
            "testing",
            "benchmarks",
            "training-data",
            "laboratory",
            "frames-of-reference",
            "sandbox",
            "validation",
        )
    ),
}
"""Every page beside ``index``, by its reader."""

project = "DICOM AI node"
version = release = __version__
extensions = ["myst_parser"]
root_doc = "index"
exclude_patterns = ["requirements.txt"]
smartquotes = False

myst_heading_anchors = 4  # links such as operate.md#when-a-destination-is-down work as on GitHub

html_theme = "furo"  # no fonts or scripts of other sites; light and dark, by the system and by a button
html_title = f"{project} {release}"
html_copy_source = html_show_sourcelink = html_show_copyright = html_show_sphinx = html_use_index = False


def setup(app: Any) -> None:
    """Pages are prepared as they are read, so that GitHub shows them as they are."""
    app.connect("source-read", _prepare)


def _prepare(_app: Any, page: str, source: list[str]) -> None:
    """Add the navigation to ``index``; offer files of the repository that are no pages for download."""
    outside = "../" * (page.count("/") + 1)
    source[0] = source[0].replace(f"]({outside}", f"](path:{outside}")
    if page == root_doc:
        for reader, pages in NAVIGATION.items():
            source[0] += "\n".join(("", "```{toctree}", ":hidden:", f":caption: {reader}", "", *pages, "```", ""))
