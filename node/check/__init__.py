"""``ainode check``: readiness of machine, configuration and network; each failure names its remedy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from node import compat
from node.check import machine, network
from node.check.pipelines import acceptance, describe_pipelines, masks, pipeline
from node.check.result import WORDS, Check, guarded
from node.config import Config
from node.translation import gettext

__all__ = ["WORDS", "Check", "check", "describe_pipelines"]


def check(config: Config, pipelines: Iterable[dict[str, Any]] | None = None) -> Iterator[Check]:
    """Run every check in turn; only a probe file in the storage folder is written.

    ``pipelines``: the result of ``describe_pipelines``, if it is known already.
    """
    yield machine.installation()
    yield from (Check(name="libraries", good=False, found=fault) for fault in compat.missing())
    of = {"rules": len(config.rules), "pipelines": len(config.pipelines)}
    yield Check(name="configuration", good=True, found=gettext("{rules} rules, {pipelines} pipelines", **of))
    yield guarded("storage", lambda: machine.storage(config))
    yield guarded("ledger", lambda: machine.ledger(config))
    yield machine.secrets(config)
    yield from machine.notification(config)
    yield from machine.text_recognition(config)
    if config.ae.tls.enabled:
        yield guarded("tls", lambda: network.tls(config))
    yield network.port(config)
    if config.fleet.host:
        yield from network.files_of_others(config)
    if config.web.enabled:
        yield network.own_port(config, "web", config.web.address, config.web.port, network.DASHBOARD)
    if config.orders.enabled:
        yield guarded("orders", lambda: network.orders(config))
    if config.orders.worklist.enabled:
        yield network.worklist(config)
    if config.orders.ups.enabled:
        yield guarded(network.WORKITEMS, lambda: network.workitems(config))
    if config.dicomweb.enabled:
        yield guarded("dicomweb", lambda: network.dicomweb(config))
    yield machine.device(config)
    entries = []
    for entry in describe_pipelines(config) if pipelines is None else pipelines:
        entries.append(entry)
        yield pipeline(entry)
        yield from acceptance(config, entry)
    yield from masks(config, entries)
    for name in config.destinations:
        yield network.destination(config, name)
