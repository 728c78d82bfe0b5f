"""The configuration of the demonstration."""

from __future__ import annotations

from pathlib import Path

from node.demo.pacs import TITLE, Pacs

CONFIG = """\
# Written by `ainode demo`. The shipped config.toml explains every key.
[ae]
title = "{title}"
address = "{address}"
port = {port}
processes = 1

[storage]
folder = "{folder}"
min_free_gib = 0.5
{storage}
[series]
quiet_seconds = 3.0
gap_seconds = 15.0

[pipelines.nodule]
[pipelines.denoise]
[pipelines.tumor]

[destinations.pacs]
title = "{pacs_title}"
host = "{pacs_host}"
port = {pacs_port}
commitment = {commitment}
objects = ["seg", "sr", "derived", "key images"]
first_retry_seconds = 1.0
{tables}
[[rules]]
name = "chest CT"
prefer = ["axial", "thinnest"]
pipelines = ["nodule", "denoise"]
destinations = ["pacs"]
[rules.match]
Modality = "CT"
BodyPartExamined = ["CHEST", "LUNG", "THORAX", ""]
SliceThickness = "0-5"

[[rules]]
name = "brain FLAIR"
prefer = ["axial", "thinnest"]
pipelines = ["tumor"]
destinations = ["pacs"]
[rules.match]
Modality = "MR"
SeriesDescription = "*FLAIR*"
"""


def write_configuration(
    path: Path,
    title: str,
    where: tuple[str, int],
    folder: Path,
    pacs: Pacs,
    *,
    storage: str = "",
    tables: str = "",
) -> None:
    """Write ``config.toml`` of a node with AE title ``title`` that listens at ``where``, with the built-in pipelines.

    ``folder``: its storage. ``storage``: more lines of that table; ``tables``: more tables.
    """
    address, port = where
    text = CONFIG.format(
        title=title,
        address=address,
        port=port,
        folder=folder.absolute().as_posix(),
        pacs_title=TITLE,
        pacs_host=pacs.host,
        pacs_port=pacs.port,
        commitment=str(pacs.commitment).lower(),
        storage=storage,
        tables=tables,
    )
    path.write_text(text, encoding="utf-8")
