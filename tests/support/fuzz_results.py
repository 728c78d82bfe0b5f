"""Readers of results as fuzzing targets: reports and segmentations of an archive, and what a model hands over.

Each raises only what is a finding, as in ``fuzz_images.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from node.errors import InputError, NodeError
from node.inference import handover as handovers
from node.results.prior.masks import prior_masks
from node.results.prior.report import analysed_series, latest_report, read_prior, referenced_segmentation
from node.studies.header import read_header
from node.studies.identity import PRIOR, contradictions
from node.web.report_table import comments_in, findings_in

Reader = Callable[[bytes], None]


@contextmanager
def report(folder: Path) -> Iterator[Reader]:
    """An SR of an archive that says it is this node's, and the same as the dashboard shows it."""
    path = folder / "report.dcm"

    def read(data: bytes) -> None:
        path.write_bytes(data)
        with suppress(NodeError):
            dataset = read_header(path)
            latest_report([dataset], ["nodule", "tumor"])
            contradictions([dataset], PRIOR)
            analysed_series(dataset)
            referenced_segmentation(dataset)
            read_prior(dataset)
        for shown in (findings_in, comments_in):
            with suppress(InputError):
                shown(path)

    yield read


@contextmanager
def masks(folder: Path) -> Iterator[Reader]:
    """A SEG of an archive."""
    path = folder / "seg.dcm"

    def read(data: bytes) -> None:
        path.write_bytes(data)
        with suppress(InputError):
            prior_masks(path)

    yield read


@contextmanager
def handover(folder: Path) -> Iterator[Reader]:
    """The findings of a pipeline, which its process wrote."""
    path = folder / "findings.npz"

    def read(data: bytes) -> None:
        path.write_bytes(data)
        with suppress(InputError):
            handovers.load(folder, 1 << 16)

    yield read
