"""Queries of a Modality Worklist: C-FIND, Modality Worklist Information Model (PS3.4 K)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from pydicom import Dataset
from pynetdicom import build_context
from pynetdicom.association import Association
from pynetdicom.sop_class import ModalityWorklistInformationFind

from node.config import Worklist
from node.deliver.association import Peer, Timeouts, associate
from node.deliver.query_audit import OnQuery
from node.errors import DeliveryError

MOST_ENTRIES = 200
"""Of one search: of a study, or of a patient on a day, there are a handful."""
TIMEOUTS = Timeouts(connect_seconds=5.0, answer_seconds=10.0)
_MESSAGE = 1
"""Message ID of every search; one is under way at a time."""
_SEARCH_SECONDS = 20.0
"""Of one search. A worklist that answers entry by entry must not keep other studies waiting."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the worklist answered to one search."""

    entries: tuple[Dataset, ...] = ()
    is_whole: bool = True
    """``False``: there are more than ``MOST_ENTRIES``."""
    refusal: str = ""
    """Why it refuses this search; others may be answered."""


@contextmanager
def worklist_association(worklist: Worklist, calling_title: str, on_query: OnQuery) -> Iterator[Association]:
    """Open an association for queries; ``on_query`` is called for each. Raises ``DeliveryError``."""
    contexts = [build_context(ModalityWorklistInformationFind)]
    with associate(Peer.of_worklist(worklist), calling_title, contexts, TIMEOUTS, on_query=on_query) as association:
        yield association


def search(association: Association, peer: Peer, wanted: Dataset) -> Answer:
    """Return the entries that match. Raises ``DeliveryError`` when the worklist does not answer."""
    entries: list[Dataset] = []
    began, is_whole = time.monotonic(), True
    try:
        for response, entry in association.send_c_find(wanted, ModalityWorklistInformationFind, msg_id=_MESSAGE):
            status = response.get("Status")
            if status is None:
                raise DeliveryError(f"{peer}: did not answer C-FIND; check its log")
            if status not in (0xFF00, 0xFF01, 0x0000, 0xFE00):
                return Answer(refusal=f"{peer}: answered C-FIND with status 0x{status:04X}; check its log")
            if time.monotonic() - began > _SEARCH_SECONDS:
                association.abort()
                raise DeliveryError(f"{peer}: C-FIND took more than {_SEARCH_SECONDS:g} s; check its log")
            if entry is None or not is_whole:
                continue
            entries.append(entry)
            if len(entries) > MOST_ENTRIES:
                is_whole = False
                association.send_c_cancel(_MESSAGE, query_model=ModalityWorklistInformationFind)
    except ValueError as error:
        raise DeliveryError(f"{peer}: C-FIND is not possible ({error}); ask its administrator to allow it") from error
    except RuntimeError as error:
        raise DeliveryError(f"{peer}: closed the association before C-FIND") from error
    return Answer(entries=tuple(entries[:MOST_ENTRIES]), is_whole=is_whole)
