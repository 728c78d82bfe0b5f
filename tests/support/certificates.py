"""Certificates for tests: the test authority of docs/security.md, and certificates that must not be accepted."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

_PAGE = Path(__file__).parents[2] / "docs" / "security.md"
_EXAMPLES = re.compile(r"```sh\n(.*?)```", re.DOTALL)

_CA = """
[ca]
default_ca = here
[here]
dir = .
database = ./index
new_certs_dir = .
serial = ./serial
certificate = ./ca.pem
private_key = ./ca.key
default_md = sha256
default_days = 30
default_crl_days = 30
policy = any
[any]
commonName = supplied
"""


class Authority:
    """Files in one folder; ``pem("ct1")`` and ``key("ct1")`` name them."""

    def __init__(self, folder: Path, above: Authority | None = None) -> None:
        """Run the commands of the page; or make an authority that one ``above`` it has certified."""
        if shutil.which("openssl") is None:
            pytest.skip("openssl is not installed")
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        if above is None:
            make, *_ = _EXAMPLES.findall(_PAGE.read_text(encoding="utf-8"))
            self._run("sh", "-ec", make)
        else:
            (above.folder / "authority.ext").write_text("basicConstraints=critical,CA:TRUE\n")
            above.issue("intermediate", "-extfile", "authority.ext")
            for suffix in ("pem", "key"):
                shutil.copy(above.folder / f"intermediate.{suffix}", folder / f"ca.{suffix}")
        (folder / "ca.cnf").write_text(_CA)
        (folder / "index").touch()
        (folder / "serial").write_text("1000\n")

    def pem(self, name: str) -> str:
        return str(self.folder / f"{name}.pem")

    def key(self, name: str) -> str:
        return str(self.folder / f"{name}.key")

    def issue(self, name: str, *options: str) -> None:
        """One more certificate; ``options`` of ``openssl ca``, for example its dates."""
        self._request(name)
        self._ca("-notext", "-in", f"{name}.csr", "-out", f"{name}.pem", *options)

    def revoke(self, name: str) -> None:
        self._ca("-revoke", f"{name}.pem")

    def revocation_list(self) -> None:
        """Write ``crl.pem``."""
        self._ca("-gencrl", "-out", "crl.pem")

    def fingerprint(self, name: str) -> str:
        """As openssl prints it, with colons."""
        return self._run("openssl", "x509", "-in", f"{name}.pem", "-noout", "-fingerprint", "-sha256").partition("=")[2]

    def encrypt_key(self, name: str) -> None:
        """Give the key a passphrase."""
        self._run(
            "openssl", "pkey", "-in", f"{name}.key", "-aes256", "-passout", "pass:secret", "-out", f"{name}.locked"
        )

    def _request(self, name: str) -> None:
        options = [
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-subj",
            f"/CN={name}.example",
        ]
        self._run("openssl", "req", *options, "-keyout", f"{name}.key", "-out", f"{name}.csr")

    def _ca(self, *arguments: str) -> None:
        self._run("openssl", "ca", "-config", "ca.cnf", "-batch", *arguments)

    def _run(self, *command: str) -> str:
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


def tls(authority: Authority, name: str = "ainode", *, required: bool = True, callers: str = "", more: str = "") -> str:
    """Lines of ``[ae]`` and the table ``[ae.tls]`` behind them."""
    return f"""
{more}
callers = [{callers}]
[ae.tls]
enabled = true
certificate = "{authority.pem(name)}"
key = "{authority.key(name)}"
ca = "{authority.pem("ca")}"
crl = "{authority.folder / "crl.pem" if (authority.folder / "crl.pem").exists() else ""}"
require_client_certificate = {str(required).lower()}
"""
