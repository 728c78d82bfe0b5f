"""Expiry dates of certificates."""

from __future__ import annotations

import ssl
import subprocess
import time
from collections.abc import Iterator

from node.check_result import Check
from node.config import Config
from node.tls import path_of

_SOON_DAYS = 30


def certificates(config: Config) -> Iterator[Check]:
    """Check each certificate in the configuration once."""
    tls = [("[ae.tls]", config.ae.tls)] if config.ae.tls.enabled else []
    named = [(where, str(file)) for where, table in tls for file in (table.certificate, table.ca)]
    named += [("[web]", str(config.web.certificate))] if config.web.certificate else []
    named += [("[fleet]", file) for file in (config.fleet.certificate, config.fleet.ca) if config.fleet.host]
    named += [("[audit]", config.audit.ca)]
    for name, to in config.destinations.items():
        named += [(f"[destinations.{name}]", to.ca_file)]
        if to.tls.enabled:
            named += [(f"[destinations.{name}.tls]", file) for file in (to.tls.certificate, to.tls.ca)]
    for file in dict.fromkeys(file for _, file in named if file):
        yield _expiry(file, ", ".join(dict.fromkeys(where for where, other in named if other == file)))


def _expiry(file: str, where: str) -> Check:
    name = f"certificate {file}"
    command = ["openssl", "x509", "-noout", "-enddate", "-in", str(path_of(file))]
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return Check(name=name, good=True, found="expiry date not known", remedy="install openssl")
    if result.returncode:
        why = (result.stderr.strip().splitlines() or ["not a certificate"])[0]
        return Check(name=name, good=False, found=f"cannot be read ({why})", remedy=f"use a PEM file in {where}")
    end = result.stdout.strip().partition("=")[2]
    days = (ssl.cert_time_to_seconds(end) - time.time()) / 86400
    if days > _SOON_DAYS:
        return Check(name=name, good=True, found=f"valid until {end}, {days:.0f} days ({where})")
    found = f"expires in {days:.0f} days, {end}" if days > 0 else f"expired {end}: associations fail"
    return Check(name=name, good=days > 0, found=f"{found} ({where})", remedy="renew it; no restart is needed")
