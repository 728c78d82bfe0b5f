"""Computing and memory of a node that has just started and has no work: ``python tests/support/start_cost.py``."""

from __future__ import annotations

import tempfile
from pathlib import Path

from real_peers import free_port
from whole_node import whole_node


def main() -> None:
    """Print a line for each process, and the sum."""
    with (
        tempfile.TemporaryDirectory() as folder,
        whole_node(Path(folder), 104, extra=f"[web]\nenabled = true\nport = {free_port()}") as node,
    ):
        total = [0.0, 0.0]
        for process in node.processes():
            times, memory = process.cpu_times(), process.memory_full_info()
            figures = times.user + times.system, memory.pss / 1e6
            total = [subtotal + figure for subtotal, figure in zip(total, figures, strict=True)]
            print(f"{process.name():16}{figures[0]:6.2f} CPU s{figures[1]:7.0f} MB")
        print(f"{'all':16}{total[0]:6.2f} CPU s{total[1]:7.0f} MB (shared pages counted once)")


if __name__ == "__main__":
    main()
