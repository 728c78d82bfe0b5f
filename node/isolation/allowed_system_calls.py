"""System calls that a process that runs models may make, by purpose, as data for ``node.isolation.system_call_filter``.

They are those of systemd's group ``@system-service`` without what reaches past the process: sockets, other processes,
objects that all processes of a user share, modes and owners of files, namespaces, the clock, the kernel. PyTorch, ONNX
Runtime, SimpleITK, MONAI and compilers use nothing else (docs/development/validation.md). Numbers are those of x86-64
and of aarch64 (asm/unistd_64.h, asm-generic/unistd.h); ``-`` where the architecture has no such call.
"""

from __future__ import annotations

from dataclasses import dataclass
from socket import SOCK_STREAM

Numbers = tuple[int | None, int | None]

ALLOWED: dict[str, str] = {
    "read and write open files": """
        close 3 57, close_range 436 436, dup 32 23, dup2 33 -, dup3 292 24, lseek 8 62, pread64 17 67, preadv 295 69,
        preadv2 327 286, pwrite64 18 68, pwritev 296 70, pwritev2 328 287, read 0 63, readv 19 65, write 1 64,
        writev 20 66, sendfile 40 71, splice 275 76, tee 276 77, vmsplice 278 75, copy_file_range 326 285,
        fadvise64 221 223, readahead 187 213, flock 73 32, ftruncate 77 46, fallocate 285 47, fsync 74 82,
        fdatasync 75 83, msync 26 227, sync_file_range 277 84, syncfs 306 267
    """,
    "find, open and change files, as far as Landlock lets them": """
        access 21 -, chdir 80 49, creat 85 -, faccessat 269 48, faccessat2 439 439, fchdir 81 50, fgetxattr 193 10,
        flistxattr 196 13, fstat 5 80, fstatfs 138 44, getcwd 79 17, getdents 78 -, getdents64 217 61, getxattr 191 8,
        getxattrat 464 464, lgetxattr 192 9, link 86 -, linkat 265 37, listxattr 194 11, listxattrat 465 465,
        llistxattr 195 12, lstat 6 -, mkdir 83 -, mkdirat 258 34, newfstatat 262 79, open 2 -, openat 257 56,
        openat2 437 437, readlink 89 -, readlinkat 267 78, rename 82 -, renameat 264 38, renameat2 316 276, rmdir 84 -,
        stat 4 -, statfs 137 43, statx 332 291, truncate 76 45, umask 95 166, unlink 87 -, unlinkat 263 35,
        file_getattr 468 468
    """,
    "wait for files, pipes and time": """
        epoll_create 213 -, epoll_create1 291 20, epoll_ctl 233 21, epoll_pwait 281 22, epoll_pwait2 441 441,
        epoll_wait 232 -, eventfd 284 -, eventfd2 290 19, poll 7 -, ppoll 271 73, pselect6 270 72, select 23 -,
        pipe 22 -, pipe2 293 59, alarm 37 -, getitimer 36 102, setitimer 38 103, timer_create 222 107,
        timer_delete 226 111, timer_getoverrun 225 109, timer_gettime 224 108, timer_settime 223 110,
        timerfd_create 283 85, timerfd_gettime 287 87, timerfd_settime 286 86, nanosleep 35 101,
        clock_nanosleep 230 115, clock_getres 229 114, clock_gettime 228 113, gettimeofday 96 169, time 201 -,
        times 100 153, pause 34 -
    """,
    "use memory": """
        brk 12 214, mmap 9 222, mprotect 10 226, mremap 25 216, munmap 11 215, madvise 28 233, mincore 27 232,
        memfd_create 319 279, mlock 149 228, mlock2 325 284, mlockall 151 230, munlock 150 229, munlockall 152 231,
        mseal 462 462, get_mempolicy 239 236, mbind 237 235, set_mempolicy 238 237, set_mempolicy_home_node 450 450,
        membarrier 324 283, pkey_alloc 330 289, pkey_free 331 290, pkey_mprotect 329 288, map_shadow_stack 453 453,
        cachestat 451 451
    """,
    "run threads, and processes of its own": """
        arch_prctl 158 -, execve 59 221, execveat 322 281, exit 60 93, exit_group 231 94, fork 57 -, vfork 58 -,
        futex 202 98, futex_waitv 449 449, futex_wake 454 454, futex_wait 455 455, futex_requeue 456 456,
        get_robust_list 274 100, set_robust_list 273 99, get_thread_area 211 -, set_thread_area 205 -,
        set_tid_address 218 96, restart_syscall 219 128, rseq 334 293, kill 62 129, tgkill 234 131, tkill 200 130,
        pidfd_open 434 434, pidfd_send_signal 424 424, prctl 157 167, seccomp 317 277, landlock_create_ruleset 444 444,
        landlock_add_rule 445 445, landlock_restrict_self 446 446, setpgid 109 154, setsid 112 157, wait4 61 260,
        waitid 247 95, getrusage 98 165, getrlimit 97 163, setrlimit 160 164, getpriority 140 141, ioprio_get 252 31,
        sched_get_priority_max 146 125, sched_get_priority_min 147 126, sched_getaffinity 204 123,
        sched_getattr 315 275, sched_getparam 143 121, sched_getscheduler 145 120, sched_rr_get_interval 148 127,
        sched_yield 24 124, getcpu 309 168
    """,
    "handle signals": """
        rt_sigaction 13 134, rt_sigpending 127 136, rt_sigprocmask 14 135, rt_sigqueueinfo 129 138, rt_sigreturn 15 139,
        rt_sigsuspend 130 133, rt_sigtimedwait 128 137, rt_tgsigqueueinfo 297 240, sigaltstack 131 132, signalfd 282 -,
        signalfd4 289 74
    """,
    "use connected sockets, the pipes of multiprocessing": """
        getpeername 52 205, getsockname 51 204, getsockopt 55 209, setsockopt 54 208, shutdown 48 210, recvfrom 45 207,
        recvmsg 47 212, recvmmsg 299 243, sendto 44 206, sendmsg 46 211, sendmmsg 307 269
    """,
    "learn about itself and the system": """
        capget 125 90, getegid 108 177, geteuid 107 175, getgid 104 176, getgroups 115 158, getpgid 121 155,
        getpgrp 111 -, getpid 39 172, getppid 110 173, getresgid 120 150, getresuid 118 148, getsid 124 156,
        gettid 186 178, getuid 102 174, getrandom 318 278, sysinfo 99 179, uname 63 160
    """,
}
"""Purpose -> the calls, each with its two numbers, that are allowed whatever their arguments are."""

LATEST = 469
"""Last call of the kernel that this list was written for (file_setattr, Linux 6.17). Later ones fail with ENOSYS, as on
an older kernel; calls up to this one that no table names fail with EACCES."""

ABSENT: dict[str, Numbers] = {"clone3": (435, 435)}
"""Calls that fail with ENOSYS. A filter cannot read the flags of clone3, and the C library then calls clone."""


def allowed_calls() -> dict[str, Numbers]:
    """Return the calls of ``ALLOWED`` with their numbers."""
    entries = (entry.split() for group in ALLOWED.values() for entry in group.split(","))
    return {name: (_number(x86_64), _number(aarch64)) for name, x86_64, aarch64 in entries}


def _number(text: str) -> int | None:
    return None if text == "-" else int(text)


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
_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C
"""ioctl_tty(2): typing into a terminal that is open."""

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
    "ioctl": ((16, 29), tuple(Argument(1, number) for number in (_SETFLAGS, _FSSETXATTR, _TIOCSTI, _TIOCLINUX))),
}
"""Calls that are refused when one of the tests holds."""
