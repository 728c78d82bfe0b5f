"""Query and retrieval of series from an archive: C-FIND, then C-GET or C-MOVE (PS3.4 C).

C-GET returns the objects on the requesting association. C-MOVE sends them to a separate AE title and port that is open
meanwhile, because the receiver could not distinguish them from images of scanners.
"""

from __future__ import annotations

import errno
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from pydicom import Dataset
from pydicom.uid import (
    Comprehensive3DSRStorage,
    CTImageStorage,
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    MRImageStorage,
    RLELossless,
    SegmentationStorage,
)
from pynetdicom import AE, build_context, build_role, evt
from pynetdicom.association import Association
from pynetdicom.presentation import DEFAULT_TRANSFER_SYNTAXES
from pynetdicom.sop_class import (
    LabelMapSegmentationStorage,
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
)

from node.config import Config, PriorTable
from node.deliver.association import Peer, Timeouts, associate, close_connection
from node.deliver.dataset_stream import DatasetStream
from node.deliver.find import query
from node.deliver.query_audit import OnQuery
from node.errors import DeliveryError
from node.tls import server_context

logger = logging.getLogger(__name__)

_WANTED = (
    Comprehensive3DSRStorage,
    SegmentationStorage,
    LabelMapSegmentationStorage,
    CTImageStorage,
    MRImageStorage,
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
)
_COMPRESSED = (JPEG2000Lossless, JPEGLosslessSV1, JPEGLSLossless, RLELossless, JPEGBaseline8Bit)
_PENDING = frozenset({0xFF00, 0xFF01})
_LONGEST_SECONDS = 900.0
"""Of one association: a prior is no reason to wait longer with a result."""
_MOST_OBJECTS, _MOST_BYTES = 20_000, 8 << 30
"""That are retrieved on one association."""
_MOST_MATCHES = 10_000
"""Of one query."""
_PORT_SECONDS = 60.0
"""How long to wait for the port while another job uses it."""
Request = Callable[[], Iterable[tuple[Dataset, Dataset | None]]]


class _ReceivedFile:
    """An object as a file, under a temporary name until it is kept."""

    def __init__(self, path: Path, count: Callable[[int], None]) -> None:
        """``count``: called with the number of bytes that are written."""
        self._path = path
        self._begun = path.with_suffix(".part")
        self._file = self._begun.open("xb")
        self._count = count

    def append(self, pieces: Sequence[bytes]) -> None:
        self._count(sum(map(len, pieces)))
        self._file.writelines(pieces)

    def close(self) -> None:
        self._file.close()

    def discard(self) -> None:
        self._file.close()
        self._begun.unlink(missing_ok=True)

    def keep(self) -> None:
        """Give it its name."""
        self._begun.rename(self._path)


