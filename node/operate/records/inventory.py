"""The models in use: what is configured, and which versions have analysed studies."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import sqlalchemy as sa

from node.config import Config
from node.ledger.acceptances import acceptances
from node.ledger.analysis_statistics import analysed_versions


def inventory(config: Config, connection: sa.Connection) -> list[dict[str, Any]]:
    """Return one entry for each pipeline that is configured or has analysed a series, by name, as JSON values."""
    versions: dict[str, list[dict[str, Any]]] = {}
    for version in analysed_versions(connection):
        versions.setdefault(version.pop("pipeline"), []).append(version)
    tested = acceptances(connection)
    return [
        {
            "pipeline": name,
            "configured": name in config.pipelines,
            "rules": [rule.name for rule in config.rules if name in rule.pipelines],
            "shadow_rules": [rule.name for rule in config.rules if name in rule.shadow],
            "versions": versions.get(name, []),
            "acceptance_required": name in config.pipelines and config.pipelines[name].require_acceptance,
            "acceptances": [asdict(acceptance) for acceptance in tested if acceptance.pipeline == name],
        }
        for name in sorted({*config.pipelines, *versions})
    ]
