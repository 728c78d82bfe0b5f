"""DICOM over TLS: real peers are served, and refused where they must be; certificates are renewed at work."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from certificates import Authority, tls
from dicom_files import write
from raw_peer import COMMAND, LAST, RAW_CT, associate_rq, c_store, p_data, status
from receivers import Node, receiving, until
from tls_peers import DATA, DATASET, UID, as_peer, hear, secured, storescu
from tls_scan import scan

from node.ledger.tables import association, instance


@pytest.fixture
def image(tmp_path: Path) -> Path:
    (path,) = write([DATASET], tmp_path / "image")
    return path


def test_dcmtk_stores_over_tls_with_its_certificate(tmp_path: Path, authority: Authority, image: Path) -> None:
    with receiving(tmp_path / "node", ae=tls(authority)) as node:
        assert storescu(node, image, *as_peer(authority, "ct1")) == 0
        assert [row.sop_instance_uid for row in node.rows(instance)] == [UID]


def test_peers_without_a_good_certificate_are_refused_and_others_are_served(
    tmp_path: Path, authority: Authority, other: Authority, image: Path, caplog: pytest.LogCaptureFixture
) -> None:
    refused = {
        "no certificate": ["+tla", "+cf", authority.pem("ca")],
        "another authority": as_peer(other, "ct1", authority),
        "expired": as_peer(authority, "expired"),
        "revoked": as_peer(authority, "revoked"),
        "plain DICOM": [],
    }
    with receiving(tmp_path / "node", ae=tls(authority)) as node:
        for why, options in refused.items():
            assert storescu(node, image, *options) != 0, why
            until(lambda: "handshake with 127.0.0.1 failed" in caplog.text)
            caplog.clear()
        assert node.rows(association) == []
        assert storescu(node, image, *as_peer(authority, "ct1")) == 0


def test_certificates_of_peers_can_be_left_out_when_the_administrator_says_so(
    tmp_path: Path, authority: Authority, image: Path
) -> None:
    with receiving(tmp_path / "node", ae=tls(authority, required=False)) as node:
        assert storescu(node, image, "+tla", "+cf", authority.pem("ca")) == 0
        assert storescu(node, image, *as_peer(authority, "revoked")) != 0


def test_a_caller_shows_the_certificate_that_its_entry_names(tmp_path: Path, authority: Authority, image: Path) -> None:
    for wanted, good in (
        ("CT1.example", True),
        (authority.fingerprint("ct1"), True),
        (authority.fingerprint("ct1").replace(":", "").lower(), True),
        ("ainode.example", False),
        (authority.fingerprint("ainode"), False),
    ):
        callers = f'{{ title = "CT1", certificate = "{wanted}" }}'
        with receiving(tmp_path / f"node-{wanted[:20]}", ae=tls(authority, callers=callers)) as node:
            assert (storescu(node, image, *as_peer(authority, "ct1")) == 0) == good, wanted


def test_a_caller_with_a_certificate_is_not_believed_without_one(
    tmp_path: Path, authority: Authority, image: Path
) -> None:
    callers = '{ title = "CT1", certificate = "ct1.example" }'
    with receiving(tmp_path / "node", ae=tls(authority, required=False, callers=callers)) as node:
        assert storescu(node, image, "+tla", "+cf", authority.pem("ca")) != 0
        assert storescu(node, image, *as_peer(authority, "ct1")) == 0


def test_only_tls_1_2_and_1_3_with_sound_suites_are_spoken_as_the_page_shows(
    tmp_path: Path, authority: Authority
) -> None:
    own = (authority.pem("ct1"), authority.key("ct1"))
    with receiving(tmp_path / "node", ae=tls(authority)) as node:
        spoken = scan("127.0.0.1", node.port, authority.pem("ca"), own)
    assert (spoken["TLSv1"], spoken["TLSv1_1"]) == ([], [])
    page = (Path(__file__).parents[2] / "docs" / "security.md").read_text(encoding="utf-8")
    for protocol, suites in spoken.items():
        assert f"{protocol.replace('_', '.'):<8} {', '.join(suites) or 'refused'}" in page


def test_a_renewed_certificate_holds_for_the_next_connection_and_open_ones_go_on(
    tmp_path: Path, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    for end in ("pem", "key"):
        shutil.copy(authority.folder / f"ainode.{end}", tmp_path / f"mine.{end}")
    text = tls(authority).replace(authority.pem("ainode"), str(tmp_path / "mine.pem"))
    text = text.replace(authority.key("ainode"), str(tmp_path / "mine.key"))

    def shown(node: Node) -> str:
        with secured(node, authority) as opened:
            return dict(pair for part in opened.getpeercert()["subject"] for pair in part)["commonName"]  # type: ignore[index]

    with receiving(tmp_path / "node", ae=text) as node, secured(node, authority) as first:
        first.sendall(associate_rq(RAW_CT))
        assert hear(first)[0] == 2
        assert shown(node) == "ainode.example"
        shutil.copy(authority.pem("ct1"), tmp_path / "mine.pem")  # its key is still that of the old one
        assert shown(node) == "ainode.example"
        assert "cannot be used" in caplog.text
        shutil.copy(authority.key("ct1"), tmp_path / "mine.key")
        assert shown(node) == "ct1.example"
        first.sendall(p_data(COMMAND, c_store(UID)) + p_data(LAST, DATA))
        assert status(hear(first)) == 0x0000


def test_a_peer_that_is_revoked_loses_its_next_connection(tmp_path: Path, image: Path) -> None:
    own = Authority(tmp_path / "own")
    own.issue("mr1")
    own.revocation_list()
    with receiving(tmp_path / "node", ae=tls(own)) as node:
        assert storescu(node, image, *as_peer(own, "mr1")) == 0
        own.revoke("mr1")
        own.revocation_list()
        assert storescu(node, image, *as_peer(own, "mr1")) != 0


def test_a_peer_of_a_revoked_intermediate_authority_is_refused(tmp_path: Path, image: Path) -> None:
    root = Authority(tmp_path / "root")
    below = Authority(tmp_path / "below", above=root)
    below.issue("ct2")
    chain, lists = tmp_path / "chain.pem", tmp_path / "lists.pem"
    chain.write_text("".join(Path(authority.pem("ca")).read_text() for authority in (root, below)))

    def write_lists(*authorities: Authority) -> None:
        for authority in authorities:
            authority.revocation_list()
        lists.write_text("".join(Path(authority.pem("crl")).read_text() for authority in authorities))

    own = {"certificate": root.pem("ainode"), "key": root.key("ainode"), "ca": chain, "crl": lists}
    text = "[ae.tls]\nenabled = true\n" + "".join(f'{key} = "{path}"\n' for key, path in own.items())
    peer = ["+tls", below.key("ct2"), below.pem("ct2"), "+cf", root.pem("ca")]
    write_lists(root, below)
    with receiving(tmp_path / "node", ae=text) as node:
        assert storescu(node, image, *peer) == 0
        write_lists(below)  # nobody says whether the intermediate authority is revoked
        assert storescu(node, image, *peer) != 0
        root.revoke("intermediate")
        write_lists(root, below)
        assert storescu(node, image, *peer) != 0