class _ReceivedFiles:
    """Objects of one retrieval as files, within bounds."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._objects = self._bytes = 0
        self._streams: WeakKeyDictionary[Association, DatasetStream[_ReceivedFile]] = WeakKeyDictionary()
        """An archive may open several associations for a C-MOVE."""
        self._deadline = time.monotonic() + _LONGEST_SECONDS

    def receive(self, event: evt.Event) -> None:
        """Write what comes; called for each PDU, where it is received."""
        if event.assoc not in self._streams:
            self._streams[event.assoc] = DatasetStream(self._begin, lambda _waiting: self._excess(), self._end)
        self._streams[event.assoc].receive(event)

    def keep(self, event: evt.Event) -> int:
        """Keep an object; return the status of its C-STORE request: A700 (out of resources) beyond the bounds."""
        part = self._streams[event.assoc].take(event)
        if part is None:
            return 0xC000
        if self._excess():
            part.discard()
            close_connection(event.assoc)  # it would go on otherwise
            return 0xA700
        part.keep()
        return 0x0000

    def _begin(self) -> _ReceivedFile:
        self._objects += 1
        return _ReceivedFile(self.folder / f"{self._objects:06d}.dcm", self._add)  # never under a name of the peer

    def _add(self, count: int) -> None:
        self._bytes += count

    def _end(self, event: evt.Event, why: str) -> None:
        logger.warning("retrieval of a prior study was ended: %s", why)
        close_connection(event.assoc)

    def check(self, peer: Peer) -> None:
        """Raise ``DeliveryError`` when the bounds are exceeded."""
        if excess := self._excess():
            raise DeliveryError(f"{peer}: retrieval of a prior study was ended after {excess}")

    def _excess(self) -> str:
        if time.monotonic() > self._deadline:
            return f"{_LONGEST_SECONDS:g} s"
        if self._objects > _MOST_OBJECTS or self._bytes > _MOST_BYTES:
            return f"{_MOST_OBJECTS} objects or {_MOST_BYTES >> 30} GiB"
        return ""


@dataclass(frozen=True, kw_only=True)
class Archive:
    """An open association to an archive; ``moves_to``: destination AE title of C-MOVE, "" for C-GET."""

    peer: Peer
    association: Association
    retrieved: _ReceivedFiles
    moves_to: str

    def find(self, level: str, **keys: str) -> list[Dataset]:
        """Query the archive, see ``node.deliver.find.query``. Raises ``DeliveryError`` when the answer does not end."""
        matches: list[Dataset] = []
        for match in query(self.association, self.peer, level, **keys):
            matches.append(match)
            if len(matches) > _MOST_MATCHES:
                raise DeliveryError(f"{self.peer}: answers a query with more than {_MOST_MATCHES} matches")
            self.retrieved.check(self.peer)
        return matches

    def fetch(self, study: str, series: str) -> list[Path]:
        """Retrieve the objects of a series that this node supports as files. Raises ``DeliveryError`` on refusal."""
        before = set(self.retrieved.folder.glob("*.dcm"))
        wanted = Dataset()
        wanted.QueryRetrieveLevel = "SERIES"
        wanted.StudyInstanceUID, wanted.SeriesInstanceUID = study, series

        def get() -> Iterable[tuple[Dataset, Dataset | None]]:
            return self.association.send_c_get(wanted, StudyRootQueryRetrieveInformationModelGet)

        def move() -> Iterable[tuple[Dataset, Dataset | None]]:
            return self.association.send_c_move(wanted, self.moves_to, StudyRootQueryRetrieveInformationModelMove)

        _await(move if self.moves_to else get, self.peer, "C-MOVE" if self.moves_to else "C-GET", self.retrieved.check)
        return sorted(set(self.retrieved.folder.glob("*.dcm")) - before)


@contextmanager
def archive(config: Config, prior: PriorTable, folder: Path, on_query: OnQuery | None = None) -> Iterator[Archive]:
    """Open an association to ``prior.source``; objects are saved to ``folder``, ``on_query`` is called per query.

    Raises ``DeliveryError`` when that fails or when the port for C-MOVE is in use.
    """
    retrieved = _ReceivedFiles(folder)
    peer = Peer.of(prior.source, config.destinations[prior.source])
    models = (
        StudyRootQueryRetrieveInformationModelFind,
        StudyRootQueryRetrieveInformationModelMove if prior.move_title else StudyRootQueryRetrieveInformationModelGet,
    )
    contexts = [build_context(model) for model in models]
    if not prior.move_title:
        contexts += [build_context(uid, s) for uid in _WANTED for s in (DEFAULT_TRANSFER_SYNTAXES, *_COMPRESSED)]
    roles = [] if prior.move_title else [build_role(uid, scp_role=True) for uid in _WANTED]
    receiving = _receiving(config, prior, retrieved) if prior.move_title else nullcontext()
    with (
        receiving,
        associate(
            peer, config.ae.title, contexts, Timeouts(), roles=roles, on_store=retrieved.keep, on_query=on_query
        ) as association,
    ):
        association.bind(evt.EVT_PDU_RECV, retrieved.receive)
        yield Archive(peer=peer, association=association, retrieved=retrieved, moves_to=prior.move_title)


@contextmanager
def _receiving(config: Config, prior: PriorTable, retrieved: _ReceivedFiles) -> Iterator[None]:
    entity = AE(ae_title=prior.move_title)
    entity.require_called_aet = True
    for uid in _WANTED:
        entity.add_supported_context(uid, [*DEFAULT_TRANSFER_SYNTAXES, *_COMPRESSED])
    secured = server_context(config.ae.tls) if config.ae.tls.enabled else None
    handlers: list[Any] = [(evt.EVT_C_STORE, retrieved.keep), (evt.EVT_PDU_RECV, retrieved.receive)]
    deadline = time.monotonic() + _PORT_SECONDS
    while True:
        try:
            server = entity.start_server((config.ae.address, prior.move_port), False, secured, handlers)
            break
        except OSError as error:
            if error.errno != errno.EADDRINUSE or time.monotonic() > deadline:
                raise DeliveryError(
                    f"move_port {prior.move_port} cannot be opened ({error.strerror}); use another port in the rule"
                ) from error
            time.sleep(0.5)
    try:
        yield
    finally:
        server.shutdown()


def _await(request: Request, peer: Peer, what: str, check: Callable[[Peer], None]) -> None:
    """Read all responses; the objects arrive meanwhile, and ``check`` raises when there are too many."""
    try:
        for status, _ in request():
            check(peer)
            if "Status" not in status:
                raise DeliveryError(f"{peer}: no response to {what}; check that this node may query it")
            if status.Status not in (*_PENDING, 0x0000, 0xB000):  # B000: some sub-operations failed
                raise DeliveryError(f"{peer}: {what} refused with status {status.Status:04X}; ask its administrator")
    except (RuntimeError, ValueError) as error:
        raise DeliveryError(f"{peer}: {what} is not possible ({error}); ask its administrator to allow it") from error
