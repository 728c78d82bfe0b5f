"""DICOM over TLS: destinations that we call, and the configuration of it."""

from __future__ import annotations

from contextlib import closing
from itertools import islice
from pathlib import Path

import pytest
import real_peers
from certificates import Authority, tls
from receivers import receiving
from tls_peers import as_peer

from node.check import check
from node.config import Destination, DestinationTls, parse
from node.deliver import echo
from node.errors import ConfigError
from node.process.port_lock import PortLock
from node.tls import ServerTls, client_context, server_context


def destination(port: int, authority: Authority, **more: object) -> Destination:
    files = {"certificate": authority.pem("ainode"), "key": authority.key("ainode"), "ca": authority.pem("ca")}
    secure = DestinationTls(enabled=True, **{**files, **more})  # type: ignore[arg-type]
    return Destination(title="STORESCP", host="127.0.0.1", port=port, tls=secure)


def test_dcmtk_is_echoed_over_tls_with_our_certificate(tmp_path: Path, authority: Authority, other: Authority) -> None:
    with real_peers.storescp(
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
    with real_peers.storescp(tmp_path, *as_peer(authority, "revoked")) as scp:
        wrong = echo("pacs", destination(scp.port, authority), "AINODE")
        assert "IP address mismatch" in wrong.reason
        assert "check_host in [destinations.pacs.tls]" in wrong.reason
        assert echo("pacs", destination(scp.port, authority, check_host=False), "AINODE").ok
        revoked = destination(scp.port, authority, check_host=False, crl=str(authority.folder / "crl.pem"))
        assert "revoked" in echo("pacs", revoked, "AINODE").reason


def test_tls_to_a_destination_that_speaks_plain_dicom_is_told_in_words(tmp_path: Path, authority: Authority) -> None:
    with real_peers.storescp(tmp_path) as scp:
        refused = echo("pacs", destination(scp.port, authority), "AINODE")
    assert not refused.ok
    assert "TLS" in refused.reason


def test_the_example_of_the_page_is_a_configuration_and_destinations_use_our_certificate() -> None:
    page = (Path(__file__).parents[2] / "docs" / "security.md").read_text()
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
        ({"ca": str(tmp_path / "text.pem")}, "text.pem.*use PEM files"),
        ({"key": str(authority.folder / "ct1.locked")}, "is encrypted"),
    ):
        with pytest.raises(ConfigError, match=words):
            server_context(good.model_copy(update=change))


def test_a_name_without_slash_is_a_credential_of_the_service(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(authority.folder))
    files = {"certificate": "ainode.pem", "key": "ainode.key", "ca": "ca.pem"}
    for context in (
        ServerTls(parse("").ae.tls.model_copy(update={"enabled": True, **files})).context(),
        client_context(DestinationTls(enabled=True, **files), "[destinations.p.tls]"),
    ):
        assert context.cert_store_stats()["x509_ca"] == 1


def test_ainode_check_speaks_tls_with_the_running_node(tmp_path: Path, authority: Authority) -> None:
    with (
        receiving(tmp_path / "node", ae=tls(authority)) as node,
        closing(PortLock(node.config.storage.folder, node.config.ae.port)) as lock,
    ):
        lock.share()  # as the supervisor does
        answers = {result.name: result for result in islice(check(node.config), 7)}
    assert answers["tls"].good
    assert answers["port"].good
    assert "this node answers C-ECHO" in answers["port"].found
