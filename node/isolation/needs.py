"""Files that any Python program with PyTorch must open: its installation, system libraries, devices."""

from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path
from urllib.parse import unquote, urlsplit

from node.isolation.files import DEVICE, LIST, READ, WRITE
from node.isolation.own_root import SHARED_MEMORY

_SYSTEM = (
    "/usr", "/bin", "/lib", "/lib32", "/lib64", "/nix/store", "/proc", "/sys", "/etc/ld.so.cache", "/etc/localtime",
    "/etc/timezone", "/etc/passwd", "/etc/group", "/etc/nsswitch.conf", "/etc/OpenCL", "/etc/fonts",
    "/etc/alternatives",
)  # fmt: skip
_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/dri", "/dev/kfd")
_SEARCHED = ("LD_LIBRARY_PATH", "CUDA_HOME", "CUDA_PATH")
"""Variables that name more folders of libraries."""


def programs() -> Iterator[tuple[Path, int]]:
    """Rules for ``confine``."""
    whole = [Path(name) for name in (*_SYSTEM, sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix)]
    yield from ((path, READ) for path in whole)
    for entry in (*(Path(entry or ".") for entry in sys.path), *_installed_in_place()):
        given = any(map(entry.is_relative_to, whole)) and entry == entry.resolve()
        yield from _importable(entry, links_only=given)
    for name in (entry for variable in _SEARCHED for entry in os.environ.get(variable, "").split(":")):
        if name:
            yield Path(name), READ
    for name in _DEVICES:
        yield Path(name), DEVICE
    for device in Path("/dev").glob("nvidia*"):
        yield device, DEVICE
    yield SHARED_MEMORY, WRITE


def device_groups(rules: Iterable[tuple[Path, int]]) -> set[int]:
    """Return the groups, except root's, that may write to the devices of ``rules``."""
    devices = (path.stat() for path, rights in rules if rights == DEVICE and path.exists())
    return {
        status.st_gid
        for status in devices
        if stat.S_ISCHR(status.st_mode) and status.st_mode & stat.S_IWGRP and status.st_gid
    }


def _installed_in_place() -> Iterator[Path]:
    """Folders of editable installations (PEP 610): an import hook may lead there, past ``sys.path`` (PEP 660)."""
    for distribution in metadata.distributions():
        origin = json.loads(distribution.read_text("direct_url.json") or "{}")
        if origin.get("dir_info", {}).get("editable"):
            folder = Path(unquote(urlsplit(origin["url"]).path))
            yield from (folder, folder / "src")


def _importable(entry: Path, *, links_only: bool) -> Iterator[tuple[Path, int]]:
    """Packages and modules of a folder on the path; in a checkout, other files lie next to them.

    ``links_only``: a rule gives the folder already, but not where links lead that are in it (Debian's sitecustomize).
    """
    if entry.is_file() or entry.name in ("site-packages", "dist-packages"):
        yield entry, READ
    elif entry.is_dir() and os.access(entry, os.R_OK):
        yield entry, LIST
        for child in filter(Path.is_symlink, entry.iterdir()) if links_only else entry.iterdir():
            if child.suffix in (".py", ".so", ".dist-info", ".egg-info") or os.access(child / "__init__.py", os.R_OK):
                yield child, READ
