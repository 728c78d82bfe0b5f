"""``[storage.object_store]``: a bucket of S3 for packs of complete series."""

from __future__ import annotations

import re
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from node.addresses import is_loopback
from node.config.table import Table

_URL = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9._-]+)*/?", re.ASCII)


_SECRET = set("@?#")
"""Signs of an address that may hold a name with a password, or a signature."""


class ObjectStoreTable(Table):
    """Where packs are, how the node reaches them, and when local copies go."""

    url: str = ""
    """``s3://BUCKET/PREFIX``; empty: there is no object store. The prefix belongs to the nodes of one ledger alone."""
    endpoint: str = ""
    """``https://HOST:PORT`` of the store; empty: that of AWS in ``region``."""
    region: str = "us-east-1"
    """Region of the bucket, which signs the requests."""
    credentials_file: str = ""
    """File with ``aws_access_key_id`` and ``aws_secret_access_key``, as ``~/.aws/credentials``. A name without a slash
    is a systemd credential. Empty: the environment (``AWS_ACCESS_KEY_ID`` ...) or the role of the machine says."""
    ca: str = ""
    """PEM file with an authority that is trusted besides those of the system."""
    allow_http: bool = False
    """Whether patient data may go to another machine without TLS."""
    encryption: Literal["", "AES256", "aws:kms"] = ""
    """Encryption at rest that each upload asks for; empty: the bucket's own setting."""
    kms_key: str = ""
    """Key of ``aws:kms``; empty: the bucket's."""
    pack_after_minutes: Annotated[float, Field(ge=0)] = 60.0
    """A series is packed this long after it was complete."""
    keep_local_days: Annotated[float, Field(ge=0)] = 7.0
    """Local copies of packed images stay this long after the last image of their series."""
    local_free_gib: Annotated[float, Field(ge=0)] = 50.0
    """With less free space local copies of packed images go earlier, the oldest series first."""

    @model_validator(mode="after")
    def _usable(self) -> ObjectStoreTable:
        for key, address in (("url", self.url), ("endpoint", self.endpoint)):
            if _SECRET & set(address):  # never printed
                raise ValueError(f"{key} holds credentials; put them into credentials_file")
        if self.url and not _URL.fullmatch(self.url):
            raise ValueError(f"url {self.url!r} is not of the form s3://BUCKET/PREFIX")
        parts = urlsplit(self.endpoint)
        if self.endpoint and (parts.scheme not in ("http", "https") or not parts.hostname):
            raise ValueError(f"endpoint {self.endpoint!r} is not of the form https://HOST:PORT")
        if parts.scheme == "http" and not self.allow_http and not is_loopback(parts.hostname or ""):
            raise ValueError(
                "endpoint is http, so patient data would go through the network in clear; use https, or set "
                "allow_http = true"
            )
        if self.kms_key and self.encryption != "aws:kms":
            raise ValueError('kms_key needs encryption = "aws:kms"')
        return self

    @property
    def bucket(self) -> str:
        """Name of the bucket."""
        return urlsplit(self.url).netloc

    @property
    def prefix(self) -> str:
        """Names of objects begin with this; "": the bucket belongs to the node."""
        return urlsplit(self.url).path.strip("/")
