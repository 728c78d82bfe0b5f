"""Escapes that a model tries, on machines that lack some of what confines it: a table of what holds where.

``python sandbox_matrix.py`` prints the tables of docs/development/sandbox.md; ``python sandbox_matrix.py model FOLDER``
tries the escapes once, here, and prints the outcomes; with ``reader`` those of a confined process that reads images.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
AS_USER = ("unshare", "--user", "--map-user=1000", "--map-group=1000")
"""An ordinary user, with the files of the one who runs the test."""


def _without(*features: str) -> tuple[str, ...]:
    return (sys.executable, str(HERE / "without.py"), ",".join(features))


MACHINES: dict[str, tuple[str, ...]] = {
    "user": AS_USER,
    "user, no Landlock": (*AS_USER, *_without("landlock")),
    "user, no namespaces": (*AS_USER, *_without("namespaces")),
    "user, neither": (*AS_USER, *_without("namespaces", "landlock")),
    "root": (),
    "root, no Landlock": _without("landlock"),
    "root, no namespaces": _without("namespaces"),
    "root, neither": _without("namespaces", "landlock"),
}
"""Plain ``ainode run`` without a control group -> the command in front of it."""
MAY = {
    "read its input",
    "write a temporary file",
    "move a temporary file",
    "start a program",
    "read the system's libraries",
}
"""What every model needs."""


def outcomes(command: tuple[str, ...], who: str = "model") -> dict[str, Any]:
    """Try the escapes behind ``command``: ``sandbox``, what holds there, and ``tried``, attempt -> outcome.

    ``who``: a ``"model"``, or a ``"reader"`` of images.
    """
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [*command, sys.executable, "-P", str(Path(__file__)), who, folder],
            capture_output=True, text=True, check=False, env=environment,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    return dict(json.loads(done.stdout.splitlines()[-1]))


def try_here(folder: Path) -> dict[str, Any]:
    """Run a model that tries each escape, in a folder that is laid out like a node's."""
    import prying
    from worker_tasks import task, wanted

    from node.inference.model_process import ModelProcess

    lines: list[str] = []
    logging.getLogger("node.inference").setLevel("INFO")
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger().addHandler(handler)
    logging.getLogger().setLevel("INFO")
    with (
        tempfile.NamedTemporaryFile(dir="/dev/shm") as shared,
        prying.laid_out(folder, Path(shared.name)) as (storage, pry),
    ):
        worker = ModelProcess("cpu", 1, 240.0, storage / "sandboxes")
        try:
            reply = worker.run(task(folder, **pry), wanted)
        finally:
            worker.close()
    tried = json.loads(reply.reason)
    return {"sandbox": next(line for line in lines if "own user: " in line), "tried": tried}


def read_here(folder: Path) -> dict[str, Any]:
    """Let a confined process that reads images try what it must not do, in a folder like a node's."""
    import confined_functions

    from node.confined import ConfinedProcess

    for name in ("images", "images/image.dcm", "ledger.sqlite"):
        (folder / name).write_text(name) if "." in name else (folder / name).mkdir()
    reader = ConfinedProcess("reader", readable=[folder / "images"])
    with tempfile.NamedTemporaryFile(dir="/dev/shm") as shared:
        tried = reader.call(
            "the escapes", confined_functions.escapes, folder / "ledger.sqlite", folder / "images" / "image.dcm",
            Path(shared.name), os.getpid(),
        )  # fmt: skip
    reader.close()
    return {"tried": {name: "done" if works else "held" for name, works in tried.items()}}


def table(machines: dict[str, dict[str, Any]]) -> str:
    """Return the outcomes as a Markdown table: what holds, and what does not."""
    names = list(machines)
    rows = [["Escape", *names], ["---"] * (len(names) + 1)]
    rows += [
        [attempt, *("**open**" if escaped(machines[name], attempt) else "held" for name in names)]
        for attempt in next(iter(machines.values()))["tried"]
        if attempt not in MAY
    ]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def escaped(machine: dict[str, Any], attempt: str) -> bool:
    """Whether an attempt was a success."""
    return bool(machine["tried"][attempt] == "done")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        try_it = {"model": try_here, "reader": read_here}[sys.argv[1]]
        sys.stdout.write(json.dumps(try_it(Path(sys.argv[2]))) + "\n")
    else:
        results = {name: outcomes(command) for name, command in MACHINES.items()}
        sys.stdout.write(f"{table(results)}\n\n")
        sys.stdout.writelines(f"- {name}: {result['sandbox']}\n" for name, result in results.items())
        readers = {name: outcomes(command, "reader") for name, command in MACHINES.items()}
        sys.stdout.write(f"\n{table(readers)}\n")
