"""Factories that name no Python module: a container image, a model on a server, or results that come back."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from node.addresses import is_loopback

CONTAINER, REMOTE, RETURNED = "container:", "remote:", "returned:"
_IMAGE = re.compile(r"(?P<repository>[a-z0-9][A-Za-z0-9._/:-]*)@(?P<digest>sha256:[0-9a-f]{64})")
_MODEL_PATH = re.compile(r"/v2/models/[A-Za-z0-9._-]+(/versions/[A-Za-z0-9._-]+)?")
_WORD = re.compile(r"\w+")


@dataclass(frozen=True, kw_only=True)
class ContainerImage:
    """``container:REPOSITORY[:TAG]@sha256:DIGEST``."""

    repository: str
    """Without the tag."""
    tag: str
    """Empty: none was given."""
    digest: str
    """``sha256:`` and 64 hex digits: of the manifest in a registry, or the ID of the image."""

    @property
    def reference(self) -> str:
        """What an engine knows the image by."""
        return f"{self.repository}@{self.digest}"


@dataclass(frozen=True, kw_only=True)
class ServedModel:
    """``remote:https://HOST[:PORT]/v2/models/NAME[/versions/VERSION]`` (Open Inference Protocol, V2).

    ``grpcs`` in place of ``https``: the same protocol over gRPC; the path then names the model, and is not sent.
    """

    url: str
    host: str
    name: str
    version: str = ""
    """Empty: the server decides."""

    @property
    def by_grpc(self) -> bool:
        """Whether the server is called over gRPC."""
        return self.url.startswith("grpc")

    @property
    def has_tls(self) -> bool:
        """Whether the connection is encrypted; without it the server is on this machine."""
        return self.url.startswith(("https:", "grpcs:"))


@dataclass(frozen=True, kw_only=True)
class ReturnedResults:
    """``returned:DESTINATION``: what comes back from a destination that gets images under pseudonyms."""

    destination: str


Outsider = ContainerImage | ServedModel | ReturnedResults


def outside_factory(factory: str) -> Outsider | None:
    """What ``factory`` names outside of this process; ``None`` for ``module:factory`` and the empty one.

    Raises ``ValueError`` with the remedy for an image without a digest and an address that is none.
    """
    kind, _, rest = factory.partition(":")
    if f"{kind}:" == RETURNED:
        return ReturnedResults(destination=rest)
    if f"{kind}:" not in (CONTAINER, REMOTE) or _WORD.fullmatch(rest):
        return None
    return _image(rest) if f"{kind}:" == CONTAINER else _served(rest)


def _image(text: str) -> ContainerImage:
    match = _IMAGE.fullmatch(text)
    if match is None:
        raise ValueError(
            f"{CONTAINER}{text} names no image with its digest; write container:REPOSITORY@sha256: and 64 hex digits, "
            "as `podman images --digests` shows them"
        )
    folder, slash, last = match["repository"].rpartition("/")
    name, _, tag = last.partition(":")
    return ContainerImage(repository=f"{folder}{slash}{name}", tag=tag, digest=match["digest"])


def _served(text: str) -> ServedModel:
    parts = urlsplit(text)
    host = parts.hostname or ""
    known = parts.scheme in ("https", "http", "grpcs", "grpc") and host and not parts.query
    if not known or not _MODEL_PATH.fullmatch(parts.path):
        raise ValueError(
            f"{REMOTE}{text} names no model; write remote:https://HOST:PORT/v2/models/NAME, or grpcs:// for gRPC"
        )
    if parts.scheme.startswith("grpc") and _port(parts) is None:
        raise ValueError(f"{REMOTE}{text} has no port; write remote:grpcs://HOST:8001/v2/models/NAME")
    if parts.username or parts.password:
        raise ValueError("the address of a model holds a password; put a token into the file that run.token_file names")
    if parts.scheme in ("http", "grpc") and not is_loopback(host):
        raise ValueError(f"{REMOTE}{text} would send images of patients without TLS; use {parts.scheme}s")
    named = parts.path.split("/")
    return ServedModel(url=text, host=host, name=named[3], version=named[5] if len(named) > 5 else "")


def _port(parts: SplitResult) -> int | None:
    try:
        return parts.port
    except ValueError:
        return None
