"""``[web.oidc]``: users of the dashboard who log in at the hospital's OpenID provider."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from node.config.table import OptionalPath, Table

_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def encrypted_address(value: str) -> str:
    """Return an address without its last slash. Raises ``ValueError`` unless it is of HTTPS or of this machine."""
    parts = urlsplit(value)
    is_local = parts.scheme == "http" and parts.hostname in _LOOPBACK
    if not parts.hostname or not (parts.scheme == "https" or is_local) or parts.query or parts.fragment:
        raise ValueError(f"{value!r} must be an address that begins with https:// and has neither ? nor #")
    return value.rstrip("/")


class Oidc(Table):
    """An OpenID provider (OpenID Connect Core 1.0); users get their role from the groups that it states."""

    issuer: str = ""
    """Address of the provider, as it states it as ``iss``; empty: nobody logs in there."""
    client_id: str = ""
    """Name of this node at the provider."""
    client_secret_file: OptionalPath = None
    """File with the client secret; empty: the provider knows the node as a public client."""
    ca_file: OptionalPath = None
    """PEM file: authority of the provider's certificate; empty: the system's authorities."""
    scope: Annotated[str, Field(pattern=r"^openid( \S+)*$")] = "openid profile"
    """What is asked for; some providers state groups with a scope of their own only."""
    name_claim: str = "preferred_username"
    """Claim with the name of the user."""
    groups_claim: str = "groups"
    """Claim with the groups of the user."""
    admin: tuple[str, ...] = ()
    """Groups whose users have the role *admin*."""
    operate: tuple[str, ...] = ()
    """Groups whose users have the role *operate*."""
    read: tuple[str, ...] = ()
    """Groups whose users have the role *read*."""
    view: tuple[str, ...] = ()
    """Groups whose users have the role *view*."""

    @field_validator("issuer")
    @classmethod
    def _is_encrypted(cls, value: str) -> str:
        encrypted_address(value or "https://none")
        return value

    @model_validator(mode="after")
    def _is_whole(self) -> Oidc:
        if self.issuer and not self.client_id:
            raise ValueError("issuer needs client_id, the name of this node at the provider")
        if self.issuer and not (self.admin or self.operate or self.read or self.view):
            raise ValueError("issuer needs admin, operate, read or view: without a group nobody may use the dashboard")
        return self
