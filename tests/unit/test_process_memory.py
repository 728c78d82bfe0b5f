"""What a process asks of the C library and the kernel."""

from __future__ import annotations

import subprocess
import sys

import pytest

AGAIN = """
import ctypes, resource, numpy
from node.process.memory import {asked}
ctypes.CDLL(None).prctl(41, 1, 0, 0, 0)  # PR_SET_THP_DISABLE: numpy asks for huge pages, and gets them by luck
{asked}()
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
numpy.ones(4 << 20)
before = faults()
for _ in range(10):
    numpy.ones(4 << 20)
print(faults() - before)
"""
"""Ten blocks of 32 MiB, one after the other: 8192 pages each."""


@pytest.mark.skipif(sys.platform != "linux", reason="mallopt(3)")
@pytest.mark.parametrize(("asked", "most"), [("keep_freed_memory", 4096), ("return_freed_memory", None)])
def test_freed_blocks_are_used_again_where_networks_run_and_given_back_where_peers_are_served(asked, most):
    output = subprocess.run(
        [sys.executable, "-c", AGAIN.format(asked=asked)], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    assert int(output) <= most if most else int(output) > 10 * 8000
