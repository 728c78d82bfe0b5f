"""Device files of the NVIDIA driver, which must exist before a process confines itself.

The driver makes ``/dev/nvidia-uvm``, which CUDA needs, with the first program that uses CUDA, by a program that runs as
root. A confined process can start none, and sees only the devices that were there before.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from node.errors import PlatformError

_COMMAND = ("nvidia-modprobe", "-c", "0", "-u")
_SECONDS = 60.0


def prepare_nvidia_devices(dev: Path = Path("/dev"), modules: Path = Path("/sys/module")) -> None:
    """Have the device files made that CUDA needs, where the driver is loaded and they are missing.

    Raises ``PlatformError`` when that is not possible.
    """
    needed = dev / "nvidia-uvm"
    if needed.exists() or not (modules / "nvidia").exists():
        return
    if program := shutil.which(_COMMAND[0]):
        subprocess.run([program, *_COMMAND[1:]], check=False, capture_output=True, timeout=_SECONDS)
    if not needed.exists():
        raise PlatformError(
            f"{needed} does not exist, without which CUDA does not work; run '{' '.join(_COMMAND)}' as root before the "
            "node starts (systemd/README.md)"
        )
