"""podman or docker: whether it answers, whether it has an image, and how it is called."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import socket
import subprocess
import tarfile
from collections.abc import Iterable
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

from node.config import ContainerImage
from node.errors import PlatformError, WeightsError
from node.peer_text import escaped

ENGINES = ("podman", "docker")
_ASK_SECONDS = 60.0
_MOST_ANSWER = 1 << 22
_LONGEST = 300


class ContainerEngine:
    """One engine, called by its command line."""

    def __init__(self, pipeline: str, command: str) -> None:
        """``command``: with options, empty for the first of ``ENGINES``. Raises ``PlatformError`` when it is absent."""
        words = shlex.split(command) or [next(filter(shutil.which, ENGINES), "")]
        if not words[0] or shutil.which(words[0]) is None:
            which = f"{words[0]} is not installed here" if words[0] else "neither podman nor docker is installed here"
            raise PlatformError(f"pipeline {pipeline!r} runs a container, and {which}; install podman")
        self.words = tuple(words)
        self.is_podman = "podman" in Path(words[0]).name
        self._pipeline = pipeline

    def ask(self, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        """Run a command of the engine. Raises ``PlatformError`` when it does not end in time."""
        try:
            return subprocess.run(
                [*self.words, *arguments],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_ASK_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise PlatformError(f"{self.words[0]} did not answer within {_ASK_SECONDS:g} s; see its service") from None

    def image_id(self, image: ContainerImage) -> str:
        """ID of the image that has the configured digest.

        Raises ``WeightsError`` when the engine has no such image, ``PlatformError`` when it does not answer.
        """
        for name in (image.reference, image.digest):
            if (description := self._inspect(name)) is not None and image.digest in _digests(description):
                return _full_id(description)
        tagged = self._inspect(f"{image.repository}:{image.tag or 'latest'}")
        if tagged is not None:
            has = ", ".join(sorted(_digests(tagged)))
            raise WeightsError(
                f"pipeline {self._pipeline!r}: image {image.repository} has {has}, factory says {image.digest}; load "
                "the image with this digest, or pin the other one"
            )
        raise WeightsError(
            f"pipeline {self._pipeline!r}: image {image.reference} is not on this machine; bring it with "
            f"`{self.words[0]} load -i FILE` or `{self.words[0]} pull {image.reference}`"
        )

    def rootless(self) -> bool:
        """Whether root of a container is an ordinary user of the machine."""
        template = "{{.Host.Security.Rootless}}" if self.is_podman else "{{.SecurityOptions}}"
        answer = self.ask("info", "--format", template)
        if answer.returncode != 0:
            raise self._silent(answer)
        return b"true" in answer.stdout or b"rootless" in answer.stdout

    def file_of(self, image_id: str, path: str) -> bytes | None:
        """A file of an image, up to 1 MiB, without running anything of it; ``None`` when there is none."""
        created = self.ask("create", "--pull=never", "--network=none", image_id, "true")
        if created.returncode != 0:
            raise self._silent(created)
        container = created.stdout.decode().split()[-1]
        try:
            answer = self.ask("cp", f"{container}:{path}", "-")
        finally:
            self.remove(container)
        if answer.returncode != 0:
            return None
        with suppress(tarfile.TarError), tarfile.open(fileobj=BytesIO(answer.stdout)) as archive:
            member = next(iter(archive), None)
            if member is not None and member.isfile() and member.size <= 1 << 20:
                file = archive.extractfile(member)
                return None if file is None else file.read()
        return None

    def remove(self, container: str) -> None:
        """Kill and remove a container; nothing happens when it is gone."""
        arguments = ("rm", "-f", "-t", "0") if self.is_podman else ("rm", "-f")
        with suppress(PlatformError):
            self.ask(*arguments, container)

    def sweep(self) -> None:
        """Remove containers whose worker has died. Of this machine's workers only."""
        answer = self.ask("ps", "-a", "--filter", f"name=^{_here()}-", "--format", "{{.Names}}")
        for name in answer.stdout.decode(errors="replace").split():
            process, began, _ = name.removeprefix(f"{_here()}-").split("-", 2)
            if _start_time(int(process)) != began:
                self.remove(name)

    def _inspect(self, name: str) -> dict[str, Any] | None:
        answer = self.ask("image", "inspect", name)
        if answer.returncode == 0:
            with suppress(ValueError, LookupError):
                description = json.loads(answer.stdout[:_MOST_ANSWER])[0]
                return description if isinstance(description, dict) else None
        unknown = (b"no such image", b"image not known", b"not found", b"unable to find", b"failed to find")
        if answer.returncode != 0 and not any(words in answer.stderr.lower() for words in unknown):
            raise self._silent(answer)
        return None

    def _silent(self, answer: subprocess.CompletedProcess[bytes]) -> PlatformError:
        why = last_line(answer.stderr) or "no reason given"
        return PlatformError(f"pipeline {self._pipeline!r}: {self.words[0]} cannot be used: {why}")


def container_name(number: str) -> str:
    """Name of a container of this process, by which it is found when this process has died."""
    return f"{_here()}-{os.getpid()}-{_start_time(os.getpid())}-{number}"


def last_line(printed: bytes) -> str:
    """The last line that is not empty, printable and bounded."""
    lines: Iterable[str] = printed.decode(errors="replace").splitlines()
    return escaped(next((line.strip() for line in reversed([*lines]) if line.strip()), ""), _LONGEST)


def _here() -> str:
    """Machine and namespace of processes: numbers of processes mean something only there."""
    return f"ainode-{socket.gethostname()[:32]}-{Path('/proc/self/ns/pid').stat().st_ino}".replace(".", "_")


def _start_time(process: int) -> str:
    """When a process started, in clock ticks; empty: it is gone."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def _full_id(description: dict[str, Any]) -> str:
    identifier = str(description.get("Id", ""))
    return identifier if identifier.startswith("sha256:") else f"sha256:{identifier}"


def _digests(description: dict[str, Any]) -> set[str]:
    """Everything by which this content is pinned: digests of manifests, and the ID, which is that of the image."""
    named = [str(name).rpartition("@")[2] for name in description.get("RepoDigests") or ()]
    return {*named, _full_id(description), *filter(None, [str(description.get("Digest") or "")])}
