"""What a destination holds, whatever its kind: for proof after storing, and to reconcile."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from node.config import Destination
from node.deliver import find, stow
from node.deliver.association import Peer, Timeouts
from node.deliver.query_audit import QueryRecorder

Held = Callable[[str, str], set[str]]
"""SOP Instance UIDs that a destination holds, by StudyInstanceUID and SeriesInstanceUID."""


@contextmanager
def inventory(
    name: str, destination: Destination, calling_title: str, timeouts: Timeouts, record_query: QueryRecorder
) -> Iterator[Held]:
    """Ask by C-FIND or QIDO-RS, of which ``record_query`` hears, or look into the folder.

    Raises ``DeliveryError`` when that is not possible.
    """
    if destination.folder:
        yield lambda study, series: {f.stem for f in Path(destination.folder, study, series).glob("*.dcm")}
    elif destination.url:
        with stow.service(name, destination, timeouts, record_query) as client:
            yield partial(stow.held, client)
    else:
        peer = Peer.of(name, destination)
        with find.finding(peer, calling_title, timeouts, record_query) as association:
            yield partial(find.held, association, peer)
