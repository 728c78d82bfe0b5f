"""A part of the fuzzing, always the same: PDU sequences, A-ASSOCIATE-RQs, command sets and data sets."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace

import pytest
from fuzz_receive import corpus, mutate_bytes, mutated, split, target, usage
from pydicom.dataset import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)
from pynetdicom.sop_class import StorageCommitmentPushModel
from receivers import encode

from node.errors import InputError
from node.receive.command import N_EVENT_REPORT_RQ, Command
from node.receive.dataset_identity import identity_of_file, read_identity
from node.receive.dataset_limits import DatasetLimits
from node.receive.negotiation import Context, Proposal, prepare
from node.receive.normalized import Normalized
from node.receive.policy import Admission

SYNTAXES = {
    "explicit": ExplicitVRLittleEndian,
    "implicit": ImplicitVRLittleEndian,
    "big": ExplicitVRBigEndian,
    "deflated": DeflatedExplicitVRLittleEndian,
}
SEQUENCES = corpus("pdu")
REQUESTS = [first for first, *_ in map(split, SEQUENCES) if first[:1] == b"\1"]
COMMANDS = [
    pdu[12 : 10 + int.from_bytes(pdu[6:10], "big")] for s in SEQUENCES for pdu in split(s) if pdu[11:12] == b"\3"
]


@pytest.mark.thorough
def test_hostile_sequences_find_no_fault_and_leave_nothing(tmp_path: Path):
    rng = random.Random(20)
    with target(tmp_path / "node") as node:
        for sequence in SEQUENCES:
            node.send(sequence)
        node.check()
        before = usage()
        for _ in range(1000):
            node.send(mutated(rng, SEQUENCES))
        node.check()
        after = usage()
    assert node.findings == {}
    assert after[0] - before[0] < 16.0
    assert after[1] <= before[1] + 8  # under load the ledger's pool opens connections, of three descriptors each


def test_a_mutated_request_is_negotiated_or_refused():
    prepare()
    rng, accepted = random.Random(21), 0
    for _ in range(2000):
        with suppress(ValueError):
            answer, _ = Proposal.parse(mutate_bytes(rng, rng.choice(REQUESTS))).accept()
            assert answer[:1] == b"\2"
            accepted += 1
    assert 300 < accepted < 1900


def test_a_mutated_command_set_is_understood_or_refused():
    rng, understood = random.Random(22), 0
    for _ in range(10_000):
        with suppress(ValueError):
            command = Command.parse(mutate_bytes(rng, rng.choice(COMMANDS)))
            understood += 1
            if command.has_message_id:
                assert Command.parse(command.response(0)).status == 0
    assert 1000 < understood < 9900


@pytest.mark.parametrize("kind", SYNTAXES)
def test_a_mutated_data_set_is_read_or_refused_and_the_quick_walk_agrees_with_pydicom(kind: str, tmp_path: Path):
    prepare()
    rng, syntax, read = random.Random(23), SYNTAXES[kind], 0
    path, stored = tmp_path / "mutated", corpus(kind)
    for _ in range(1000):
        data = mutate_bytes(rng, rng.choice(stored))
        path.write_bytes(data)
        with path.open("rb") as file, suppress(InputError):
            head = identity_of_file(file.fileno(), 0, len(data), syntax, DatasetLimits())
            read += 1
            assert head == read_identity(BytesIO(data), syntax)
    assert 20 < read < 1000


def _bomb() -> bytes:
    """20 MiB in 20 kB, a data set as it should be."""
    return encode(
        Dataset.from_json({"00420011": {"vr": "OB", "InlineBinary": "AAAA" * 7_000_000}}),
        DeflatedExplicitVRLittleEndian,
    )


@pytest.mark.parametrize("data", [lambda: b"\0\1\2\3\4\5\6", _bomb], ids=["damaged", "bomb"])
def test_a_deflated_data_set_of_an_operation_that_cannot_be_inflated_is_an_invalid_argument(
    data: Callable[[], bytes],
) -> None:
    sent: list[bytes] = []
    caller = SimpleNamespace(calling_ae="RAW", id="a", peer_address="127.0.0.1", admission=Admission())
    normalized = Normalized(caller, None, lambda *pdu: sent.append(pdu[1]))
    command = Command({0x0110: b"\1\0"}, field=N_EVENT_REPORT_RQ, has_data_set=True)
    normalized.serve(1, Context(StorageCommitmentPushModel, DeflatedExplicitVRLittleEndian), command, data())
    assert Command.parse(sent[0]).status == 0x0115
