"""What ``ainode check`` says of a port that is in use: by this node, by another one, or by another program."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from real_peers import free_port
from receivers import configuration, receiving
from supervised import Supervised

from node.check import Check, check
from node.config import Config, load, parse
from node.ledger.engine import now
from node.operate.alerts import current_alerts
from node.service import open_storage
from node.web.http_connections import listen


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Supervised]:
    """A node that takes images of one caller only, as `ainode doctor` advises."""
    node = Supervised(tmp_path_factory.mktemp("running"))
    node.start('callers = [{ title = "CT1" }]')
    yield node
    node.stop()


def checked(config: Config, name: str) -> Check:
    return next(answer for answer in check(config, ()) if answer.name == name)


def test_a_node_whose_callers_do_not_list_itself_is_well(running: Supervised) -> None:
    answer = checked(load(running.file), "port")
    assert answer.good
    assert answer.found == f"127.0.0.1:{running.port}: this node answers; [ae] callers does not list AINODE"


def test_a_node_that_takes_images_of_everyone_is_well(tmp_path: Path) -> None:
    node = Supervised(tmp_path)
    node.start("")
    try:
        assert checked(load(node.file), "port").found == f"127.0.0.1:{node.port}: this node answers C-ECHO"
    finally:
        node.stop()
    assert checked(load(node.file), "port").found == f"127.0.0.1:{node.port} is free"


@pytest.mark.parametrize("ae", ["", 'callers = [{ title = "CT1" }]'])
def test_a_port_of_another_node_is_a_failure(tmp_path: Path, ae: str) -> None:
    with receiving(tmp_path / "other", ae) as other:
        answer = checked(parse(configuration(tmp_path / "ours", other.port, ae)), "port")
    assert not answer.good
    assert answer.found == f"127.0.0.1:{other.port}: another DICOM node answers there"
    assert answer.remedy == "stop what uses the port, or change [ae] address and port"


def test_a_port_of_the_dashboard_that_is_taken_is_a_failure_and_an_alert(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        config = with_dashboard(tmp_path, taken.getsockname()[1])
        answer, alerts = checked(config, "web port"), alerts_of(config)
    assert not answer.good
    assert answer.found.endswith("Address already in use")
    assert "the dashboard cannot start" in answer.remedy
    assert "Address already in use; stop what uses the port" in alerts["web port"]


def test_a_dashboard_that_serves_is_well(tmp_path: Path) -> None:
    port = free_port()
    config = with_dashboard(tmp_path, port)
    assert checked(config, "web port").found == f"127.0.0.1:{port} is free"
    listener = listen("127.0.0.1", port, config.storage.folder)
    assert checked(config, "web port").found == f"127.0.0.1:{port}: the dashboard of this node"
    assert alerts_of(config) == {}
    listener.close()


def with_dashboard(folder: Path, port: int) -> Config:
    web = f'[web]\nenabled = true\naddress = "127.0.0.1"\nport = {port}\n'
    config = parse(configuration(folder / "ours", free_port(), "") + web)
    open_storage(config)
    return config


def alerts_of(config: Config) -> dict[str, str]:
    engine, spool = open_storage(config)
    with engine.connect() as connection:
        return current_alerts(config, connection, spool, now())
