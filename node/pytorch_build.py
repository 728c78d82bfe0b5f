"""Which build of PyTorch suits this machine: the one for CPUs, or the one with CUDA, which is 4 GB larger."""

from __future__ import annotations

from pathlib import Path

from node.translation import gettext

CPU_INDEX = "https://download.pytorch.org/whl/cpu"
_PCI = Path("/sys/bus/pci/devices")
_NVIDIA, _DISPLAY = "0x10de", "0x03"
"""PCI vendor, and the class of display controllers, which is also that of compute cards."""


def has_nvidia_gpu(devices: Path = _PCI) -> bool:
    """Return whether a card is in this machine, with or without its driver."""
    return any(
        _text(device / "vendor") == _NVIDIA and _text(device / "class").startswith(_DISPLAY)
        for device in (devices.iterdir() if devices.is_dir() else ())
    )


def build_advice(version: str, cuda: str | None, *, has_gpu: bool) -> str:
    """Return the remedy for a build that does not suit the machine, ``""`` for one that does.

    ``version``, ``cuda``: ``torch.__version__`` and ``torch.version.cuda``.
    """
    release = version.partition("+")[0]
    if has_gpu and cuda is None:
        return gettext(
            "this machine has an NVIDIA GPU: {command}", command=f"pip install --force-reinstall torch=={release}"
        )
    if not has_gpu and cuda is not None:
        line = f"pip install torch=={release} --index-url {CPU_INDEX}"
        return gettext(
            "without a GPU the build for CPUs saves 4 GB: in a new virtual environment, before ainode: {command}",
            command=line,
        )
    return ""


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:
        return ""
