"""A process that tells subscribers of workitems and nothing else, to kill."""

from __future__ import annotations

import multiprocessing
import threading
from multiprocessing.process import BaseProcess

from node.config import Config
from node.deliver import workitem_events
from node.ledger.engine import ledger_url, open_ledger


def start(config: Config) -> BaseProcess:
    """Start it, with short waits."""
    process = multiprocessing.get_context("spawn").Process(target=_run, args=(config,), daemon=True)
    process.start()
    return process


def _run(config: Config) -> None:
    workitem_events.FIRST_RETRY_SECONDS = 0.5
    workitem_events.LOOK_SECONDS = 0.2
    engine = open_ledger(ledger_url(config.storage.ledger_url, config.storage.folder))
    workitem_events.WorkitemEvents(config, engine).run(threading.Event())
