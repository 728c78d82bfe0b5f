"""Fetches series from an archive by C-GET (PS3.4 C.4.3), for archives that cannot connect to this node.

Each object goes to the receiver of this node before its C-STORE is answered, as what is uploaded does, and the archive
gets the receiver's status: success means that the object is durable. It counts as sent by this node. Until an object is
whole it is in a draft, up to the largest that the receiver takes.

Each query has an association of its own: one that waits while a series comes would be ended as idle.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager

from pydicom import Dataset
from pydicom.uid import UID
from pynetdicom import build_context, build_role, evt
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelGet
from sqlalchemy import Engine

from node.config import Config, Destination
from node.deliver.association import Peer, Timeouts, associate, close_connection
from node.deliver.dataset_stream import DatasetStream
from node.deliver.fetch import MOVE_SECONDS, FetchedSeries, Fetcher
from node.deliver.find import find_association, query
from node.deliver.get_contexts import get_contexts
from node.deliver.query_audit import query_recorder
from node.deliver.reconcile import ArchivedSeries, configured_destination
from node.deliver.store import send_file
from node.errors import ConfigError, DeliveryError
from node.ledger.pending_deliveries import is_stored
from node.receive.dataset_limits import DatasetLimits
from node.receive.policy import TRANSFER_SYNTAXES, Policy, is_storage
from node.receive.status_codes import DOES_NOT_MATCH_SOP_CLASS, OUT_OF_RESOURCES
from node.spool import Spool
from node.upload.received_part import ReceivedPart

logger = logging.getLogger(__name__)

_MOST_OBJECTS = 20_000
"""Of one series."""
_LONGEST_SECONDS = 4 * MOVE_SECONDS
"""Of one series."""
_PENDING, _SUCCESS, _SOME_FAILED = (0xFF00, 0xFF01), 0x0000, 0xB000
"""Status of C-GET (PS3.4 C.4.3.1.4)."""


class _ObjectUpload:
    """Gives the objects of one C-GET to the receiver of this node."""

    def __init__(self, config: Config, spool: Spool, series: ArchivedSeries) -> None:
        self._config = config
        self._spool = spool
        self._series = (series.study_instance_uid, series.series_instance_uid)
        self._limits = DatasetLimits.of(config.storage)
        self._contexts: list[PresentationContext] = []
        self._opened = ExitStack()
        self._ours: Association | None = None
        self._stream = DatasetStream(self._begin, self._excess, self._end)
        self._objects = 0
        self._largest = config.storage.max_instance_gib * 2**30
        self._deadline = time.monotonic() + _LONGEST_SECONDS
        self._is_ended = False
        self.refusals: list[str] = []
        """Why objects were not stored; one sentence for each."""

    def prepare(self, accepted: list[PresentationContext]) -> None:
        """``accepted``: what the archive may send, each with its one transfer syntax."""
        self._contexts = [
            build_context(str(context.abstract_syntax), context.transfer_syntax[0]) for context in accepted
        ]

    def close(self) -> None:
        """Release the association with the receiver."""
        self._opened.close()
        self._stream.close()

    def watch(self, event: evt.Event) -> None:
        """Write what comes; close a connection on which it does not end. Called for each PDU, where it is received."""
        self._stream.receive(event)
        if time.monotonic() > self._deadline:
            self._end(event, f"it takes more than {_LONGEST_SECONDS:g} s")

    def store(self, event: evt.Event) -> int:
        """Store an object; return the status of its C-STORE request."""
        part = self._stream.take(event)
        if part is None:
            self.refusals.append("the archive sent a C-STORE request without an object")
            return DOES_NOT_MATCH_SOP_CLASS
        try:
            return self._given(part, str(event.context.abstract_syntax))
        except OSError as error:
            return self._end(event, f"the disk refuses an object: {error.strerror}")
        except DeliveryError as error:
            return self._end(event, str(error))
        finally:
            part.discard()

    def _begin(self) -> ReceivedPart:
        self._objects += 1
        if self._objects > _MOST_OBJECTS:
            raise DeliveryError(f"the archive sends more than {_MOST_OBJECTS} objects")
        if self._spool.space().is_below(self._config.storage.min_free_gib):
            raise DeliveryError("there is too little free space to retrieve a series")
        return ReceivedPart(self._spool.drafts.new(), self._objects)

    def _excess(self, waiting: int) -> str:
        """Why no more is taken. Whole objects that wait count with the one that comes."""
        if waiting > self._largest:
            return f"an object is larger than {self._largest / 2**30:g} GiB (max_instance_gib)"
        return ""

    def _given(self, part: ReceivedPart, sop_class: str) -> int:
        identity = part.identity(self._limits)
        if identity is None or (identity.study_instance_uid, identity.series_instance_uid) != self._series:
            self.refusals.append("the archive sent what is no object of the series")
            return DOES_NOT_MATCH_SOP_CLASS
        if identity.sop_class_uid != sop_class:
            name, announced = UID(identity.sop_class_uid).name, UID(sop_class).name
            self.refusals.append(f"{identity.sop_instance_uid}: sent as {announced}, its data set says {name}")
            return DOES_NOT_MATCH_SOP_CLASS
        try:
            with part.on_disk() as path:
                answer = send_file(self._receiver(), path, Timeouts(), identity.sop_instance_uid)
        except ValueError as error:
            self.refusals.append(f"{identity.sop_instance_uid}: the receiver of this node does not take it: {error}")
            return DOES_NOT_MATCH_SOP_CLASS
        if not is_stored(answer.status):
            self.refusals.append(f"{identity.sop_instance_uid}: {answer.comment}")
        return OUT_OF_RESOURCES if answer.status is None else answer.status

    def _receiver(self) -> Association:
        """The association with the receiver, which ends it when the archive pauses for long."""
        if self._ours is None or not self._ours.is_established:
            self._opened.close()
            ours = Destination.of_node(self._config.ae)
            peer = Peer.of("this node", ours)
            opening = associate(peer, self._config.ae.title, self._contexts, Timeouts())
            self._ours = self._opened.enter_context(opening)
        return self._ours

    def _end(self, event: evt.Event, why: str) -> int:
        """Refuse an object and all that follow."""
        if not self._is_ended:
            self._is_ended = True
            self.refusals.append(why)
        close_connection(event.assoc)
        return OUT_OF_RESOURCES


class GetArchive(Fetcher):
    """An archive that is asked by C-GET; see ``node.deliver.fetch.Archive``."""

    def __init__(self, config: Config, engine: Engine, spool: Spool, peer: Peer, association: Association) -> None:
        """``association``: that of the first query."""
        super().__init__(config, engine, peer, association)
        self._spool = spool
        self._on_query = query_recorder(engine, configured_destination(config, peer.name))

    def studies(self, keys: Mapping[str, str]) -> list[str]:
        with self._asking():
            return super().studies(keys)

    def series(self, study: str) -> list[ArchivedSeries]:
        with self._asking():
            return super().series(study)

    @contextmanager
    def _asking(self) -> Iterator[None]:
        with find_association(self._peer, self._config.ae.title, Timeouts(), self._on_query) as self._association:
            yield

    def fetch(self, series: ArchivedSeries) -> FetchedSeries:
        """Have the archive send a series on an association of this node, and wait for its images."""
        upload = _ObjectUpload(self._config, self._spool, series)
        try:
            error = self._get(series, upload)
        except DeliveryError as failure:
            error = str(failure)
        finally:
            upload.close()
        fewer = f"{self._peer} sent fewer objects than it says to have, or the receiver has no row of them yet"
        return self._received.awaited(series, error, fewer)

    def _get(self, series: ArchivedSeries, upload: _ObjectUpload) -> str:
        """Return why not every image was sent and stored."""
        with self._asking():
            storage = get_contexts(self._classes(series), TRANSFER_SYNTAXES)
        roles = [
            build_role(uid, scp_role=True)
            for uid in dict.fromkeys(context.abstract_syntax for context in storage)
            if uid
        ]
        contexts = [build_context(StudyRootQueryRetrieveInformationModelGet), *storage]
        title = self._config.ae.title
        opening = associate(
            self._peer, title, contexts, Timeouts(), on_store=upload.store, on_query=self._on_query, roles=roles
        )
        with opening as association:
            accepted = [
                context for context in association.accepted_contexts if is_storage(str(context.abstract_syntax))
            ]
            if not (accepted := [context for context in accepted if context.as_scp]):
                raise DeliveryError(_nothing_accepted(self._peer, association, storage))
            association.bind(evt.EVT_PDU_RECV, upload.watch)
            upload.prepare(accepted)
            return self._ended(self._answer(association, series, upload), upload)

    def _answer(self, association: Association, series: ArchivedSeries, upload: _ObjectUpload) -> Dataset:
        """Return the last response."""
        wanted, status = Dataset(), Dataset()
        wanted.QueryRetrieveLevel = "SERIES"
        wanted.StudyInstanceUID, wanted.SeriesInstanceUID = series.study_instance_uid, series.series_instance_uid
        association.dimse_timeout = association.network_timeout = MOVE_SECONDS
        try:
            for status, _ in association.send_c_get(wanted, StudyRootQueryRetrieveInformationModelGet):
                if status.get("Status") not in _PENDING:
                    break
        except (RuntimeError, ValueError) as error:
            raise DeliveryError(f"{self._peer}: C-GET is not possible ({error}); ask its administrator") from error
        if status.get("Status") in (None, *_PENDING):
            why = upload.refusals[-1] if upload.refusals else "the connection was lost, or its log says more"
            raise DeliveryError(f"{self._peer}: C-GET did not end: {why}")
        return status

    def _ended(self, status: Dataset, upload: _ObjectUpload) -> str:
        failed = int(status.get("NumberOfFailedSuboperations") or 0)
        if warned := int(status.get("NumberOfWarningSuboperations") or 0):
            logger.warning("%s: C-GET ended with warnings about %d images", self._peer, warned)
        if status.Status in (_SUCCESS, _SOME_FAILED) and not failed and not upload.refusals:
            return ""
        why = "; ".join(upload.refusals[:3]) or "check its log, and whether it converts what it does not send as it is"
        return f"{self._peer}: C-GET ended with status 0x{status.Status:04X}, {failed} images were not stored: {why}"

    def _classes(self, series: ArchivedSeries) -> set[str]:
        """SOP Classes of a series; none when the archive does not return them."""
        keys = {"StudyInstanceUID": series.study_instance_uid, "SeriesInstanceUID": series.series_instance_uid}
        matches = query(self._association, self._peer, "IMAGE", **keys, SOPInstanceUID="", SOPClassUID="")
        return {uid for match in matches if is_storage(uid := str(match.get("SOPClassUID") or "")) and uid}


def _nothing_accepted(peer: Peer, association: Association, storage: Collection[PresentationContext]) -> str:
    """Return why an archive can send nothing on an association, and the remedy."""
    accepted = {str(context.abstract_syntax) for context in association.accepted_contexts}
    if StudyRootQueryRetrieveInformationModelGet not in accepted:
        return f'{peer}: accepts no C-GET; ask its administrator to allow it, or set retrieve = "move"'
    names = ", ".join(sorted({UID(str(context.abstract_syntax)).name for context in storage}))
    return (
        f"{peer}: accepts C-GET, but to send none of the SOP Classes proposed for the series ({names}); ask its "
        'administrator to allow that (the role of an SCU), or set retrieve = "move"'
    )


@contextmanager
def get_archive(config: Config, engine: Engine, spool: Spool, name: str) -> Iterator[GetArchive]:
    """Open ``[destinations.name]`` for C-GET. Raises ``DeliveryError`` when it accepts no queries."""
    destination = configured_destination(config, name)
    ours = Destination.of_node(config.ae)
    if Policy.of(config.ae).is_proxy(ours.host):
        raise ConfigError(f"[ae] proxies contains {ours.host}: only a proxy may connect from this machine to the node")
    peer, on_query = Peer.of(name, destination), query_recorder(engine, destination)
    with find_association(peer, config.ae.title, Timeouts(), on_query) as association:
        opened = GetArchive(config, engine, spool, peer, association)
    yield opened
