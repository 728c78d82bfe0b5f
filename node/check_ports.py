"""The checks of the ports on which the node listens, and of what its listeners need."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from node.check_result import Check
from node.config import Config, Destination
from node.deliver import echo
from node.dicomweb.authorization import token_of
from node.process.port_lock import bind_error, is_own_port
from node.receive.policy import Policy
from node.tls import server_context
from node.web.tls_reload import ReloadingTls


def port_check(config: Config) -> Check:
    """Check that the receiver can listen, or answers."""
    title, where = config.ae.title.strip(), f"{config.ae.address}:{config.ae.port}"
    error = bind_error(config.ae.address, config.ae.port)
    if error is None:
        return Check(name="port", good=True, found=f"{where} is free")
    us, is_ours = Destination.of_node(config.ae), is_own_port(config.storage.folder, config.ae.port)
    if is_ours and Policy.of(config.ae).is_proxy(us.host):
        found = f"{where}: this node; C-ECHO is not tried, because only a proxy may connect from {us.host}"
        return Check(name="port", good=True, found=found)
    answer = echo("this node", us, config.ae.title)
    is_dicom = answer.ok or answer.rejected  # [ae] callers need not list the node itself
    if not is_ours:
        who = "another DICOM node answers there" if is_dicom else error.strerror
        remedy = "stop what uses the port, or change [ae] address and port"
        return Check(name="port", good=False, found=f"{where}: {who}", remedy=remedy)
    if not is_dicom:
        remedy = "its receivers do not answer; their log says why"
        return Check(name="port", good=False, found=f"{where}: {answer.reason}", remedy=remedy)
    how = "answers C-ECHO" if answer.ok else f"answers; [ae] callers does not list {title}"
    return Check(name="port", good=True, found=f"{where}: this node {how}")


def service_checks(config: Config) -> Iterator[tuple[str, Callable[[], Check]]]:
    """Yield name and check of each enabled listener besides the receiver; a check raises ``NodeError`` as well."""
    for name, is_enabled, look in (
        ("web", config.web.enabled, _web),
        ("orders", config.orders.enabled, _orders),
        ("dicomweb", config.dicomweb.enabled, _dicomweb),
    ):
        if is_enabled:
            yield name, partial(look, config)


def _own_port(config: Config, table: str, address: str, port: int, service: str) -> Check:
    """Check that ``service`` of this node, configured in ``table``, can listen or does."""
    where = f"{address}:{port}"
    error = bind_error(address, port)
    if error is None:
        return Check(name=f"{table} port", good=True, found=f"{where} is free")
    if is_own_port(config.storage.folder, port):
        return Check(name=f"{table} port", good=True, found=f"{where}: {service} of this node")
    remedy = f"stop what uses the port, or change [{table}] address and port: {service} cannot start"
    return Check(name=f"{table} port", good=False, found=f"{where}: {error.strerror}", remedy=remedy)


def _web(config: Config) -> Check:
    return _own_port(config, "web", config.web.address, config.web.port, "the dashboard")


def _orders(config: Config) -> Check:
    if config.orders.tls.enabled:
        server_context(config.orders.tls, "[orders.tls]")
    return _own_port(config, "orders", config.orders.address, config.orders.port, "the listener for orders")


def _dicomweb(config: Config) -> Check:
    settings = config.dicomweb
    for name, client in settings.clients.items():
        token_of(client.token_file, name)
    if settings.certificate is not None:
        ReloadingTls(settings.certificate, settings.key, "[dicomweb]")
    return _own_port(config, "dicomweb", settings.address, settings.port, "DICOMweb")
