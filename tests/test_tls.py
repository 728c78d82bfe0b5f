"""DICOM over TLS: real peers are served, and refused where they must be; nobody waits for a silent one."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path

import peers
import pytest
from certificates import Authority, tls
from dicom_files import ct_series, write
from raw_peer import COMMAND, LAST, MORE, RAW_CT, associate_rq, c_store, connection, p_data, status
from receivers import Node, encode, receiving, until

from node.check import check
from node.config import DestinationTls, parse
from node.config.routing import Destination
from node.deliver import echo
from node.errors import ConfigError
from node.ledger.tables import association, instance
from node.tls import ServerTls, client_context, server_context

DATASET = ct_series(1, 32)[0]
UID, DATA = str(DATASET.SOPInstanceUID), encode(DATASET)
BEGUN = p_data(COMMAND, c_store(UID)) + p_data(MORE, DATA[:100])


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    made = Authority(tmp_path_factory.mktemp("authority"))
    made.issue("expired", "-startdate", "20200101000000Z", "-enddate", "20200201000000Z")
    made.issue("revoked")
    made.revoke("revoked")
    made.revocation_list()
    return made


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("other"))


@pytest.fixture
def image(tmp_path: Path) -> Path:
    (path,) = write([DATASET], tmp_path / "image")
    return path


@contextmanager
def secured(node: Node, authority: Authority, name: str = "ct1") -> Iterator[ssl.SSLSocket]:
    """A connection over TLS."""
    context = ssl.create_default_context(cafile=authority.pem("ca"))
    context.load_cert_chain(authority.pem(name), authority.key(name))
    with connection(node) as plain, context.wrap_socket(plain, server_hostname="localhost") as opened:
        yield opened


def hear(opened: ssl.SSLSocket) -> bytes:
    """The next PDU; TLS knows no MSG_WAITALL."""
    got = b""
    while len(got) < 6 or len(got) < 6 + int.from_bytes(got[2:6], "big"):
        part = opened.recv(1 << 16)
        if not part:
            return got
        got += part
    return got


def storescu(node: Node, image: Path, *options: str) -> int:
    arguments = ["-aet", "CT1", "-aec", "AINODE", *options, "127.0.0.1", node.port, image]
    return peers.dcmtk("storescu", *arguments, timeout=30.0).returncode


def as_peer(authority: Authority, name: str, ca: Authority | None = None) -> list[str]:
    return ["+tls", authority.key(name), authority.pem(name), "+cf", (ca or authority).pem("ca")]


# --- peers that call ----------------------------------------------------------------------------------------------


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


def test_only_tls_1_2_and_1_3_with_sound_suites_are_spoken(tmp_path: Path, authority: Authority) -> None:
    def speaks(*options: str) -> bool:
        command = ["openssl", "s_client", "-connect", f"127.0.0.1:{node.port}", "-CAfile", authority.pem("ca")]
        command += ["-cert", authority.pem("ct1"), "-key", authority.key("ct1"), "-verify_return_error", *options]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        return "Verify return code: 0 (ok)" in done.stdout and "Cipher is (NONE)" not in done.stdout

    with receiving(tmp_path / "node", ae=tls(authority)) as node:
        assert speaks("-tls1_3")
        assert speaks("-tls1_2")
        assert not speaks("-tls1_1", "-cipher", "ALL:@SECLEVEL=0")
        assert not speaks("-tls1", "-cipher", "ALL:@SECLEVEL=0")
        for weak in ("AES128-GCM-SHA256", "ECDHE-ECDSA-AES128-SHA", "ECDHE-ECDSA-AES256-SHA384", "NULL"):
            assert not speaks("-tls1_2", "-cipher", f"{weak}:@SECLEVEL=0"), weak


# --- peers that are silent, slow or broken ------------------------------------------------------------------------


def test_nobody_waits_for_connections_that_never_begin_the_handshake(
    tmp_path: Path, authority: Authority, image: Path
) -> None:
    limits = "max_associations = 2\nassociation_timeout_seconds = 1.5"
    with receiving(tmp_path / "node", ae=tls(authority, more=limits)) as node, ExitStack() as silent:
        opened = [silent.enter_context(connection(node)) for _ in range(20)]
        begun = time.monotonic()
        assert storescu(node, image, *as_peer(authority, "ct1")) == 0
        assert time.monotonic() - begun < 10.0
        for one in opened:
            one.settimeout(10.0)
            assert one.recv(1) == b""


def test_the_handshake_must_end_in_time_however_it_trickles(tmp_path: Path, authority: Authority) -> None:
    hello, incoming = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ssl.create_default_context(cafile=authority.pem("ca")).wrap_bio(
        incoming, hello, server_hostname="localhost"
    )
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    timer = "association_timeout_seconds = 1.0"
    with receiving(tmp_path / "node", ae=tls(authority, more=timer)) as node, connection(node) as opened:
        begun = time.monotonic()
        opened.settimeout(0.2)
        for byte in hello.read():
            try:
                opened.sendall(bytes([byte]))
                if opened.recv(10) == b"":
                    break
            except TimeoutError:
                continue
            except ConnectionError:
                break
        assert time.monotonic() - begun < 6.0


@pytest.mark.parametrize("begun", [b"", BEGUN], ids=["idle", "store"])
def test_a_peer_that_falls_silent_on_tls_is_aborted_and_leaves_nothing(
    tmp_path: Path, authority: Authority, begun: bytes
) -> None:
    timer = "network_timeout_seconds = 1.0"
    with receiving(tmp_path / "node", ae=tls(authority, more=timer)) as node, secured(node, authority) as opened:
        opened.sendall(associate_rq(RAW_CT))
        assert hear(opened)[0] == 2
        opened.sendall(begun)
        opened.settimeout(10.0)
        assert hear(opened)[0] == 7
        assert hear(opened) == b""
        until(lambda: node.files() == [])


def test_garbage_in_the_middle_of_tls_ends_the_association_and_leaves_nothing(
    tmp_path: Path, authority: Authority
) -> None:
    with receiving(tmp_path / "node", ae=tls(authority)) as node, secured(node, authority) as opened:
        opened.sendall(associate_rq(RAW_CT))
        assert hear(opened)[0] == 2
        opened.sendall(BEGUN)
        until(lambda: len(node.files()) == 1)
        socket.socket.send(opened, b"\x17\3\3\0\x20" + bytes(32))  # past TLS, straight to the connection
        until(lambda: node.files() == [])


def test_a_large_instance_comes_whole_over_tls(tmp_path: Path, authority: Authority) -> None:
    dataset = ct_series(1, 1024)[0]
    data = encode(dataset)
    with receiving(tmp_path / "node", ae=tls(authority)) as node, secured(node, authority) as opened:
        opened.sendall(associate_rq(RAW_CT))
        assert hear(opened)[0] == 2
        parts = [data[start : start + 100_000] for start in range(0, len(data), 100_000)]
        opened.sendall(p_data(COMMAND, c_store(str(dataset.SOPInstanceUID))))
        opened.sendall(b"".join(p_data(MORE, part) for part in parts) + p_data(LAST, b""))
        assert status(hear(opened)) == 0x0000
        (row,) = node.rows(instance)
        assert node.spool.absolute(row.path).read_bytes().endswith(data)


def test_tls_to_a_plain_port_is_cut_off_and_others_are_served(node: Node, authority: Authority, image: Path) -> None:
    assert storescu(node, image, *as_peer(authority, "ct1")) != 0
    assert storescu(node, image) == 0


def test_a_stop_ends_idle_tls_associations_at_once(tmp_path: Path, authority: Authority) -> None:
    with ExitStack() as held:
        with receiving(tmp_path / "node", ae=tls(authority)) as node:
            opened = held.enter_context(secured(node, authority))
            opened.sendall(associate_rq(RAW_CT))
            assert hear(opened)[0] == 2
            time.sleep(0.6)
            begun = time.monotonic()
        assert time.monotonic() - begun < 9.0
        assert hear(opened)[0] == 7


# --- renewal ------------------------------------------------------------------------------------------------------


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


# --- peers that we call -------------------------------------------------------------------------------------------


def destination(port: int, authority: Authority, **more: object) -> Destination:
    files = {"certificate": authority.pem("ainode"), "key": authority.key("ainode"), "ca": authority.pem("ca")}
    secure = DestinationTls(enabled=True, **{**files, **more})  # type: ignore[arg-type]
    return Destination(title="STORESCP", host="127.0.0.1", port=port, tls=secure)


def test_dcmtk_is_echoed_over_tls_with_our_certificate(tmp_path: Path, authority: Authority, other: Authority) -> None:
    with peers.storescp(
        tmp_path, "+tls", authority.key("ct1"), authority.pem("ct1"), "+cf", authority.pem("ca")
    ) as scp:
        answered = echo("pacs", destination(scp.port, authority), "AINODE")
        assert answered.ok, answered.reason
        for more, words in (
            ({"ca": other.pem("ca")}, "its certificate is not accepted"),
            ({"certificate": other.pem("ct1"), "key": other.key("ct1")}, "accepts our certificate"),
            ({"ca": str(tmp_path / "none.pem")}, "none.pem: No such file"),
        ):
            refused = echo("pacs", destination(scp.port, authority, **more), "AINODE")
            assert not refused.ok
            assert words in refused.reason


def test_a_destination_must_be_the_host_that_its_certificate_names(tmp_path: Path, authority: Authority) -> None:
    with peers.storescp(tmp_path, *as_peer(authority, "revoked")) as scp:
        wrong = echo("pacs", destination(scp.port, authority), "AINODE")
        assert "IP address mismatch" in wrong.reason
        assert "check_host in [destinations.pacs.tls]" in wrong.reason
        assert echo("pacs", destination(scp.port, authority, check_host=False), "AINODE").ok
        revoked = destination(scp.port, authority, check_host=False, crl=str(authority.folder / "crl.pem"))
        assert "revoked" in echo("pacs", revoked, "AINODE").reason


def test_tls_to_a_destination_that_speaks_plain_dicom_is_told_in_words(tmp_path: Path, authority: Authority) -> None:
    with peers.storescp(tmp_path) as scp:
        refused = echo("pacs", destination(scp.port, authority), "AINODE")
    assert not refused.ok
    assert "TLS" in refused.reason


# --- configuration ------------------------------------------------------------------------------------------------


def test_the_example_of_the_page_is_a_configuration_and_destinations_use_our_certificate() -> None:
    page = (Path(__file__).parents[1] / "docs" / "security.md").read_text()
    config = parse(page.split("```toml\n")[1].split("```")[0])
    pacs = config.destinations["pacs"].tls
    assert pacs.enabled
    assert (pacs.certificate, pacs.key, pacs.ca) == (config.ae.tls.certificate, config.ae.tls.key, config.ae.tls.ca)
    assert pacs.check_host


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[ae.tls]\nenabled = true\nkey = "k"\nca = "c"', "certificate is missing"),
        ('[ae]\ncallers = [{ title = "A", certificate = "a" }]', r"\[ae.tls\] enabled = true"),
        (
            '[destinations.p]\ntitle = "P"\nhost = "h"\nport = 1\n[destinations.p.tls]\nenabled = true',
            "destinations.p.tls.ca is missing",
        ),
        ('[destinations.p]\nurl = "https://h"\n[destinations.p.tls]\nenabled = true\nca = "c"', "for url write https"),
    ],
)
def test_a_mistake_about_tls_is_refused_with_its_remedy(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse(text)


def test_files_that_cannot_be_used_are_named(authority: Authority, other: Authority, tmp_path: Path) -> None:
    authority.encrypt_key("ct1")
    good = parse(f"[ae]\n{tls(authority)}").ae.tls
    (tmp_path / "text.pem").write_text("no certificate")
    for change, words in (
        ({"certificate": str(tmp_path / "none.pem")}, "none.pem.*No such file"),
        ({"key": other.key("ainode")}, r"KEY_VALUES_MISMATCH|key values mismatch"),
        ({"ca": str(tmp_path / "text.pem")}, "text.pem.*give PEM files"),
        ({"key": str(authority.folder / "ct1.locked")}, "is encrypted"),
    ):
        with pytest.raises(ConfigError, match=words):
            server_context(good.model_copy(update=change))


def test_a_name_without_slash_is_a_credential_of_the_service(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(authority.folder))
    files = {"certificate": "ainode.pem", "key": "ainode.key", "ca": "ca.pem"}
    ServerTls(parse("").ae.tls.model_copy(update={"enabled": True, **files})).context()
    client_context(DestinationTls(enabled=True, **files), "[destinations.p.tls]")


def test_ainode_check_speaks_tls_with_the_running_node(tmp_path: Path, authority: Authority) -> None:
    with receiving(tmp_path / "node", ae=tls(authority)) as node:
        answers = {one.name: one for one in islice(check(node.config), 5)}
    assert answers["tls"].good
    assert answers["port"].good
    assert "a node answers C-ECHO" in answers["port"].found
