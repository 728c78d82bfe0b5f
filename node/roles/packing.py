"""Packs in an object store: what packs, verifies and deletes, in the role that looks after the files of a machine."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial

from node.roles.context import RoleContext


def packing_loops(context: RoleContext) -> list[Callable[[threading.Event], None]]:
    """Return the loops of a process whose machine has files; none without an object store."""
    config, engine, spool = context.config, context.engine, context.spool
    table = config.storage.object_store
    if not table.url:
        return []
    from node.object_store.deletion import PackDeletion
    from node.object_store.local_copies import LocalCopies
    from node.object_store.packing import Packing
    from node.object_store.store import open_objects

    open_store = partial(open_objects, table)
    open_store()  # what is wrong in the configuration ends the role with its message
    tidied = None if config.fleet.host else config.fleet.cache_gib
    return [
        Packing(table, engine, spool, open_store).run,
        LocalCopies(table, engine, spool, open_store, tidied).run,
        PackDeletion(engine, spool, open_store).run,
    ]
