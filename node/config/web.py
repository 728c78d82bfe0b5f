"""``[web]``: the dashboard and access to it."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal
from urllib.parse import quote

from pydantic import Field, field_validator, model_validator

from node.config.single_sign_on import Oidc, encrypted_address
from node.config.table import OptionalPath, Port, Table


class Web(Table):
    """The dashboard, `/metrics`, `/healthz` and `/readyz`."""

    enabled: bool = False
    """Serve it with ``ainode run``; ``ainode run --only web`` serves it in any case."""
    address: str = "127.0.0.1"
    """Address to listen on; other addresses than loopback require a certificate or a reverse proxy."""
    port: Port = 8080
    """TCP port."""
    certificate: OptionalPath = None
    """TLS certificate chain, PEM; empty: plain HTTP."""
    key: OptionalPath = None
    """Private key of the certificate, PEM."""
    users_file: OptionalPath = None
    """Users and their hashed passwords (``ainode web password``); empty: ``web-users`` in the storage folder."""
    hosts: tuple[str, ...] = ()
    """Names under which browsers reach the dashboard, besides IP addresses, localhost and the name of the machine."""
    link_base: Annotated[str, Field(max_length=100)] = ""
    """Address under which browsers reach the dashboard, for links in PDF and key images; ``[web.oidc]`` needs it."""
    session_hours: Annotated[float, Field(gt=0)] = 8.0
    """A session ends after this time."""
    session_idle_minutes: Annotated[float, Field(gt=0)] = 60.0
    """A session ends when it was not used for this time; pages that renew themselves do not count."""
    proxy_header: str = ""
    """Header in which a reverse proxy passes the authenticated user; empty: no proxy is trusted."""
    proxy_secret_file: OptionalPath = None
    """File with the secret that the proxy sends in ``X-Ainode-Proxy-Secret``; required with ``proxy_header``."""
    show_patient: bool = False
    """Show patient name, ID and accession number on pages and in commands, read from the files; never stored."""

    language: Literal["", "en", "de", "zh"] = ""
    """Language of the dashboard; empty: the one that the browser asks for. A user may choose another one."""
    viewer_url: str = ""
    """Address that opens a study in a viewer, with ``{study}`` for its UID; empty: pages have no such link."""
    oidc: Oidc = Oidc()

    @model_validator(mode="before")
    @classmethod
    def _address_is_no_proof(cls, values: Any) -> Any:
        if isinstance(values, dict) and "proxy_address" in values:
            raise ValueError(
                "proxy_address is no longer used, because an address proves nothing: remove it, write a secret to a "
                "file (`openssl rand -hex 32`), name it in proxy_secret_file, and let the proxy send the secret in the "
                "header X-Ainode-Proxy-Secret"
            )
        return values

    @field_validator("link_base")
    @classmethod
    def _is_encrypted(cls, value: str) -> str:
        if re.search(r"[^!-~]", value):
            raise ValueError("link_base must be ASCII without spaces; write a name with other letters as xn--...")
        return encrypted_address(value) if value else value

    @field_validator("viewer_url")
    @classmethod
    def _opens_a_study(cls, value: str) -> str:
        if not value:
            return value
        if not re.match(r"(https?|weasis)://\S+\Z", value):
            raise ValueError("viewer_url must be one address that begins with https://, http:// or weasis://")
        if "{study}" not in value or set(value.replace("{study}", "")) & {"{", "}"}:
            raise ValueError("viewer_url must contain {study}, for the Study Instance UID, and no other braces")
        return value

    def study_link(self, study_instance_uid: str) -> str:
        """Return the address of the page of a study; empty without ``link_base``."""
        return f"{self.link_base}/study/{quote(study_instance_uid, safe='')}" if self.link_base else ""

    @model_validator(mode="after")
    def _both_or_none(self) -> Web:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key belong together; give both or none")
        if self.proxy_header and self.proxy_secret_file is None:
            raise ValueError("proxy_header needs proxy_secret_file: the header counts only with that secret")
        if self.oidc.issuer and not self.link_base:
            raise ValueError("oidc needs link_base, the address to which the provider leads browsers back")
        return self
