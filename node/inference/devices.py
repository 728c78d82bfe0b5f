"""Which devices run pipelines, and with how many threads."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version

from node.config import Devices
from node.errors import PlatformError


def device_names(devices: Devices) -> tuple[str, ...]:
    """``[devices] use`` with ``auto`` spelt out: every CUDA device, else the CPU.

    Asked in a process of its own, so that this one never holds a CUDA context. A build of PyTorch for CPUs, as its
    version says, is not asked: its import computes for more than a second.
    """
    if "auto" not in devices.use:
        return devices.use
    if _is_for_cpus():
        return ("cpu",)
    question = "import torch; print(torch.cuda.device_count())"
    answer = subprocess.run([sys.executable, "-c", question], capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        raise PlatformError(f"[devices] use: torch cannot be imported ({answer.stderr.strip()[-200:]}); install torch")
    return tuple(f"cuda:{i}" for i in range(int(answer.stdout))) or ("cpu",)


def _is_for_cpus() -> bool:
    try:
        return version("torch").endswith("+cpu")
    except PackageNotFoundError:
        return False


def thread_count(devices: Devices) -> int:
    """Threads of one child: ``[devices] cpu_threads``, or every core this process may use."""
    return devices.cpu_threads or len(os.sched_getaffinity(0))
