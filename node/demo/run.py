"""The demonstration from end to end: a PACS, the node, a scanner, and a look at what came back."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

from pynetdicom import AE
from pynetdicom.sop_class import Verification
from rich.console import Console
from rich.live import Live
from rich.table import Table

from node.demo import pacs as archive
from node.demo import scanner
from node.demo.gallery import compare, draw_all
from node.demo.images import Truth
from node.demo.pacs import Pacs, make_pacs
from node.demo.phantom import write_brain_flair, write_chest_ct
from node.demo.progress import ProgressRow, progress, sent_series, table
from node.errors import PlatformError
from node.ledger.engine import ledger_url, open_ledger
from node.outcome import Outcome
from node.process.children import bound_to_parent
from node.process.loopback import free_port

NODE_TITLE = "AINODE"
READY_SECONDS = 120.0
STOP_SECONDS = 75.0
WIDTH = 132
"""Of tables that go to a file or a pipe."""
MARK = ".ainode-demo"
"""A folder with this file was made by a demonstration and may be emptied by the next one."""

CONFIG = """\
# Written by `ainode demo`. The shipped config.toml explains every key.
[ae]
title = "{title}"
address = "127.0.0.1"
port = {port}

[storage]
folder = "{folder}"
min_free_gib = 0.5

[series]
quiet_seconds = 3.0
gap_seconds = 15.0

[pipelines.nodule]
[pipelines.denoise]
[pipelines.tumor]

[destinations.pacs]
title = "{pacs_title}"
host = "127.0.0.1"
port = {pacs_port}
commitment = {commitment}
objects = ["seg", "sr", "derived", "key images"]
first_retry_seconds = 1.0

[[rules]]
name = "chest CT"
prefer = ["axial", "thinnest"]
pipelines = ["nodule", "denoise"]
destinations = ["pacs"]
[rules.match]
Modality = "CT"
BodyPartExamined = ["CHEST", "LUNG", "THORAX", ""]
SliceThickness = "0-5"

