"""Expiry dates of certificates."""

from __future__ import annotations

import ssl
import subprocess
import time
from collections.abc import Iterator

from node.check import Check
from node.config import Config
from node.tls import path_of
from node.translation import gettext

_SOON_DAYS = 30


def certificates(config: Config) -> Iterator[Check]:
    """Check each certificate in the configuration once."""
    tls = [("[ae.tls]", config.ae.tls)] if config.ae.tls.enabled else []
    named = [(where, str(file)) for where, table in tls for file in (table.certificate, table.ca)]
    named += [("[web]", str(config.web.certificate))] if config.web.certificate else []
    named += [("[fleet]", file) for file in (config.fleet.certificate, config.fleet.ca) if config.fleet.host]
    named += [("[audit]", config.audit.ca)]
    worklist = config.orders.worklist.tls
    named += [("[orders.worklist.tls]", file) for file in (worklist.certificate, worklist.ca) if worklist.enabled]
    for name, to in config.destinations.items():
        named += [(f"[destinations.{name}]", to.ca_file)]
        if to.tls.enabled:
            named += [(f"[destinations.{name}.tls]", file) for file in (to.tls.certificate, to.tls.ca)]
    for file in dict.fromkeys(file for _, file in named if file):
        yield _expiry(file, ", ".join(dict.fromkeys(where for where, other in named if other == file)))


def _expiry(file: str, where: str) -> Check:
    name = gettext("certificate {file}", file=file)
    command = ["openssl", "x509", "-noout", "-enddate", "-in", str(path_of(file))]
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return Check(name=name, good=True, found=gettext("expiry date not known"), remedy=gettext("install openssl"))
    if result.returncode:
        why = (result.stderr.strip().splitlines() or ["not a certificate"])[0]
        text, remedy = (
            gettext("cannot be read ({reason})", reason=why),
            gettext("use a PEM file in {place}", place=where),
        )
        return Check(name=name, good=False, found=text, remedy=remedy)
    end = result.stdout.strip().partition("=")[2]
    days = (ssl.cert_time_to_seconds(end) - time.time()) / 86400
    of = {"end": end, "days": f"{days:.0f}", "place": where}
    if days > _SOON_DAYS:
        return Check(name=name, good=True, found=gettext("valid until {end}, {days} days ({place})", **of))
    text = (
        gettext("expires in {days} days, {end} ({place})", **of)
        if days > 0
        else gettext("expired {end}: associations fail ({place})", **of)
    )
    return Check(name=name, good=days > 0, found=text, remedy=gettext("renew it; no restart is needed"))
