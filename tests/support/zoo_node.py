"""Public test files sent through a whole node, as a scanner would: a table for docs/development/validation.md.

``AINODE_DATA=... python tests/support/zoo_node.py`` takes some minutes. Bytes go out as they are; only of files that
are the same instance in other transfer syntaxes the last three digits of the UIDs are changed, so that each is a
series.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import real_peers
import sqlalchemy as sa
import zoo
from pydicom import dcmread
from pydicom.errors import InvalidDicomError
from pydicom.uid import DeflatedExplicitVRLittleEndian
from pynetdicom import AE, _config
from whole_node import WholeNode

from node.ledger.engine import ledger_url, open_ledger
from node.ledger.tables import decision, job, result
from node.pipeline import Findings, Needs, Series
from node.reasons import reason_text

_config.STORE_SEND_CHUNKED_DATASET = True  # the bytes of the file, not what pydicom makes of them
_SAME = ("cornerstone3d__CTImage", "dicom-test-files__pydicom__rtdose")
"""Files that are an instance which another file is, too."""
_PIPELINE = """
[pipelines.upper]
factory = "zoo_node:create"
[[rules]]
name = "everything"
pipelines = ["upper"]
destinations = ["pacs"]
"""


class Upper:
    """What ``tests/support/zoo.py`` makes of a file in one process, as a pipeline that takes everything."""

    algorithm = zoo.ALGORITHM
    needs = Needs(modalities=frozenset({"CT", "MR", "NM", "OT", "SC", "US", "SEG", "RTDOSE", "SR"}), regular_grid=False)

    def run(self, series: Series) -> Findings:
        return zoo.found_in(series.volume("HPL"), series.modality)


def create(*, weights: Path | None, device: str, options: Mapping[str, Any]) -> Upper:
    return Upper()


def _send(node: WholeNode, number: int, path: Path, folder: Path) -> tuple[str, str]:
    """C-STORE of one file; the answer, and the Series Instance UID under which it went."""
    try:
        header = dcmread(path, stop_before_pixels=True)
        uids = [str(header[keyword].value) for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")]
        syntax = header.file_meta.TransferSyntaxUID
    except (InvalidDicomError, AttributeError, KeyError, EOFError, OSError):
        return "not sent: no whole Part 10 file of an instance", ""
    data = path.read_bytes()
    if path.name.startswith(_SAME) and syntax != DeflatedExplicitVRLittleEndian:
        changed = [uid[:-3] + str(100 + number) for uid in uids]
        for old, new in zip(uids, changed, strict=True):
            data = data.replace(old.encode(), new.encode())
        uids = changed
    copy = folder / path.name
    copy.write_bytes(data)
    ae = AE("ZOO")
    ae.add_requested_context(header.SOPClassUID, syntax)
    association = ae.associate("127.0.0.1", node.port, ae_title="AINODE")
    if not association.accepted_contexts:
        association.abort()
        return "presentation context refused", ""
    answer = association.send_c_store(copy)
    association.release()
    return f"{int(answer.Status):04X}", uids[1]


def _became(engine: sa.Engine, uid: str) -> str:
    """What became of a series: its outcome, the reason, and the kinds of objects that were delivered."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        with engine.connect() as connection:
            row = connection.execute(
                sa.select(job).where(job.c.series_instance_uid == uid, job.c.pipeline == "upper")
            ).one_or_none()
            ignored = connection.scalar(sa.select(decision.c.reason).where(*_ignored(uid)))
            if ignored is not None:
                return f"ignored | {ignored} |"
            if row is not None and row.state in ("COMPLETED", "CANCELED"):
                kinds = connection.scalars(sa.select(result.c.kind).where(result.c.job_id == row.id)).all()
                reason = " ".join(reason_text(row.reason).split())
                return f"{row.outcome} | {reason} | {', '.join(sorted(set(kinds)))}"
        time.sleep(0.5)
    return "nothing within five minutes | |"


def _ignored(uid: str) -> tuple[sa.ColumnElement[bool], sa.ColumnElement[bool]]:
    return decision.c.series_instance_uid == uid, decision.c.outcome == "ignored"


def table(folder: Path) -> str:
    """Markdown: file, answer to C-STORE, outcome, reason, objects."""
    lines = ["| file | C-STORE | outcome | reason | delivered |", "|---|---|---|---|---|"]
    with real_peers.storescp(folder, "+xa") as peer:
        node = WholeNode(folder / "node", peer.port, title=peer.aet, extra=_PIPELINE)
        config = node.config.read_text()
        node.config.write_text(config.replace('Modality = ["CT", "MR"]', 'Modality = "none"'))  # the rule of its own
        try:
            node.start()
            sent = {path: _send(node, number, path, folder) for number, path in enumerate(zoo.files())}
            engine = open_ledger(ledger_url("", node.folder))
            for path, (answer, uid) in sent.items():
                lines.append(f"| {path.name} | {answer} | {_became(engine, uid) if uid else '| |'} |")
            engine.dispose()
        finally:
            node.kill()
    return "\n".join(lines)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        sys.stdout.write(table(Path(name)) + "\n")
