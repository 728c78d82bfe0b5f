"""`ainode fetch` from an archive that is asked by C-GET."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner, Result
from receivers import Node

from node.__main__ import main
from node.ledger.tables import instance


class Fetching:
    """A node that asks an archive at a port by C-GET."""

    def __init__(self, folder: Path, node: Node, title: str, port: int, storage: str = "") -> None:
        """``storage``: more lines of its table."""
        self.node = node
        self.config = folder / "config.toml"
        self.config.write_text(f"""
[ae]
address = "127.0.0.1"
port = {node.port}
[storage]
folder = "{node.config.storage.folder}"
min_free_gib = 0.0
{storage}
[pipelines.bright]
[destinations.archive]
title = "{title}"
host = "127.0.0.1"
port = {port}
retrieve = "get"
[[rules]]
name = "ct"
pipelines = ["bright"]
match = {{ Modality = "CT" }}
""")

    def fetch(self, *arguments: str) -> Result:
        return CliRunner().invoke(main, ["fetch", "--config", str(self.config), "archive", *arguments])

    def here(self) -> set[str]:
        return {row.sop_instance_uid for row in self.node.rows(instance)}
