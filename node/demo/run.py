"""The demonstration from end to end: a PACS, the node, a scanner, and a look at what came back."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from pynetdicom import AE
from pynetdicom.sop_class import Verification
from rich.console import Console
from rich.markup import escape

from node.demo import pacs as archive
from node.demo import scanner
from node.demo.configuration import write_configuration
from node.demo.display import describe, follow, new_console, phantoms, show_results
from node.demo.pacs import make_pacs
from node.demo.viewer import check_viewer, serve_viewer, study_links
from node.errors import PlatformError
from node.ledger.engine import ledger_url, open_ledger
from node.process.children import bound_to_parent
from node.process.loopback import HERE, free_port

NODE_TITLE = "AINODE"
READY_SECONDS = 120.0
STOP_SECONDS = 75.0
MARK = ".ainode-demo"
"""A folder with this file was made by a demonstration and may be emptied by the next one."""


def run_demo(studies: Path | None, folder: Path, *, keep: bool = False, ohif: Path | None = None) -> int:
    """Run the demonstration in ``folder``; ``studies``: send these instead of phantoms. Returns the exit status.

    ``ohif``: folder with the pages of OHIF, which then shows the results until the user ends the demonstration.

    0: every pipeline finished and its results are in the archive; 1: one failed or was cancelled. Raises
    ``PlatformError`` when PACS or node do not start, ``InputError`` when ``studies`` holds no DICOM.
    """
    console = new_console()
    prepare(folder)
    port = free_port()
    pacs = make_pacs(folder / "pacs", {scanner.TITLE: (HERE, 1), NODE_TITLE: (HERE, port)})
    if ohif is not None:
        check_viewer(ohif, pacs)
    pacs.start()
    try:
        console.print(f"[bold]PACS[/]     {describe(pacs)}")
        config = folder / "config.toml"
        write_configuration(config, NODE_TITLE, (HERE, port), folder / "node", pacs)
        with _node(config, folder / "node.log") as node:
            console.print(f"[bold]Node[/]     {NODE_TITLE} at {HERE}:{port}, configuration {config}")
            truths = [] if studies else phantoms(folder / "phantoms", console)
            files = scanner.find(studies or folder / "phantoms")
            _wait_until_ready(node, port, folder / "node.log")
            for called, to in ((archive.TITLE, pacs.port), (NODE_TITLE, port)):
                tool = scanner.send(files, (HERE, to), called)
                console.print(f"[bold]Scanner[/]  {len(files)} images to {called} with {tool}")

            def watch() -> None:
                if node.poll() is not None:
                    raise PlatformError(f"the node ended with status {node.returncode}; see {folder / 'node.log'}")
                if not pacs.running():
                    raise PlatformError(f"the PACS has ended; see its log in {folder / 'pacs'}")

            engine = open_ledger(ledger_url("", folder / "node"))
            rows = follow(console, watch, files, engine)
            engine.dispose()
            show_results(console, pacs, truths, folder / "pictures", keep=keep or ohif is not None)
            with ExitStack() as stack:
                if ohif is not None:
                    address = stack.enter_context(serve_viewer(ohif, pacs))
                    for description, link in study_links(address, pacs.series()):
                        console.print(f"[bold]OHIF[/]     {escape(description)}: {link}", soft_wrap=True)
                if keep or ohif is not None:
                    _stay(console, node)
            return 0 if all(row.good for row in rows) else 1
    finally:
        pacs.stop()


def prepare(folder: Path) -> None:
    """An empty folder for this run. Raises ``PlatformError`` rather than deleting what is not ours."""
    if folder.exists() and any(folder.iterdir()):
        if not (folder / MARK).exists():
            raise PlatformError(f"demo folder {folder} is not empty and not of an earlier demo; give another one")
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARK).touch()


@contextmanager
def _node(config: Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("ab") as output:
        command = [*bound_to_parent("TERM"), sys.executable, "-P", "-m", "node", "run", "--config", str(config)]
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_ready(node: subprocess.Popen[bytes], port: int, log: Path) -> None:
    ae = AE(ae_title=scanner.TITLE)
    ae.add_requested_context(Verification)
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline and node.poll() is None:
        try:
            socket.create_connection((HERE, port), 1.0).close()
        except OSError:
            time.sleep(0.5)
            continue
        association = ae.associate(HERE, port, ae_title=NODE_TITLE)
        if association.is_established:
            association.send_c_echo()
            association.release()
            return
        time.sleep(0.5)
    raise PlatformError(f"the node did not answer C-ECHO at port {port} within {READY_SECONDS:g} s; see {log}")


def _stay(console: Console, node: subprocess.Popen[bytes]) -> None:
    console.print("PACS and node stay up; Ctrl-C ends them.")
    try:
        node.wait()
    except KeyboardInterrupt:
        console.print("ending")
