"""Run a command on a kernel without some features: ``python without.py landlock,namespaces COMMAND ...``.

The calls are refused by the kernel (seccomp), as the default profile of a container refuses them.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys

_FEATURES = {
    "landlock": {"x86_64": (444, 445, 446), "aarch64": (444, 445, 446)},
    "namespaces": {"x86_64": (272, 165), "aarch64": (97, 40)},
}
"""landlock_*; unshare and mount."""


def refuse(features: list[str]) -> None:
    """Make the calls of these features fail: ENOSYS as without Landlock, EPERM as in a container."""
    steps = [struct.pack("=HBBI", 0x20, 0, 0, 0)]
    for feature in features:
        answer = 0x00050000 | (errno.ENOSYS if feature == "landlock" else errno.EPERM)
        for number in _FEATURES[feature][platform.machine()]:
            steps += [struct.pack("=HBBI", 0x15, 0, 1, number), struct.pack("=HBBI", 0x06, 0, 0, answer)]
    steps.append(struct.pack("=HBBI", 0x06, 0, 0, 0x7FFF0000))
    code = ctypes.create_string_buffer(b"".join(steps))
    program = struct.pack("=H6xQ", len(steps), ctypes.addressof(code))
    library = ctypes.CDLL(None, use_errno=True)
    assert library.prctl(38, 1, 0, 0, 0) == 0
    assert library.prctl(22, 2, program, 0, 0) == 0, os.strerror(ctypes.get_errno())


if __name__ == "__main__":
    refuse(sys.argv[1].split(","))
    os.execvp(sys.argv[2], sys.argv[2:])  # noqa: S606 - the purpose of this module
