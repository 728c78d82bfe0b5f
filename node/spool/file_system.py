"""On which file system a folder is, and whether the storage folder may be on it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_MOUNTS = Path("/proc/self/mountinfo")
_NETWORK = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ncpfs", "davfs"})
_CLUSTER = frozenset({"ceph", "lustre", "gfs2", "ocfs2", "gpfs", "beegfs"})


@dataclass(frozen=True, kw_only=True)
class FileSystem:
    """A mounted file system."""

    kind: str
    """As the kernel names it, such as ``ext4``."""
    mount_point: Path

    @property
    def is_supported(self) -> bool:
        """False for network file systems and FUSE, whose hard links or ``fsync`` may not do what the node relies on."""
        return self.kind not in _NETWORK and not self.kind.startswith("fuse")

    @property
    def is_tested(self) -> bool:
        """False as well for those that several machines mount as one."""
        return self.is_supported and self.kind not in _CLUSTER


def file_system_of(path: Path, mounts: Path = _MOUNTS) -> FileSystem | None:
    """Return the file system that ``path`` is on; ``None`` where the kernel does not list it.

    ``mounts``: a file as ``/proc/self/mountinfo`` (proc(5)).
    """
    file_system = None
    try:
        lines = mounts.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return None
    real = path.resolve()
    for line in lines:
        head, separator, tail = line.partition(" - ")
        if not separator:
            continue
        point = Path(re.sub(r"\\([0-7]{3})", lambda of: chr(int(of[1], 8)), head.split()[4]))
        # A later mount covers an earlier one at the same place.
        if real.is_relative_to(point) and (file_system is None or point.is_relative_to(file_system.mount_point)):
            file_system = FileSystem(kind=tail.split()[0], mount_point=point)
    return file_system
