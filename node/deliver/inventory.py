"""Queries for the instances at a destination of any kind, for proof of storage and for reconciliation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from node.config import Destination
from node.deliver import fhir, find, stow
from node.deliver.association import Peer, Timeouts
from node.deliver.query_audit import OnQuery

Held = Callable[[str, str], set[str]]
"""Returns the SOP Instance UIDs at a destination for StudyInstanceUID and SeriesInstanceUID."""


@contextmanager
def inventory(
    name: str, destination: Destination, calling_title: str, timeouts: Timeouts, on_query: OnQuery
) -> Iterator[Held]:
    """Query by C-FIND, QIDO-RS or a search (FHIR), reported to ``on_query``, or list the folder.

    Raises ``DeliveryError`` when that is not possible.
    """
    if destination.folder:
        yield lambda study, series: {f.stem for f in Path(destination.folder, study, series).glob("*.dcm")}
    elif destination.fhir:
        with fhir.fhir_service(name, destination, timeouts, on_query) as client:
            yield partial(fhir.held, client)
    elif destination.url:
        with stow.service(name, destination, timeouts, on_query) as client:
            yield partial(stow.held, client)
    else:
        peer = Peer.of(name, destination)
        with find.find_association(peer, calling_title, timeouts, on_query) as association:
            yield partial(find.held, association, peer)
