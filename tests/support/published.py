"""A machine of a fleet that has published its configuration and then has another value."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

from node.config import load
from node.operate.fleet_rules import FleetRules, RulesWatch


def publish(engine: sa.Engine, folder: Path) -> FleetRules:
    """Publish one file, and let its machine report 20 s in place of 45 s."""
    path = folder / "other.toml"
    path.write_text("[series]\nquiet_seconds = 45.0\n")
    file = FleetRules(path=path, folder=folder / "versions", reload=lambda: None, engine=engine)
    file.publish(file.proposal(), who="root", why="slow scanners")
    path.write_text("[series]\nquiet_seconds = 20.0\n")
    RulesWatch(file, load(path)).look()
    return file
