"""Checks of the network: TLS, ports of this node, file services of other machines, destinations."""

from __future__ import annotations

import time
from collections.abc import Iterator

from sqlalchemy.exc import SQLAlchemyError

from node.check.result import Check
from node.config import Config, Destination
from node.deliver import echo, echo_peer
from node.deliver.association import Peer
from node.dicomweb.authorization import token_of
from node.errors import NodeError
from node.fleet.file_client import fault
from node.ledger.holdings import file_services
from node.orders.ups_service import ups_service
from node.process.port_lock import bind_error, is_own_port
from node.receive.policy import Policy
from node.service import open_storage
from node.tls import path_of, server_context
from node.translation import gettext, marked
from node.web.tls_reload import ReloadingTls

WORKITEMS = "workitems"
DASHBOARD = marked("the dashboard")
_ORDERS = marked("the listener for orders")
_DICOMWEB = marked("DICOMweb")


def tls(config: Config) -> Check:
    """Check that the certificate can be used, and that the key of its authority is elsewhere."""
    server_context(config.ae.tls)
    certificate = config.ae.tls.certificate
    if config.ae.tls.require_client_certificate:
        text = gettext("{certificate} is usable; client certificates are required", certificate=certificate)
    else:
        text = gettext("{certificate} is usable; client certificates are optional", certificate=certificate)
    key = path_of(config.ae.tls.ca).with_suffix(".key")
    if key.exists() and key != path_of(config.ae.tls.key):
        remedy = gettext(
            "move {key} to another machine: whoever reads it can make certificates that this node accepts", key=key
        )
        text = gettext("{certificate}; the key of its authority is on this machine", certificate=text)
        return Check(name="tls", good=True, found=text, remedy=remedy)
    return Check(name="tls", good=True, found=text)


def files_of_others(config: Config) -> Iterator[Check]:
    """Check that this machine can fetch from the file service of every machine that runs one."""
    try:
        engine, _ = open_storage(config)
        with engine.connect() as connection:
            services = file_services(connection)
        engine.dispose()
        faults = {url: fault(config.fleet, url) for url in services.values()}
    except (NodeError, SQLAlchemyError) as error:
        yield Check(name="fleet", good=False, found=str(error))
        return
    for url, why in faults.items():
        remedy = gettext("compare [fleet] host with the names in its certificate, and ca on both; check the network")
        served = gettext("serves files to this machine")
        yield Check(name="fleet", good=not why, found=f"{url}: {why or served}", remedy=remedy if why else "")
    if not faults:
        text, remedy = gettext("no file service is running"), gettext("start the node, and check again")
        yield Check(name="fleet", good=True, found=text, remedy=remedy)


def port(config: Config) -> Check:
    """Check that the receiver can listen, or that it is this node that does."""
    title, where = config.ae.title.strip(), f"{config.ae.address}:{config.ae.port}"
    error = bind_error(config.ae.address, config.ae.port)
    if error is None:
        return Check(name="port", good=True, found=gettext("{address} is free", address=where))
    us, is_ours = Destination.of_node(config.ae), is_own_port(config.storage.folder, config.ae.port)
    if is_ours and Policy.of(config.ae).is_proxy(us.host):
        text = gettext(
            "{address}: this node; C-ECHO is not tried, because only a proxy may connect from {host}",
            address=where,
            host=us.host,
        )
        return Check(name="port", good=True, found=text)
    answer = echo("this node", us, config.ae.title)
    is_dicom = answer.ok or answer.rejected  # [ae] callers need not list the node itself
    if not is_ours:
        who = gettext("another DICOM node answers there") if is_dicom else error.strerror
        remedy = gettext("stop what uses the port, or change [ae] address and port")
        return Check(name="port", good=False, found=f"{where}: {who}", remedy=remedy)
    if not is_dicom:
        remedy = gettext("its receivers do not answer; their log says why")
        return Check(name="port", good=False, found=f"{where}: {answer.reason}", remedy=remedy)
    if answer.ok:
        return Check(name="port", good=True, found=gettext("{address}: this node answers C-ECHO", address=where))
    text = gettext("{address}: this node answers; [ae] callers does not list {title}", address=where, title=title)
    return Check(name="port", good=True, found=text)


def own_port(config: Config, table: str, address: str, port: int, service: str) -> Check:
    """Check that ``service`` of this node, configured in ``table``, can listen or does."""
    where, name = f"{address}:{port}", f"{table} port"
    error = bind_error(address, port)
    if error is None:
        return Check(name=name, good=True, found=gettext("{address} is free", address=where))
    of = {"service": gettext(service)}
    if is_own_port(config.storage.folder, port):
        return Check(name=name, good=True, found=gettext("{address}: {service} of this node", address=where, **of))
    remedy = gettext(
        "stop what uses the port, or change [{table}] address and port: {service} cannot start", table=table, **of
    )
    return Check(name=name, good=False, found=f"{where}: {error.strerror}", remedy=remedy)


def orders(config: Config) -> Check:
    """Check that the listener for orders can listen, or does."""
    if config.orders.tls.enabled:
        server_context(config.orders.tls, "[orders.tls]")
    return own_port(config, "orders", config.orders.address, config.orders.port, _ORDERS)


def worklist(config: Config) -> Check:
    """Check that the Modality Worklist answers C-ECHO."""
    of = config.orders.worklist
    answer = echo_peer(Peer.of_worklist(of), config.ae.title)
    text = answers_in(of.place, answer.seconds) if answer.ok else answer.reason
    return Check(name=gettext("worklist"), good=answer.ok, found=text)


def workitems(config: Config) -> Check:
    """Check that the UPS-RS worklist answers a search."""
    began = time.monotonic()
    with ups_service(config.orders.ups, lambda _: None) as service:
        number = len(service.scheduled())
    text = gettext(
        "{answers}; {number} workitems are scheduled",
        answers=answers_in(config.orders.ups.url, time.monotonic() - began),
        number=number,
    )
    return Check(name=WORKITEMS, good=True, found=text)


def dicomweb(config: Config) -> Check:
    """Check that the DICOMweb service can listen, or does, with the tokens and the certificate that it needs."""
    settings = config.dicomweb
    for name, client in settings.clients.items():
        token_of(client.token_file, name)
    if settings.certificate is not None:
        ReloadingTls(settings.certificate, settings.key, "[dicomweb]")
    return own_port(config, "dicomweb", settings.address, settings.port, _DICOMWEB)


def destination(config: Config, name: str) -> Check:
    """Check that ``[destinations.name]`` answers."""
    to = config.destinations[name]
    answer = echo(name, to, config.ae.title)
    text = answers_in(to.place, answer.seconds) if answer.ok else answer.reason
    return Check(name=gettext("destination {name}", name=name), good=answer.ok, found=text)


def answers_in(place: str, seconds: float) -> str:
    """Return that a peer answers, and in what time."""
    return gettext("{place} answers in {milliseconds} ms", place=place, milliseconds=f"{seconds * 1000:.0f}")
