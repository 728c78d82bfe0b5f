"""The dashboard over TLS: the cookie stays on it, old protocols are refused, a renewed certificate is taken."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
from pathlib import Path

import pytest
from certificates import Authority
from dashboards import Serve
from receivers import until
from tls_scan import scan

from node.errors import ConfigError
from node.web.tls_reload import ReloadingTls


def name_at(port: int, trusting: ssl.SSLContext) -> str:
    """Common name of the certificate that is shown."""
    with (
        socket.create_connection(("127.0.0.1", port), timeout=60.0) as plain,
        trusting.wrap_socket(plain, server_hostname="127.0.0.1") as opened,
    ):
        subject = opened.getpeercert()["subject"]  # type: ignore[index]
    return dict(pair for part in subject for pair in part)["commonName"]


def test_the_dashboard_over_tls_keeps_its_cookie_there_and_takes_a_renewed_certificate(
    serve: Serve,
    authority: Authority,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("node.web.tls_reload.LOOK_SECONDS", 0.1)
    pem, key = tmp_path / "web.pem", tmp_path / "web.key"
    shutil.copy(authority.pem("ainode"), pem)
    shutil.copy(authority.key("ainode"), key)
    trusting = ssl.create_default_context(cafile=authority.pem("ca"))
    with serve(certificate=pem, key=key) as dashboard:
        browser = dashboard.browser("vera", trusting)
        answer = browser.get("/")
        assert answer.status_code == 200
        assert "max-age" in answer.headers["strict-transport-security"]
        assert "; secure" in dashboard.browser("", trusting).get("/login").headers["set-cookie"].lower()
        port = dashboard.config.web.port
        spoken = scan("127.0.0.1", port, authority.pem("ca"))
        assert (spoken["TLSv1"], spoken["TLSv1_1"]) == ([], [])
        assert all("GCM" in suite or "CHACHA20" in suite for suite in spoken["TLSv1_2"] + spoken["TLSv1_3"])
        assert spoken["TLSv1_3"]
        assert name_at(port, trusting) == "ainode.example"
        shutil.copy(authority.pem("ct1"), pem)
        until(lambda: "the old certificate is shown" in caplog.text)  # its key is still that of the old one
        assert name_at(port, trusting) == "ainode.example"
        shutil.copy(authority.key("ct1"), key)
        until(lambda: name_at(port, trusting) == "ct1.example")
        assert browser.get("/").status_code == 200


def test_files_that_do_not_fit_are_warned_of_once_a_change_and_taken_when_they_do(
    authority: Authority, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pem, key = tmp_path / "web.pem", tmp_path / "web.key"
    shutil.copy(authority.pem("ainode"), pem)
    shutil.copy(authority.key("ainode"), key)
    secured = ReloadingTls(pem, key)
    whole = Path(authority.pem("ct1")).read_bytes()
    shutil.copy(authority.key("ct1"), key)
    for written, warned in ((whole[:100], 1), (whole[:200], 2)):
        pem.write_bytes(written)
        for _ in range(3):
            secured.look()
        assert caplog.text.count("the old certificate is shown") == warned
    stamps = pem.stat()
    pem.write_bytes(whole)
    os.utime(pem, ns=(stamps.st_atime_ns, stamps.st_mtime_ns))  # a clock too coarse to tell the two writings apart
    before = secured.current
    secured.look()
    assert secured.current is not before


def test_a_certificate_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "web.pem").write_text("nothing")
    with pytest.raises(ConfigError, match=r"\[web\] certificate .*web\.pem"):
        ReloadingTls(tmp_path / "web.pem", None)
