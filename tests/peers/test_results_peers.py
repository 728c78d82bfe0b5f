"""Real archives take every kind of object that their profile asks for, and keep it as it was made."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import delivery_jobs as jobs
import pytest
import real_peers
from analyses import OUTCOMES, analysis, source_of
from dicom_files import ct_series
from every_object import EVERY, everything, notes
from pydicom import dcmread

from node.results.encode import encode

Start = Callable[..., AbstractContextManager[Any]]


@pytest.mark.parametrize(
    ("start", "options", "refused"),
    [
        (real_peers.orthanc, (), set()),
        (real_peers.storescp, ("+xa",), {"labelmap", "sr on labelmap"}),  # dcmtk 3.6.7 does not know Label Maps
    ],
    ids=["Orthanc", "storescp"],
)
def test_a_real_archive_takes_every_kind_of_object_as_it_was_made(
    tmp_path: Path, start: Start, options: tuple[str, ...], refused: set[str]
) -> None:
    source = source_of(tmp_path / "series", ct_series(4, 48))
    objects = list(encode(analysis(everything(source)), source, set(EVERY) - refused))
    for values in OUTCOMES.values():
        objects += encode(analysis(**values), source, ["sr", "pdf"])
    kept = [tmp_path / f"{number}.dcm" for number in range(len(objects))]
    for path, made in zip(kept, objects, strict=True):
        path.write_bytes(made.data)
    objects += [note for _, note in notes(kept)]
    with start(tmp_path, *options) as peer:
        job = jobs.FinishedJob(tmp_path / "node", [o.dataset for o in objects], {"pacs": jobs.destination(peer)})
        job.deliver()
        assert peer.instances() == sorted(job.uids)
        assert {status for status, _ in job.answers().values()} == {0}
        if isinstance(peer, real_peers.Orthanc):
            stored = {uid: peer.download(uid) for uid in job.uids}
        else:
            stored = {str((d := dcmread(path)).SOPInstanceUID): d for path in peer.files()}
        for encoded in objects:
            sent = encoded.dataset
            assert stored[sent.SOPInstanceUID] == sent, encoded.kind
            assert stored[sent.SOPInstanceUID].file_meta.TransferSyntaxUID == sent.file_meta.TransferSyntaxUID
