"""The role *files*: what a machine without a shared folder does for the others."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Engine

from node.actor import running
from node.config import Config
from node.errors import ConfigError
from node.fleet.copy_service import CopyService
from node.fleet.file_service import serving
from node.fleet.housekeeping import Housekeeping
from node.membership import Membership
from node.spool import Spool


@contextmanager
def serving_fleet(
    config: Config, engine: Engine, spool: Spool, membership: Membership, stop: threading.Event
) -> Iterator[None]:
    """Serve files, keep second copies and delete what was purged, until ``stop`` is set."""
    if not config.fleet.host:
        raise ConfigError("[fleet] host is empty; name this machine there before it serves files")
    housekeeping = Housekeeping(engine, spool, config.fleet.cache_gib)
    housekeeping.record()
    copies = CopyService(config, engine, spool, membership)
    with serving(config.fleet, spool.folder) as url, copies.serving() as copies_address:
        membership.serve_files(url, copies_address)
        with running([housekeeping.run, *copies.loops], stop):
            yield
