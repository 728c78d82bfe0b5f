"""``ainode bench``: measurements on this machine, compared with other programs."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import click

from node.cli.options import echo, json_option, print_json
from node.errors import ConfigError

_OVERHEAD_SLICE_MM = 1.0
"""Of a synthetic chest, which then has 300 images."""


@click.group()
def bench() -> None:
    """Measure this node and other programs on this machine."""


@bench.command()
@json_option
@click.option("--quick", is_flag=True, help="CT and the scripted sender only, 1 and 16 associations, 2 rounds.")
@click.option("--markdown", is_flag=True, help="Print the table of docs/development/benchmarks.md.")
@click.option("--peers", help="Receivers to compare, comma-separated. Default: all that are installed.")
@click.option("--kind", type=click.Choice(("CT", "MR")), multiple=True, default=("CT", "MR"), help="Images to send.")
@click.option(
    "--sender",
    type=click.Choice(("scripted", "dcmsend")),
    multiple=True,
    default=("scripted", "dcmsend"),
    help="Program that sends.",
)
@click.option(
    "--associations",
    type=click.IntRange(1, 200),
    multiple=True,
    default=(1, 4, 16, 64),
    show_default=True,
    help="Parallel associations. dcmsend: at most 16.",
)
@click.option("--rounds", type=click.IntRange(1), default=4, show_default=True, help="Runs of each receiver.")
@click.option(
    "--folder",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    default=Path(),
    help="Folder for received files, deleted afterwards; its disk is measured. Default: the current folder.",
)
def receive(
    *,
    as_json: bool,
    quick: bool,
    markdown: bool,
    peers: str | None,
    kind: tuple[str, ...],
    sender: tuple[str, ...],
    associations: tuple[int, ...],
    rounds: int,
    folder: Path,
) -> None:
    """Measure receiving, compared with other programs.

    The receivers are this node (plain and TLS), dcmtk storescp, Orthanc and a pynetdicom handler.

    --kind, --sender and --associations may be given several times; the default is all of them.
    """
    from rich.console import Console
    from rich.progress import Progress

    from node.bench import aims, report
    from node.bench.receive import Plan, available, cells, run, servers_of
    from node.bench.servers import SERVERS

    wanted = tuple(peers.split(",")) if peers else tuple(SERVERS)
    if unknown := [name for name in wanted if name not in SERVERS]:
        raise ConfigError(f"--peers {unknown[0]!r}: no such receiver; choose from {', '.join(SERVERS)}")
    servers, skipped = available(wanted)
    plan = Plan(servers=servers, kinds=kind, senders=sender, associations=associations, rounds=rounds, folder=folder)
    if quick:
        plan = replace(plan, kinds=("CT",), associations=(1, 16), senders=("scripted",), rounds=2)
    machine = report.machine(folder)
    runs = []
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=sum(len(servers_of(plan, cell)) for cell in cells(plan)) * plan.rounds)
        for done in run(plan):
            runs.append(done)
            cell = done.cell
            text = f"{cell.kind} {cell.sender} x {cell.associations}: {SERVERS[done.server].title}"
            bar.update(task, advance=1, description=text)
    if as_json:
        print_json(report.as_json(runs, machine, skipped))
        return
    if markdown:
        echo(f"{report.markdown(report.lines(runs), machine)}\n\n{aims.markdown(report.lines(runs))}\n")
    else:
        Console(width=max(Console().width, 120)).print(report.table(report.lines(runs)))
        echo(", ".join(machine.values()))
    for server in servers:
        echo(f"{SERVERS[server].title}: written to disk before Success: {SERVERS[server].durable}")
    for name, what in skipped.items():
        echo(f"{SERVERS[name].title} was skipped: {what} is not installed")


@bench.command()
@json_option
@click.option("--markdown", is_flag=True, help="Print a Markdown page.")
@click.option("--device", default="auto", show_default=True, help="cpu, cuda:0, ...; auto: the first GPU, or the CPU.")
@click.option("--threads", default=2, show_default=True, help="Processor cores to use.")
@click.option("--rounds", default=2, show_default=True, help="Runs after the first one, which loads the model.")
@click.option("--pipeline", "pipelines", multiple=True, default=("nodule", "tumor", "denoise"), show_default=True)
@click.argument("folder", required=False, type=click.Path(path_type=Path, exists=True, file_okay=False))
def infer(
    *,
    as_json: bool,
    markdown: bool,
    device: str,
    threads: int,
    rounds: int,
    pipelines: tuple[str, ...],
    folder: Path | None,
) -> None:
    """Measure inference, from files to findings.

    The figures are seconds and peak memory, on FOLDER or on synthetic series.
    """
    import tempfile

    from rich.console import Console

    from node.bench import infer as timing
    from node.bench.report import machine
    from node.config import Devices
    from node.demo.phantom import write_brain_flair, write_chest_ct
    from node.inference.devices import device_names

    device = device_names(Devices())[0] if device == "auto" else device
    about = machine(Path())
    with tempfile.TemporaryDirectory() as temporary:
        if folder is None:
            write_chest_ct(Path(temporary) / "chest")
            write_brain_flair(Path(temporary) / "brain")
        lines = list(
            timing.measure(pipelines, folder or Path(temporary), device=device, threads=threads, rounds=rounds)
        )
    if as_json:
        print_json({"machine": about, "lines": [asdict(line) for line in lines]})
    elif markdown:
        echo(timing.markdown(lines, device, about), nl=False)
    else:
        Console(width=max(Console().width, 120)).print(timing.table(lines))
        echo(", ".join(about.values()))


@bench.command()
@json_option
@click.option("--markdown", is_flag=True, help="Print the table of docs/development/benchmarks.md.")
@click.option("--network-seconds", type=click.FloatRange(0), default=0.2, show_default=True, help="Time of a network.")
@click.option("--studies", type=click.IntRange(1), default=20, show_default=True, help="Studies that wait.")
@click.option("--threads", default=2, show_default=True, help="Processor cores to use.")
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True, help="Runs of each stage.")
@click.option(
    "--folder",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    default=Path(),
    help="Folder for 400 MB of temporary images. Default: the current folder.",
)
def overhead(
    *,
    as_json: bool,
    markdown: bool,
    network_seconds: float,
    studies: int,
    threads: int,
    rounds: int,
    folder: Path,
) -> None:
    """Measure what the node adds to the time of a network.

    The pipeline only sleeps. The figures are computing time and seconds of each
    stage for a CT of 300 images, uncompressed and as JPEG 2000, and how busy
    the device is while studies wait.
    """
    import tempfile

    from rich.console import Console

    from node.bench import overhead as bench_overhead
    from node.bench import report
    from node.demo.phantom import write_chest_ct

    about = report.machine(folder)
    plan = bench_overhead.Plan(
        network_seconds=network_seconds, studies=studies, jobs=(1, 4), rounds=rounds, threads=threads
    )
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        images = write_chest_ct(Path(temporary), slice_mm=_OVERHEAD_SLICE_MM).paths
        lines = list(bench_overhead.measure(plan, images, folder))
    if as_json:
        print_json({"machine": about, "lines": [asdict(line) for line in lines]})
    elif markdown:
        echo(bench_overhead.markdown(lines, about))
    else:
        Console(width=max(Console().width, 120)).print(bench_overhead.table(lines))
        echo(", ".join(about.values()))


@bench.command()
@json_option
@click.option("--markdown", is_flag=True, help="Print the table of docs/development/benchmarks.md.")
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True, help="Runs of each measurement.")
@click.option(
    "--folder",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    default=Path(),
    help="Folder for 400 MB of temporary images and labels. Default: the current folder.",
)
def encode(*, as_json: bool, markdown: bool, rounds: int, folder: Path) -> None:
    """Measure encoding of 300 x 512 x 512 voxels.

    SEG is compared with highdicom and dcmqi; SR, key images and PDF are measured as well.
    """
    from rich.console import Console
    from rich.progress import Progress

    from node.bench import encode as bench_encode
    from node.bench import report

    machine = report.machine(folder)
    here = bench_encode.tools_here()
    runs = []
    with Progress(console=Console(stderr=True), transient=True) as bar:
        total = rounds * sum(tool in here for cell in bench_encode.CELLS for tool in cell.tools)
        task = bar.add_task("images and labels", total=total)
        for done in bench_encode.run(folder, rounds):
            runs.append(done)
            bar.update(task, advance=1, description=f"{done.cell.title}: {bench_encode.TITLES[done.tool]}")
    if as_json:
        print_json({"machine": machine, "runs": [asdict(run) for run in runs]})
    elif markdown:
        echo(bench_encode.markdown(runs, machine))
    else:
        Console(width=max(Console().width, 120)).print(bench_encode.table(runs))
        echo(", ".join(machine.values()))
    for tool in bench_encode.TITLES.keys() - set(here):
        echo(f"{bench_encode.TITLES[tool]} was skipped: it is not installed (pip install dcmqi)", err=True)


VERBS = (bench,)
