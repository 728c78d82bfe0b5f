"""``ainode doctor``: the checks of ``ainode check`` and those that take longer; each failure names its remedy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from node.check import Check, check, describe_pipelines
from node.config import Config
from node.doctor.certificates import certificates
from node.doctor.fonts import fonts
from node.doctor.isolation import isolation
from node.doctor.lint import lint
from node.doctor.machine import disk_speed, integrity, our_clock
from node.doctor.network import callers, habits, host_names, presentation, reports, their_clock
from node.doctor.object_store import object_store
from node.doctor.trial import try_pipelines


def examine(config: Config, config_path: Path) -> Iterator[Check]:
    """Run all checks in turn. Sends only C-ECHO and queries, and writes nothing to the ledger."""
    described = list(describe_pipelines(config))
    yield from check(config, described)
    yield from lint(config, described)
    yield from host_names(config)
    yield from certificates(config)
    yield our_clock()
    yield from isolation()
    yield disk_speed(config.storage.folder)
    yield integrity(config)
    yield from object_store(config)
    yield from fonts(config)
    yield from reports(config)
    yield from callers(config)
    yield from habits(config)
    for name in config.destinations:
        yield from presentation(config, name)
        yield their_clock(config, name)
    yield from try_pipelines(config, config_path, described)
