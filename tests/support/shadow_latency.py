"""What candidates in shadow cost the champion: turnaround of its analyses with and without, in one run.

``python tests/support/shadow_latency.py --pairs 4 --studies 4`` sends studies to one whole node, one as soon as the
results of the one before have arrived. Blocks alternate: in one the rule tries candidates, with the champion's own
model, on every study; in the other it does not. A study of a block with candidates thus meets the analyses in shadow of
those before it. What they have not done at the end of a block is cancelled. Prints the turnaround (last image received
to last result stored) of each study, its median for both kinds, and the ratio of each pair of blocks; and the processor
time of everything but the candidates' processes while a study is received and answered, which other programs of the
machine disturb less.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import psutil
import pydicom
import real_peers
import sqlalchemy as sa
from pydicom.uid import generate_uid
from whole_node import WholeNode

from node.demo.phantom import write_chest_ct
from node.errors import NodeError
from node.jobs.engine import Jobs
from node.ledger.engine import ledger_url, open_ledger
from node.ledger.states import ACTIVE, ShadowCause
from node.ledger.tables import job
from node.ledger.turnaround import arrived_since

_LIMIT_SECONDS = 600.0
_CONFIGURATION = """
[ae]
address = "127.0.0.1"
port = {port}
[storage]
folder = "{folder}"
min_free_gib = 0.0
[series]
quiet_seconds = 1.0
[devices]
use = ["cpu"]
cpu_threads = {threads}
[pipelines.nodule]
factory = "pipelines.nodule:create"
{tables}
[destinations.pacs]
title = "STORESCP"
host = "127.0.0.1"
port = {pacs}
[[rules]]
name = "with a candidate"
pipelines = ["nodule"]
shadow = {candidates}
destinations = ["pacs"]
match = {{ StudyDescription = "with" }}
[[rules]]
name = "without"
pipelines = ["nodule"]
destinations = ["pacs"]
match = {{ StudyDescription = "without" }}
"""
"""One node for both kinds of blocks: the description of the study says whether its rule has a candidate."""


class _Measured(NamedTuple):
    """Of one study."""

    turnaround: float
    """Seconds."""
    computed: float
    """Seconds of processor time."""


class _Bench:
    def __init__(self, folder: Path, node: WholeNode, images: list[pydicom.Dataset]) -> None:
        self._folder = folder
        self._node = node
        self._images = images
        self._engine = open_ledger(ledger_url("", node.folder))
        self._jobs = Jobs(self._engine)

    def block(self, kind: str, studies: int) -> list[_Measured]:
        """Of each of as many studies; what candidates still have to do is cancelled at the end."""
        measured = [self._measured(kind) for _ in range(studies)]
        for job_id in self._in_shadow():
            with suppress(NodeError):  # it has ended meanwhile
                self._jobs.cancel(job_id)
        self._until(lambda: not self._in_shadow())
        return measured

    def _measured(self, kind: str) -> _Measured:
        before = self._computed()
        study = self._send(kind)
        seconds: list[float] = []

        def arrived() -> bool:
            with self._engine.connect() as connection:
                seconds.extend(
                    arrival.seconds for arrival in arrived_since(connection, 0.0) if arrival.study_instance_uid == study
                )
            return bool(seconds)

        self._until(arrived)
        return _Measured(seconds[0], self._computed() - before)

    def _computed(self) -> float:
        """Processor time (s) until now of the processes of the node that have its priority."""
        processes = psutil.Process().children(recursive=True)
        seconds = 0.0
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                if process.nice() == psutil.Process().nice():
                    seconds += sum(process.cpu_times()[:2])
        return seconds

    def _in_shadow(self) -> list[str]:
        """Jobs in shadow that have not ended."""
        query = sa.select(job.c.id).where(job.c.shadow == ShadowCause.TRIAL, job.c.state.in_(ACTIVE))
        with self._engine.connect() as connection:
            return list(connection.scalars(query))

    def _send(self, kind: str) -> str:
        study, series = generate_uid(), generate_uid()
        folder = self._folder / study
        folder.mkdir()
        for number, image in enumerate(self._images):
            image.StudyInstanceUID, image.SeriesInstanceUID = study, series
            image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = generate_uid()
            image.StudyDescription = kind
            image.save_as(folder / f"{number}.dcm", enforce_file_format=True)
        real_peers.dcmtk("storescu", "-aec", "AINODE", "+sd", "127.0.0.1", self._node.port, folder)
        return study

    def _until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _LIMIT_SECONDS
        while not condition():
            assert time.monotonic() < deadline, self._node.log()
            time.sleep(0.1)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=3600.0, help="begin no other pair after this time")
    parser.add_argument("--studies", type=int, default=4, help="in each block")
    parser.add_argument("--candidates", type=int, default=2)
    parser.add_argument("--matrix", type=int, default=256, help="rows and columns of the synthetic chest")
    parser.add_argument("--threads", type=int, default=0, help="of each pipeline; 0: as many as there are cores")
    parser.add_argument("--slice-mm", type=float, default=5.0)
    chosen = parser.parse_args()
    candidates = [f"candidate-{number}" for number in range(1, chosen.candidates + 1)]
    with tempfile.TemporaryDirectory() as name, real_peers.storescp(Path(name) / "pacs") as pacs:
        folder = Path(name)
        truth = write_chest_ct(folder / "phantom", matrix=chosen.matrix, slice_mm=chosen.slice_mm)
        node = WholeNode(folder / "node", pacs.port)
        tables = "".join(f'[pipelines.{candidate}]\nfactory = "pipelines.nodule:create"\n' for candidate in candidates)
        node.config.write_text(
            _CONFIGURATION.format(
                port=node.port,
                folder=node.folder,
                pacs=pacs.port,
                threads=chosen.threads,
                tables=tables,
                candidates=json.dumps(candidates),
            )
        )
        try:
            node.start()
            bench = _Bench(folder, node, [pydicom.dcmread(path) for path in truth.paths])
            bench.block("with", 2)  # every model is loaded
            _compare(bench, chosen.pairs, chosen.studies, time.monotonic() + chosen.seconds)
        finally:
            node.kill()


def _compare(bench: _Bench, pairs: int, studies: int, until: float) -> None:
    """Run pairs of blocks, each pair in the other order, and print lines for each and the medians."""
    every: dict[str, list[_Measured]] = {"without": [], "with": []}
    ratios: list[_Measured] = []
    for number in range(pairs):
        if ratios and time.monotonic() > until:
            break
        pair = {kind: bench.block(kind, studies) for kind in sorted(every, reverse=number % 2 == 0)}
        ratios.append(_ratio(pair))
        for kind, of in sorted(pair.items()):
            every[kind] += of
            shown = ", ".join(f"{measured.turnaround:.2f} ({measured.computed:.2f})" for measured in of)
            print(f"pair {number + 1}, {kind}: {shown} s", flush=True)  # noqa: T201
        print(f"pair {number + 1}: ratio {ratios[-1].turnaround:.3f} ({ratios[-1].computed:.3f})", flush=True)  # noqa: T201
    for kind, of in sorted(every.items()):
        print(f"{kind}: median {_median(of).turnaround:.2f} s ({_median(of).computed:.2f} s)")  # noqa: T201
    for what, of_what in (("medians", _ratio(every)), ("median of the pairs", _median(ratios))):
        print(f"ratio, {what}: {of_what.turnaround:.3f} ({of_what.computed:.3f})")  # noqa: T201


def _ratio(of: dict[str, list[_Measured]]) -> _Measured:
    loaded, other = _median(of["with"]), _median(of["without"])
    return _Measured(loaded.turnaround / other.turnaround, loaded.computed / other.computed)


def _median(of: list[_Measured]) -> _Measured:
    return _Measured(*(statistics.median(values) for values in zip(*of, strict=True)))


if __name__ == "__main__":
    main()
