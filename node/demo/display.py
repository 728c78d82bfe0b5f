"""What the demonstration shows: the work as it happens, what the PACS holds, the truth of the phantoms, pictures."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.table import Table
from sqlalchemy import Engine

from node.demo import scanner
from node.demo.gallery import compare, draw_all
from node.demo.images import Truth
from node.demo.pacs import TITLE, OrthancPacs, Pacs
from node.demo.phantom import write_brain_flair, write_chest_ct
from node.demo.progress import ProgressRow, progress, sent_series, table
from node.outcome import Outcome

WIDTH = 132
"""Of tables that go to a file or a pipe."""


def new_console() -> Console:
    """Return the screen, or what looks like it."""
    console = Console()
    return console if console.is_terminal else Console(width=WIDTH)


def describe(pacs: Pacs) -> str:
    """Return what and where the PACS is."""
    kind = "Orthanc" if isinstance(pacs, OrthancPacs) else "built-in (install orthanc for one with pages)"
    return f"{TITLE} at {pacs.host}:{pacs.port}, {kind} {pacs.web_url}".rstrip()


def phantoms(folder: Path, console: Console) -> list[Truth]:
    """Write the two synthetic patients, and return what is in them."""
    with console.status("making a chest CT and a brain MR phantom"):
        truths = [write_chest_ct(folder / "ct"), write_brain_flair(folder / "mr")]
    console.print(f"[bold]Phantoms[/] synthetic chest CT and brain FLAIR in {folder}")
    return truths


def follow(
    console: Console, watch: Callable[[], None], files: Sequence[scanner.DicomFile], engine: Engine
) -> tuple[ProgressRow, ...]:
    """Show each stage as it happens until every series is dealt with.

    ``watch``: raises ``PlatformError`` when somebody has ended without whom that does not come about.
    """
    sent = sent_series(files)
    shown: set[tuple[str, ...]] = set()
    rows: tuple[ProgressRow, ...] = ()
    with Live(table(rows), console=console, auto_refresh=False) if console.is_terminal else nullcontext() as live:
        while not rows or not all(row.over for row in rows):
            watch()
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
    comparisons, others = compare(pacs, truth)
    for comparison in comparisons:
        centre = ", ".join(f"{c:.0f}" for c in comparison.lesion.centre)
        match = (
            (comparison.found.label, f"{comparison.found.volume_ml:.2f} ml", f"{comparison.distance_mm:.1f} mm")
            if comparison.found
            else ("-",)
        )
        style = "green" if comparison.found else "yellow"
        shown.add_row(comparison.lesion.name, centre, f"{comparison.lesion.volume_ml:.2f} ml", *match, style=style)
    for other in others:
        centre = ", ".join(f"{c:.0f}" for c in other.centre)
        shown.add_row("(none there)", centre, "", other.label, f"{other.volume_ml:.2f} ml", style="yellow")
    console.print(shown)


def show_results(console: Console, pacs: Pacs, truths: Sequence[Truth], pictures: Path, *, keep: bool) -> None:
    """Show what the PACS holds, what is true of it, and where the pictures are that are drawn of it."""
    _show_archive(console, pacs)
    for truth in truths:
        _show_truth(console, pacs, truth)
    with console.status("drawing pictures"):
        drawn = draw_all(pacs, pictures)
    for path in drawn:
        console.print(f"[bold]Picture[/]  {path}")
    if pacs.web_url:
        console.print(f"[bold]PACS[/]     {pacs.web_url}/app/explorer.html" + ("" if keep else "  (with --keep)"))
