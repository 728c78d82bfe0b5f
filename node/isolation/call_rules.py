"""System calls that a process that runs models may not make, by group, as data for ``node.isolation.calls``.

A list of what is refused, not of what is allowed: PyTorch, CUDA and ROCm libraries call what their versions like. Calls
that need a capability are absent, because the process has none. Numbers are those of x86-64 and of aarch64
(asm/unistd_64.h, asm-generic/unistd.h); ``None`` where the architecture has no such call.
"""

from __future__ import annotations

from dataclasses import dataclass
from socket import SOCK_STREAM

Numbers = tuple[int | None, int | None]

REFUSED: dict[str, dict[str, Numbers]] = {
    "reach the network, or a service of this machine": {
        "socket": (41, 198),
        "connect": (42, 203),
    },
    "make sockets past this filter, or load code into the kernel": {
        "io_uring_setup": (425, 425),
        "bpf": (321, 280),
        "userfaultfd": (323, 282),
        "perf_event_open": (298, 241),
    },
    "look into another process of the same user, or change it": {
        "ptrace": (101, 117),
        "process_vm_readv": (310, 270),
        "process_vm_writev": (311, 271),
        "pidfd_getfd": (438, 438),
        "process_madvise": (440, 440),
        "process_mrelease": (448, 448),
        "kcmp": (312, 272),
        "migrate_pages": (256, 238),
        "ioprio_set": (251, 30),
    },
    "use objects that all processes of one user or of the machine share (keyrings, System V IPC, message queues)": {
        "add_key": (248, 217),
        "request_key": (249, 218),
        "keyctl": (250, 219),
        "shmget": (29, 194),
        "shmat": (30, 196),
        "shmctl": (31, 195),
        "semget": (64, 190),
        "semop": (65, 193),
        "semtimedop": (220, 192),
        "semctl": (66, 191),
        "msgget": (68, 186),
        "msgsnd": (69, 189),
        "msgrcv": (70, 188),
        "msgctl": (71, 187),
        "mq_open": (240, 180),
        "mq_unlink": (241, 181),
    },
    "use up what all processes of one user or of the machine share (file watches, asynchronous reads)": {
        "inotify_init": (253, None),
        "inotify_init1": (294, 26),
        "fanotify_init": (300, 262),
        "io_setup": (206, 0),
    },
    "change modes, owners, times and attributes of files, which Landlock does not govern": {
        "chmod": (90, None),
        "fchmod": (91, 52),
        "fchmodat": (268, 53),
        "fchmodat2": (452, 452),
        "chown": (92, None),
        "fchown": (93, 55),
        "lchown": (94, None),
        "fchownat": (260, 54),
        "setxattr": (188, 5),
        "lsetxattr": (189, 6),
        "fsetxattr": (190, 7),
        "setxattrat": (463, 463),
        "removexattr": (197, 14),
        "lremovexattr": (198, 15),
        "fremovexattr": (199, 16),
        "removexattrat": (466, 466),
        "file_setattr": (469, 469),
        "utime": (132, None),
        "utimes": (235, None),
        "futimesat": (261, None),
        "utimensat": (280, 88),
    },
    "have capabilities in a namespace of its own, or another view of files": {
        "unshare": (272, 97),
        "setns": (308, 268),
        "mount": (165, 40),
        "umount2": (166, 39),
        "pivot_root": (155, 41),
        "chroot": (161, 51),
        "open_tree": (428, 428),
        "open_tree_attr": (467, 467),
        "move_mount": (429, 429),
        "fsopen": (430, 430),
        "mount_setattr": (442, 442),
    },
    "read the log of the kernel": {
        "syslog": (103, 116),
    },
}
"""What the calls would allow -> the calls, which fail with EACCES whatever their arguments are."""

ABSENT: dict[str, Numbers] = {"clone3": (435, 435)}
"""Calls that fail with ENOSYS. A filter cannot read the flags of clone3, and the C library then calls clone."""


@dataclass(frozen=True)
class Argument:
    """One test on the low 32 bits of an argument: ``(argument & mask) == value``."""

    index: int
    value: int
    mask: int = 0xFFFFFFFF


_ITSELF = (Argument(0, 0),)
"""Process 0 is the calling thread."""
_NEW_NAMESPACES = 0x7E020000
"""CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET (namespaces(7))."""
_SETLEASE = 1024
"""F_SETLEASE (fcntl(2)): a lease on a received image makes all others wait who open it."""
_SETFLAGS, _FSSETXATTR = 0x40086602, 0x401C5820
"""FS_IOC_SETFLAGS and FS_IOC_FSSETXATTR (ioctl_iflags(2)): attributes of a file that is open for reading."""

ALLOWED_ONLY: dict[str, tuple[Numbers, tuple[Argument, ...]]] = {
    "prlimit64": ((302, 261), _ITSELF),
    "sched_setaffinity": ((203, 122), _ITSELF),
    "sched_setscheduler": ((144, 119), _ITSELF),
    "sched_setparam": ((142, 118), _ITSELF),
    "sched_setattr": ((314, 274), _ITSELF),
    "move_pages": ((279, 239), _ITSELF),
    "setpriority": ((141, 140), (Argument(0, 0), Argument(1, 0))),
    # Datagrams reach any socket of the machine; a connected pair of streams stays connected.
    "socketpair": ((53, 199), (Argument(1, SOCK_STREAM, 0xF),)),
    "clone": ((56, 220), (Argument(0, 0, _NEW_NAMESPACES),)),
}
"""Calls that are allowed only when all tests hold: on the calling thread itself, without new namespaces."""

REFUSED_WHEN: dict[str, tuple[Numbers, tuple[Argument, ...]]] = {
    "fcntl": ((72, 25), (Argument(1, _SETLEASE),)),
    "ioctl": ((16, 29), (Argument(1, _SETFLAGS), Argument(1, _FSSETXATTR))),
}
"""Calls that are refused when one of the tests holds."""
