"""The storage folder is refused by `ainode check` where files are not kept as the node relies on."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from node.check import machine
from node.config import Config
from node.spool.file_system import FileSystem, file_system_of

MOUNTS = r"""
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:50 / {folder} rw,relatime shared:9 master:2 - {kind} server:/export rw,vers=4.2
31 22 0:51 / {folder}2 rw,relatime - xfs /dev/sdb1 rw
"""


def test_the_kernel_and_the_node_agree_on_real_folders(tmp_path: Path):
    for folder in (tmp_path, Path("/proc/self"), Path("/dev/shm")):  # noqa: S108
        asked = ["findmnt", "--noheadings", "--output", "FSTYPE", "--target", str(folder.resolve())]
        file_system = file_system_of(folder)
        assert file_system is not None
        assert file_system.kind == subprocess.run(asked, capture_output=True, text=True, check=True).stdout.split()[-1]


def test_the_innermost_and_latest_mount_counts_and_its_name_may_have_spaces(tmp_path: Path):
    folder = tmp_path / "images of CT"
    (folder / "incoming").mkdir(parents=True)
    mounts = tmp_path / "mountinfo"
    escaped = str(folder).replace(" ", r"\040")
    mounts.write_text(MOUNTS.format(folder=escaped, kind="nfs4"))
    assert file_system_of(folder / "incoming", mounts) == FileSystem(kind="nfs4", mount_point=folder)
    assert file_system_of(tmp_path, mounts) == FileSystem(kind="ext4", mount_point=Path("/"))
    mounts.write_text(mounts.read_text() + f"40 30 8:9 / {escaped} rw - xfs /dev/sdc1 rw\n")
    assert file_system_of(folder, mounts) == FileSystem(kind="xfs", mount_point=folder)
    assert file_system_of(folder, tmp_path / "absent") is None


@pytest.mark.parametrize(
    ("kind", "good", "words"),
    [
        *((kind, False, "acknowledged images can be lost") for kind in ("nfs4", "cifs", "fuse.sshfs", "fuseblk", "9p")),
        ("ceph", True, "not tested on it"),
        ("ext4", True, ""),
    ],
)
def test_check_names_folder_file_system_and_remedy(
    kind: str, *, good: bool, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(machine, "file_system_of", lambda _: FileSystem(kind=kind, mount_point=Path("/srv")))
    monkeypatch.setattr(machine, "SLOW_SYNC_SECONDS", 60.0)
    result = machine.storage(Config.model_validate({"storage": {"folder": str(tmp_path), "min_free_gib": 0.0}}))
    assert (result.good, words in result.remedy, bool(result.remedy)) == (good, True, bool(words))
    assert str(tmp_path) in result.found
    assert (f"of the kind {kind} (/srv)" in result.found) == bool(words)
