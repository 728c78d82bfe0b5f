"""Bombs that are in the spool already: encoding them is limited, costs the worker no memory, and delays nobody."""

from __future__ import annotations

import resource
import time
from io import BytesIO
from pathlib import Path

import pytest
import sqlalchemy as sa
from bombs import deflated, header, item, private, sequence
from dicom_files import ct_series
from job_node import JobNode, config_of
from pydicom import dcmread
from pydicom.uid import CTImageStorage, DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

from node.config import Config
from node.ledger.engine import begin_immediate
from node.ledger.tables import instance
from node.reasons import reason_text
from node.receive.part10 import file_header

pytestmark = pytest.mark.rotating

LIMIT_SECONDS = 25.0
"""Of a run and of an encoding."""
INFLATED = 1536 << 20
"""Bytes of the header of the deflated bomb."""


def _place(node: JobNode, kind: str) -> tuple[str, str]:
    """Store and record a bomb as a receiver without bounds would: one image with UIDs, patient and endless header."""
    beginning = header(ExplicitVRLittleEndian)
    syntax, data = ExplicitVRLittleEndian, beginning + sequence(item() * 8_000_000, undefined=True)
    if kind == "deflated":
        syntax, data = DeflatedExplicitVRLittleEndian, deflated(beginning + private(INFLATED), INFLATED)
    names = {"sop_class_uid": CTImageStorage, "sop_instance_uid": "1.2.3", "sender": "CT1", "receiver": "AINODE"}
    content = file_header(transfer_syntax_uid=syntax, **names) + data
    plain = dcmread(BytesIO(file_header(transfer_syntax_uid=ExplicitVRLittleEndian, **names) + beginning))
    study, series = str(plain.StudyInstanceUID), str(plain.SeriesInstanceUID)
    kept = node.spool.keep(study, series, "1.2.3", [content])
    row = {
        "sop_instance_uid": "1.2.3",
        "sop_class_uid": CTImageStorage,
        "transfer_syntax_uid": syntax,
        "study_instance_uid": study,
        "series_instance_uid": series,
        "modality": "CT",
        "path": kept.path,
        "digest": kept.digest,
        "size": kept.size,
        "received_at": time.time(),
    }
    with begin_immediate(node.engine) as connection:
        connection.execute(sa.insert(instance), [row])
    return study, series


def _limited(folder: Path) -> Config:
    base = config_of(folder, does="findings")
    limits = {"run_timeout_seconds": LIMIT_SECONDS, "encode_timeout_seconds": LIMIT_SECONDS}
    return base.model_copy(update={"jobs": base.jobs.model_copy(update=limits)})


@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", ["deflated", "items"])
def test_a_bomb_costs_its_own_job_only_and_its_reason_is_shown(tmp_path: Path, kind: str) -> None:
    node = JobNode(_limited(tmp_path))
    study, series = _place(node, kind)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with node.working():
        bomb = node.enqueue_for(study, series, destinations=("pacs",), pipeline="scripted")
        honest = [node.enqueue(ct_series(n=3, size=16)) for _ in range(3)]
        for job_id in honest:
            assert node.wait(job_id, seconds=800).outcome == "findings"
        ended = node.wait(bomb, seconds=800)
        assert ended.state == "COMPLETED"
        assert ended.outcome in ("failed", "not applicable"), "it may be read within the limits"
        [report] = node.results(bomb)
        assert f"Outcome: {ended.outcome}".encode() in node.spool.absolute(report.path).read_bytes()
        assert reason_text(ended.reason) in str(node.events(bomb))
        assert sum(node.delivered().values()) == 2 * len(honest) + 1
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10 < 300
