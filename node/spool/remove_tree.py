"""Removes a folder whatever a stranger has laid into it."""

from __future__ import annotations

import os
import uuid
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from node.spool.files import locked

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove_tree(folder: Path) -> None:
    """Remove a folder and everything in it, of any depth and with any modes; do nothing if there is none.

    Folders inside are moved to the top before they are emptied, so that neither depth nor length of a path limits it,
    as both limit ``shutil.rmtree`` of Python 3.11. What cannot be removed stays. Nobody else writes to the folder.
    """
    try:
        top = os.open(folder, _FOLDER)
    except OSError:
        return
    try:
        while folders := _empty(top, top):
            for name in folders:
                with suppress(OSError):
                    _flatten(name, top)
            if folders == _empty(top, top):
                return  # not one of them can be removed
    finally:
        os.close(top)
        with suppress(OSError):
            folder.rmdir()


def sweep(below: Path) -> None:
    """Remove the folders of ``node.spool.files.new_locked`` whose processes have ended. Of this machine's only."""
    for folder in below.iterdir():
        descriptor = locked(folder)
        if descriptor is not None:
            remove_tree(folder)
            os.close(descriptor)


def sweep_members(below: Path, alive: Collection[str]) -> None:
    """Remove the folders of members that have died; each is named like its member.

    Locks alone would not do: other machines that share the file system may not see them.
    """
    for folder in list(below.iterdir()) if below.is_dir() else ():
        descriptor = None if folder.name in alive else locked(folder)
        if descriptor is not None:
            with suppress(FileNotFoundError):  # another machine sweeps it too
                sweep(folder)
            with suppress(OSError):
                folder.rmdir()
            os.close(descriptor)


def _flatten(name: str, top: int) -> None:
    """Remove one folder of ``top``; those inside become folders of ``top``."""
    os.chmod(name, 0o700, dir_fd=top)
    inner = os.open(name, _FOLDER, dir_fd=top)
    try:
        _empty(inner, top)
    finally:
        os.close(inner)
    os.rmdir(name, dir_fd=top)


def _empty(folder: int, top: int) -> set[str]:
    """Remove the files of a folder and move its folders to ``top``; return the names of those that stay."""
    with os.scandir(folder) as entries:
        children = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    for name, is_folder in children:
        with suppress(OSError):
            if not is_folder:
                os.unlink(name, dir_fd=folder)
            elif folder != top:
                os.chmod(name, 0o700, dir_fd=folder)  # to move it, its entry ".." is written
                os.rename(name, uuid.uuid4().hex, src_dir_fd=folder, dst_dir_fd=top)
    return {name for name, is_folder in children if is_folder}
