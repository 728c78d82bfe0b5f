"""C-FIND at a destination (PS3.4 C.4.1, Study Root): which studies, series and instances it holds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pydicom import Dataset
from pynetdicom import build_context
from pynetdicom.association import Association
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind

from node.deliver.association import Peer, Timeouts, associate
from node.deliver.query_audit import QueryRecorder
from node.errors import DeliveryError


@contextmanager
def finding(peer: Peer, calling_title: str, timeouts: Timeouts, record_query: QueryRecorder) -> Iterator[Association]:
    """An association for any number of queries, of which ``record_query`` hears.

    Raises ``DeliveryError`` when the peer takes none.
    """
    contexts = [build_context(StudyRootQueryRetrieveInformationModelFind)]
    with associate(peer, calling_title, contexts, timeouts, record_query=record_query) as association:
        yield association


def query(association: Association, peer: object, level: str, **keys: str) -> Iterator[Dataset]:
    """Every match at ``level`` (STUDY, SERIES, IMAGE); ``keys`` by keyword: a value to match, ``""`` to be told.

    Raises ``DeliveryError`` when the peer does not answer to the end.
    """
    wanted = Dataset()
    wanted.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        setattr(wanted, keyword, value)
    try:
        for response, match in association.send_c_find(wanted, StudyRootQueryRetrieveInformationModelFind):
            status = response.get("Status")
            if status in (0xFF00, 0xFF01):
                yield match
            elif status != 0x0000:
                reply = "nothing" if status is None else f"status 0x{status:04X}"
                raise DeliveryError(f"{peer}: C-FIND at {level} level is answered with {reply}; look at its log")
    except ValueError as error:
        raise DeliveryError(f"{peer}: C-FIND is not possible ({error}); let its administrator allow it") from error
    except RuntimeError as error:
        raise DeliveryError(f"{peer}: closed the association before C-FIND") from error


def held(association: Association, peer: object, study: str, series: str) -> set[str]:
    """SOP Instance UIDs that the peer holds of a series."""
    keys = {"StudyInstanceUID": study, "SeriesInstanceUID": series, "SOPInstanceUID": ""}
    return {str(match.SOPInstanceUID) for match in query(association, peer, "IMAGE", **keys)}
