"""Queries for the instances at a destination of any kind, for proof of storage and for reconciliation."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from node.config import Destination
from node.deidentify.profile_of_destination import Profile
from node.deidentify.pseudonyms import Pseudonyms
from node.deliver import fhir, find, stow
from node.deliver.association import Peer, Timeouts
from node.deliver.deidentified import PseudonymousUids
from node.deliver.query_audit import OnQuery

Held = Callable[[str, str], Container[str]]
"""Returns the SOP Instance UIDs at a destination for StudyInstanceUID and SeriesInstanceUID."""


@contextmanager
def inventory(
    name: str,
    destination: Destination,
    calling_title: str,
    timeouts: Timeouts,
    on_query: OnQuery,
    *,
    profile: Profile | None = None,
) -> Iterator[Held]:
    """Query by C-FIND, QIDO-RS or a search (FHIR), reported to ``on_query``, or list the folder.

    ``profile``: by which the destination got its objects; the query is for their UIDs there, the caller names those of
    the node. Raises ``DeliveryError`` when that is not possible.
    """
    with _inventory(name, destination, calling_title, timeouts, on_query) as held:
        if profile is None:
            yield held
        else:
            uid = Pseudonyms(profile.key, profile.destination).uid
            yield lambda study, series: PseudonymousUids(held(uid(study), uid(series)), uid)


@contextmanager
def _inventory(
    name: str, destination: Destination, calling_title: str, timeouts: Timeouts, on_query: OnQuery
) -> Iterator[Held]:
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
