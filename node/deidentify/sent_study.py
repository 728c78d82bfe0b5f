"""What of a study was sent to a destination under pseudonyms, as its results name it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from pathlib import Path

from sqlalchemy import Engine

from node.confined import ConfinedProcess
from node.errors import NodeError
from node.ledger.instances import series_files
from node.ledger.returned_results import SentSeries
from node.spool import Spool
from node.studies.header import read_header


def frames_of_reference(
    engine: Engine, spool: Spool, sent: Sequence[SentSeries], pseudonym: Callable[[str], str]
) -> dict[str, str]:
    """Return the frame of reference of each series that was sent, as pseudonyms; empty where it is not known.

    Of a single series it is not looked at: what comes back can be about no other one.
    """
    if len(sent) < 2:
        return {pseudonym(series.series_instance_uid): "" for series in sent}
    known = {}
    with closing(ConfinedProcess("header reader", readable=spool.data_folders, decodes=False)) as process:
        for item in sent:
            with engine.connect() as connection:
                paths = series_files(connection, item.study_instance_uid, item.series_instance_uid)
            known[item.series_instance_uid] = ""
            with suppress(NodeError):  # purged, or damaged
                for path in spool.all_readable([*paths.values()][:1]):
                    known[item.series_instance_uid] = process.call(path.name, frame_of_reference, path)
    return {pseudonym(series): pseudonym(frame) for series, frame in known.items()}


def frame_of_reference(path: Path) -> str:
    """Return the Frame of Reference UID of an image, for a confined process."""
    return str(read_header(path).get("FrameOfReferenceUID") or "")
