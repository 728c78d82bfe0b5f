"""The table ``[pipelines.NAME.options.run]``: how a container runs, or how a server is called."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from node.errors import ConfigError

Contract = Literal["plain", "mercure", "map"]
_Positive = Annotated[float, Field(gt=0)]


class ContainerLimits(BaseModel):
    """Of a container."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    engine: str = ""
    """Command of the engine, with options of its own, for example ``"podman --remote"``; empty: podman, else docker."""
    command: list[str] = Field(default_factory=list)
    """Replaces the command of the image; its entry point stays."""
    environment: dict[str, str] = Field(default_factory=dict)
    memory_gib: _Positive = 16
    """Of memory with temporary files; there is no swap."""
    cpus: Annotated[float, Field(ge=0)] = 0
    """Cores; 0: ``[devices] cpu_threads``, else all."""
    pids: Annotated[int, Field(ge=16)] = 2048
    """Processes and threads."""
    temporary_gib: _Positive = 4
    """Of temporary files, which lie in memory."""
    shared_memory_gib: _Positive = 1
    seconds: _Positive | None = None
    """Longest run; absent: ``[jobs] run_timeout_seconds``."""
    writable: list[Annotated[str, Field(pattern=r"^/[A-Za-z0-9._/-]+$")]] = Field(default_factory=list)
    """More folders of the image that are empty and writable, in memory; ``/tmp``, ``/var/tmp`` and ``/run`` are."""


class ServerLimits(BaseModel):
    """Of an inference server."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seconds: _Positive = 120
    """For one request, from the first byte sent to the last byte received."""
    connect_seconds: _Positive = 10
    response_mib: _Positive = 1024
    ca: Path | None = None
    """Certificates that the server's has to be signed by; absent: those of the system."""
    certificate: Path | None = None
    """Client certificate, with ``key``."""
    key: Path | None = None
    token_file: Path | None = None
    """Holds a bearer token."""
    failures: Annotated[int, Field(ge=1)] = 3
    """After so many calls without an answer in a row the server is left alone for ``pause_seconds``."""
    pause_seconds: _Positive = 60


Limits = TypeVar("Limits", bound=BaseModel)


def limits_of(kind: type[Limits], pipeline: str, options: dict[str, Any]) -> Limits:
    """``options.run``. Raises ``ConfigError`` with key, value and remedy."""
    try:
        return kind.model_validate(options.get("run", {}))
    except ValidationError as error:
        fault = error.errors()[0]
        key = ".".join(map(str, ("run", *fault["loc"])))
        known = ", ".join(kind.model_fields)
        raise ConfigError(
            f"[pipelines.{pipeline}.options] {key} = {fault['input']!r}: {fault['msg']}; known are {known}"
        ) from None
