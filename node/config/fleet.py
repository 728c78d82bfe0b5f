"""``[fleet]``: the file service of machines that share a ledger and have storage folders of their own."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from node.config.table import Port, Table


class Fleet(Table):
    """How machines fetch one another's files. A file name without a slash is a systemd credential."""

    host: str = ""
    """Name or address of this machine for the others, as in its certificate; empty: there is one machine, or all share
    ``[storage] folder``."""
    address: str = "0.0.0.0"  # noqa: S104 - the other machines call
    """Address to listen on."""
    port: Port = 11113
    """TCP port of the file service."""
    copies_port: Port = 11114
    """TCP port of the copy service, to which other machines send second copies of what they receive."""
    certificate: str = ""
    """PEM file with the certificate of this machine, as server and as client."""
    key: str = ""
    """PEM file with the private key of the certificate, without passphrase."""
    ca: str = ""
    """PEM file with the authority of the fleet. Whoever has a certificate that it signed can read every file."""
    crl: str = ""
    """PEM file with a revocation list of this authority; empty: revocation is not checked."""
    cache_gib: Annotated[float, Field(gt=0)] = 20.0
    """Size up to which copies of other machines' files are kept; what was used within an hour is kept in any case."""

    @model_validator(mode="after")
    def _complete(self) -> Fleet:
        for name in ("certificate", "key", "ca") if self.host else ():
            if not getattr(self, name):
                raise ValueError(f"{name} is missing; give a PEM file")
        return self
