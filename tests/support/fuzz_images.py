"""Readers of images, network messages and rules as fuzzing targets.

Each takes bytes and raises only what is a finding. What a reader declares is none: the kinds of ``NodeError``,
``Unsuitable`` of a series, and what its caller in the node catches.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from node.config import parse
from node.errors import ConfigError, InputError, NodeError
from node.pipeline import Unsuitable
from node.receive.command import Command
from node.receive.dataset_identity import identity_of_beginning, identity_of_file, read_identity
from node.receive.dataset_limits import DatasetLimits
from node.receive.negotiation import Proposal, prepare
from node.routing.completeness import missing_parts, stated_count
from node.routing.instance_comparison import compare
from node.routing.missing_positions import unseen
from node.routing.region import region_of
from node.routing.rules import Origin, SeriesHeader, decide
from node.studies.element_bytes import top_elements
from node.studies.grid import describe
from node.studies.header import read_header
from node.studies.identity import contradictions
from node.studies.pydicom_errors import UNREADABLE
from node.studies.source import SourceSeries

Reader = Callable[[bytes], None]
RULES = """
[pipelines.p]
[destinations.a]
title = "A"
host = "h"
port = 1
[[rules]]
name = "r"
pipelines = ["p"]
destinations = ["a"]
[rules.match]
Modality = "CT"
ImageType = ["ORIGINAL", "*"]
SliceThickness = "0-3.0"
"RequestAttributesSequence.RequestedProcedureID" = "P*"
"""
DECODED_HERE = {
    ImplicitVRLittleEndian, ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, RLELossless,
}  # fmt: skip
"""Decoders of other syntaxes are compiled: they are confined (``test_image_bombs.py``), and no fuzzer of Python sees
into them."""
_TAGS = (0x00080005, 0x00080060, 0x00100010, 0x00100020, 0x0020000D, 0x0020000E)
_SYNTAXES = (
    ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian,
)  # fmt: skip


@contextmanager
def header(folder: Path) -> Iterator[Reader]:
    """What the router reads of one file."""
    rules, path = parse(RULES).rules, folder / "image.dcm"

    def read(data: bytes) -> None:
        path.write_bytes(data)
        with suppress(InputError):
            top_elements(path, _TAGS)
        with suppress(InputError):
            dataset = read_header(path)
            unseen([dataset], [(0.0, 0.0, 100.0)])
            region_of([dataset])
            contradictions([dataset, dataset])
            with suppress(*UNREADABLE):  # as the router: the series is ignored, with the reason
                decide(SeriesHeader.of([dataset]), rules, Origin())
                stated_count([dataset])
                describe([dataset])
                missing_parts([dataset])
            with suppress(InputError, *UNREADABLE):
                compare(dataset, read_header(path))

    yield read


@contextmanager
def frames(folder: Path) -> Iterator[Reader]:
    """A series of one file: frames, geometry, suitability, pixels without compression or with RLE."""
    path = folder / "image.dcm"

    def read(data: bytes) -> None:
        path.write_bytes(data)
        with suppress(NodeError, Unsuitable):
            series = SourceSeries.read([path])
            if str(series.datasets[0].file_meta.get("TransferSyntaxUID")) in DECODED_HERE:
                assert series.levels is not None
                series.volume()

    yield read


@contextmanager
def config(folder: Path) -> Iterator[Reader]:
    """``config.toml``, and a decision by its rules."""
    assert folder.is_dir()
    dataset = read_header(Path(__file__).with_name("corpus") / "header" / "ct.dcm")

    def read(data: bytes) -> None:
        with suppress(ConfigError):
            rules = parse(data.decode("utf-8", "replace")).rules
            decide(SeriesHeader.of([dataset]), rules, Origin())

    yield read


@contextmanager
def walk(folder: Path) -> Iterator[Reader]:
    """The receiver's walk over a data set; the first byte chooses its encoding."""
    path, limits = folder / "data-set", DatasetLimits()

    def read(data: bytes) -> None:
        if not data:
            return
        syntax, encoded = _SYNTAXES[data[0] % len(_SYNTAXES)], data[1:]
        path.write_bytes(encoded)
        identity_of_beginning(encoded[:4096], syntax)
        with path.open("rb") as file, suppress(InputError):
            identity = identity_of_file(file.fileno(), 0, len(encoded), syntax, limits)
            assert identity == read_identity(io.BytesIO(encoded), syntax, limits)

    yield read


@contextmanager
def pdu(folder: Path) -> Iterator[Reader]:
    """An A-ASSOCIATE-RQ, or a command set behind a first byte of 4."""
    assert folder.is_dir()
    prepare()

    def read(data: bytes) -> None:
        with suppress(ValueError):
            if data[:1] == b"\4":
                command = Command.parse(data[1:])
                if command.has_message_id:
                    command.response(0)
            else:
                Proposal.parse(data).accept()

    yield read
