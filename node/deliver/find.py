"""C-FIND at a destination (PS3.4 C.4.1, Study Root)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pydicom import Dataset
from pynetdicom import build_context
from pynetdicom.association import Association
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind

from node.deliver.association import Peer, Timeouts, associate
from node.deliver.query_audit import OnQuery
from node.errors import DeliveryError


@contextmanager
def find_association(peer: Peer, calling_title: str, timeouts: Timeouts, on_query: OnQuery) -> Iterator[Association]:
    """Open an association for queries; ``on_query`` is called for each.

    Raises ``DeliveryError`` when the peer does not accept it.
    """
    contexts = [build_context(StudyRootQueryRetrieveInformationModelFind)]
    with associate(peer, calling_title, contexts, timeouts, on_query=on_query) as association:
        yield association


def query(association: Association, peer: object, level: str, **keys: str) -> Iterator[Dataset]:
    """Yield every match at ``level`` (STUDY, SERIES, IMAGE); ``keys``: keyword and value to match, ``""`` to return.

    Raises ``DeliveryError`` when the peer does not answer completely.
    """
    wanted = Dataset()
    wanted.QueryRetrieveLevel = level
    if not all(value.isascii() for value in keys.values()):
        wanted.SpecificCharacterSet = "ISO_IR 192"  # without it pydicom writes ?, which matches any character
    for keyword, value in keys.items():
        setattr(wanted, keyword, value)
    try:
        for response, match in association.send_c_find(wanted, StudyRootQueryRetrieveInformationModelFind):
            status = response.get("Status")
            if status in (0xFF00, 0xFF01):
                yield match
            elif status != 0x0000:
                response_text = "no response" if status is None else f"status 0x{status:04X}"
                raise DeliveryError(f"{peer}: C-FIND at {level} level: {response_text}; check its log")
    except ValueError as error:
        raise DeliveryError(f"{peer}: C-FIND is not possible ({error}); ask its administrator to allow it") from error
    except RuntimeError as error:
        raise DeliveryError(f"{peer}: closed the association before C-FIND") from error


def held(association: Association, peer: object, study: str, series: str) -> set[str]:
    """Return the SOP Instance UIDs of a series at the peer."""
    keys = {"StudyInstanceUID": study, "SeriesInstanceUID": series, "SOPInstanceUID": ""}
    return {str(match.SOPInstanceUID) for match in query(association, peer, "IMAGE", **keys)}
