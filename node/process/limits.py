"""Limits of processes (getrlimit(2)): a floor that holds without a service manager.

The memory of pipelines is bounded by ``node.process.control_group``, that of other confined processes by
``node.confined.bounds``.
"""

from __future__ import annotations

import os
import resource

OPEN_FILES = 8192
"""Enough for PyTorch's data loaders, which pass tensors as descriptors."""
FILE_BYTES = 16 << 30
"""Of one file: several times the largest handover, a float map for each of some segments on 2,000 slices."""
_SHARE_OF_PROCESSES = 0.75
"""Of the processes and threads that its user may have: a fork bomb leaves the rest to the node."""
PROCESSES = 8192
"""And threads, where they are counted for this process and its own alone."""


THREAD_VARIABLES = (
    "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
)  # fmt: skip
"""Environment of a process: threads of its numerical libraries, which they read when they are loaded."""


def set_limits() -> None:
    """Lower the limits of a process that runs models, and of all that it starts, for good.

    Address space has none: CUDA reserves more than any machine has. Root is not bound by the number of processes.
    """
    _lower(resource.RLIMIT_CORE, 0)  # a core holds images of patients
    _lower(resource.RLIMIT_MSGQUEUE, 0)
    _lower(resource.RLIMIT_NOFILE, OPEN_FILES)
    _lower(resource.RLIMIT_FSIZE, FILE_BYTES)
    allowed = resource.getrlimit(resource.RLIMIT_NPROC)[0]
    if allowed != resource.RLIM_INFINITY:
        _lower(resource.RLIMIT_NPROC, int(allowed * _SHARE_OF_PROCESSES))


def close_to_others() -> None:
    """Let this process, and all that it starts, leave no core and open no new file to other users of the machine."""
    _lower(resource.RLIMIT_CORE, 0)
    os.umask(os.umask(0o077) | 0o027)


def limit_own_processes() -> None:
    """Lower the limit of processes for a user, or a user namespace, that this process has to itself."""
    _lower(resource.RLIMIT_NPROC, PROCESSES)


def _lower(limit: int, value: int) -> None:
    soft, hard = (value if now == resource.RLIM_INFINITY else min(now, value) for now in resource.getrlimit(limit))
    resource.setrlimit(limit, (soft, hard))
