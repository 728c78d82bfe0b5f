"""The dashboard."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from node.operate.fleet_rules import FleetRules
from node.operate.rules_file import FOLDER, RulesFile
from node.roles import CONFIG_FILE
from node.roles.context import RoleContext
from node.web import serving


@contextmanager
def run(context: RoleContext) -> Iterator[None]:
    """Serve the pages until the shutdown."""

    def reload() -> None:
        os.kill(os.getppid(), signal.SIGHUP)  # the supervisor, which replaces this process as well

    path, storage = Path(os.environ[CONFIG_FILE]), context.spool.folder
    if context.config.storage.ledger_url:
        rules_file: RulesFile = FleetRules.of(context.engine, path, storage)
    else:
        rules_file = RulesFile(path=path, folder=storage / FOLDER, reload=reload)
    with serving(context.config, context.engine, context.spool, rules_file):
        yield
