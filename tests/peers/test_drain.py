"""A drained machine serves the associations that are open and rejects others, until that is undone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from dicom_files import ct_series
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from real_peers import free_port
from receivers import Node, associate, configuration, send_dataset, until

from node.__main__ import main
from node.config import parse
from node.errors import NotFoundError
from node.ledger.tables import instance
from node.membership import Membership, new_member
from node.process.presence import host_name
from node.receive.receiver import Receiver
from node.spool.machine import machine_id

CT = [(CTImageStorage, ExplicitVRLittleEndian)]


@pytest.mark.parametrize("name", ["host", "id"])
def test_open_associations_end_well_and_new_ones_are_rejected_as_a_temporary_condition(
    tmp_path: Path, name: str
) -> None:
    file = tmp_path / "config.toml"
    file.write_text(configuration(tmp_path / "node", free_port()))
    node = Node(parse(file.read_text()))
    machine = host_name() if name == "host" else machine_id(node.spool.folder)[:8]
    us = new_member("receiver", machine_id(node.spool.folder))
    membership = Membership(node.engine, replace(us, id=node.spool.drafts.writer))
    membership.begin()
    elsewhere = Membership(node.engine, new_member("receiver", "another"))
    elsewhere.begin()
    receiver = Receiver(node.config, node.engine, node.spool, membership)
    receiver.start()

    def verb(*words: str) -> str:
        return CliRunner().invoke(main, [*words, "--config", str(file)], catch_exceptions=False).output

    try:
        first, second = ct_series(2, 16)
        peer = associate(node, CT)
        assert send_dataset(peer, first).Status == 0x0000
        assert "finishes its work" in verb("drain", machine)
        membership.beat()
        elsewhere.beat()
        assert elsewhere.is_drained == (name == "host")  # two storage folders of one host; two hosts of one folder
        until(lambda: "draining, 1 open associations" in verb("fleet"))
        assert f"`ainode drain --undo {host_name()}` lets it work again" in verb("status")
        rejected = associate(node, CT)
        assert rejected.is_rejected
        answer = rejected.acceptor.primitive
        assert (answer.result, answer.result_source, answer.diagnostic) == (2, 3, 1)
        assert send_dataset(peer, second).Status == 0x0000
        peer.release()
        until(lambda: "draining, 0 open associations" in verb("fleet"))
        assert "works again" in verb("drain", "--undo", machine)
        assert "DRAINED" not in verb("status")
        membership.beat()
        peer = associate(node, CT)
        assert send_dataset(peer, first).Status == 0x0000
        peer.release()
    finally:
        receiver.stop(grace_seconds=2.0)
        for of in (membership, elsewhere):
            of.leave()
    assert len(node.rows(instance)) == 2
    for words in (("drain", "--undo", machine), ("drain", "nowhere"), ("drain", "")):
        assert CliRunner().invoke(main, [*words, "--config", str(file)]).exit_code == NotFoundError.exit_code
    node.engine.dispose()