[[rules]]
name = "brain FLAIR"
prefer = ["axial", "thinnest"]
pipelines = ["tumor"]
destinations = ["pacs"]
[rules.match]
Modality = "MR"
SeriesDescription = "*FLAIR*"
"""


def run_demo(studies: Path | None, folder: Path, *, keep: bool = False) -> int:
    """Run the demonstration in ``folder``; ``studies``: send these instead of phantoms. Returns the exit status.

    0: every pipeline finished and its results are in the archive; 1: one failed or was cancelled. Raises
    ``PlatformError`` when PACS or node do not start, ``InputError`` when ``studies`` holds no DICOM.
    """
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    _prepare(folder)
    port = free_port()
    pacs = make_pacs(folder / "pacs", {scanner.TITLE: 1, NODE_TITLE: port})
    pacs.start()
    try:
        console.print(f"[bold]PACS[/]     {_describe(pacs)}")
        config = _write_config(folder, port, pacs)
        with _node(config, folder / "node.log") as node:
            console.print(f"[bold]Node[/]     {NODE_TITLE} at 127.0.0.1:{port}, configuration {config}")
            truths = [] if studies else _phantoms(folder / "phantoms", console)
            files = scanner.find(studies or folder / "phantoms")
            _wait_until_ready(node, port, folder / "node.log")
            for called, to in ((archive.TITLE, pacs.port), (NODE_TITLE, port)):
                tool = scanner.send(files, to, called)
                console.print(f"[bold]Scanner[/]  {len(files)} images to {called} with {tool}")
            rows = _follow(console, (node, pacs), files, folder)
            _show_archive(console, pacs)
            for truth in truths:
                _show_truth(console, pacs, truth)
            with console.status("drawing pictures"):
                drawn = draw_all(pacs, folder / "pictures")
            for path in drawn:
                console.print(f"[bold]Picture[/]  {path}")
            if pacs.web_url:
                console.print(
                    f"[bold]PACS[/]     {pacs.web_url}/app/explorer.html" + ("" if keep else "  (with --keep)")
                )
            if keep:
                _stay(console, node)
            return 0 if all(row.good for row in rows) else 1
    finally:
        pacs.stop()


def _prepare(folder: Path) -> None:
    """An empty folder for this run. Raises ``PlatformError`` rather than deleting what is not ours."""
    if folder.exists() and any(folder.iterdir()):
        if not (folder / MARK).exists():
            raise PlatformError(f"demo folder {folder} is not empty and not of an earlier demo; give another one")
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARK).touch()


def _describe(pacs: Pacs) -> str:
    kind = "Orthanc" if isinstance(pacs, archive.OrthancPacs) else "built-in (install orthanc for one with pages)"
    return f"{archive.TITLE} at 127.0.0.1:{pacs.port}, {kind} {pacs.web_url}".rstrip()


def _write_config(folder: Path, port: int, pacs: Pacs) -> Path:
    path = folder / "config.toml"
    text = CONFIG.format(
        title=NODE_TITLE,
        port=port,
        folder=(folder / "node").absolute().as_posix(),
        pacs_title=archive.TITLE,
        pacs_port=pacs.port,
        commitment=str(pacs.commitment).lower(),
    )
    path.write_text(text, encoding="utf-8")
    return path


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
            socket.create_connection(("127.0.0.1", port), 1.0).close()
        except OSError:
            time.sleep(0.5)
            continue
        association = ae.associate("127.0.0.1", port, ae_title=NODE_TITLE)
        if association.is_established:
            association.send_c_echo()
            association.release()
            return
        time.sleep(0.5)
    raise PlatformError(f"the node did not answer C-ECHO at port {port} within {READY_SECONDS:g} s; see {log}")


def _phantoms(folder: Path, console: Console) -> list[Truth]:
    with console.status("making a chest CT and a brain MR phantom"):
        truths = [write_chest_ct(folder / "ct"), write_brain_flair(folder / "mr")]
    console.print(f"[bold]Phantoms[/] synthetic chest CT and brain FLAIR in {folder}")
    return truths


def _follow(
    console: Console, peers: tuple[subprocess.Popen[bytes], Pacs], files: Sequence[scanner.DicomFile], folder: Path
) -> tuple[ProgressRow, ...]:
    """Show each stage as it happens until every series is dealt with."""
    node, pacs = peers
    sent = sent_series(files)
    engine = open_ledger(ledger_url("", folder / "node"))
    shown: set[tuple[str, ...]] = set()
    rows: tuple[ProgressRow, ...] = ()
    with Live(table(rows), console=console, auto_refresh=False) if console.is_terminal else nullcontext() as live:
        while not rows or not all(row.over for row in rows):
            if node.poll() is not None:
                raise PlatformError(f"the node ended with status {node.returncode}; see {folder / 'node.log'}")
            if not pacs.running():
                raise PlatformError(f"the PACS has ended; see its log in {folder / 'pacs'}")
            with engine.connect() as connection:
                rows = progress(connection, sent)
            if live is not None:
                live.update(table(rows), refresh=True)
            for cells in (row.cells for row in rows if live is None and row.cells not in shown):
                # No terminal to redraw: one line for each change.
                shown.add(cells)
                console.print(time.strftime("%H:%M:%S"), " | ".join(cell for cell in cells if cell), highlight=False)
            time.sleep(0.5)
    if live is None:
        console.print(table(rows))
    for row in rows:
        if row.reason and row.outcome not in (Outcome.FINDINGS, Outcome.NO_FINDINGS):
            console.print(f"{row.name}, {row.pipeline or 'no pipeline'}: {row.reason}", style="yellow", markup=False)
    engine.dispose()
    return rows


def _show_archive(console: Console, pacs: Pacs) -> None:
    shown = Table(title="What the PACS holds", title_justify="left")
    for heading in ("Patient", "Study", "Modality", "Series", "Instances"):
        shown.add_column(heading, justify="right" if heading == "Instances" else "left", overflow="fold")
    for held in pacs.series():
        count = str(len(held.sop_instance_uids))
        shown.add_row(held.patient_name, held.study_description, held.modality, held.description, count)
    console.print(shown)


def _show_truth(console: Console, pacs: Pacs, truth: Truth) -> None:
    shown = Table(title="What the phantom contains, and what the SEG in the PACS shows there", title_justify="left")
    for heading in ("Lesion", "Centre (LPS mm)", "Volume", "Found as", "Volume found", "Distance"):
        shown.add_column(heading)
    found, others = compare(pacs, truth)
    for one in found:
        centre = ", ".join(f"{c:.0f}" for c in one.lesion.centre)
        match = (one.found.label, f"{one.found.volume_ml:.2f} ml", f"{one.distance_mm:.1f} mm") if one.found else ("-",)
        style = "green" if one.found else "yellow"
        shown.add_row(one.lesion.name, centre, f"{one.lesion.volume_ml:.2f} ml", *match, style=style)
    for other in others:
        centre = ", ".join(f"{c:.0f}" for c in other.centre)
        shown.add_row("(none there)", centre, "", other.label, f"{other.volume_ml:.2f} ml", style="yellow")
    console.print(shown)


def _stay(console: Console, node: subprocess.Popen[bytes]) -> None:
    console.print("PACS and node stay up; Ctrl-C ends them.")
    try:
        node.wait()
    except KeyboardInterrupt:
        console.print("ending")
