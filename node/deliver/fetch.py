"""Fetches series from an archive: C-FIND, then C-MOVE to this node's receiver, which takes them as from any sender.

``node.upload.get_archive`` does so by C-GET, ``node.dicomweb.archive`` by DICOMweb.

What is here already is not fetched, so a list that was interrupted is simply given again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

from pydicom import Dataset
from pynetdicom import build_context
from pynetdicom.association import Association
from pynetdicom.sop_class import (
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelMove,
)
from sqlalchemy import Engine

from node.config import Config, Destination, Rule
from node.deliver.association import Peer, Timeouts, associate
from node.deliver.find import query
from node.deliver.query_audit import query_recorder
from node.deliver.reconcile import ArchivedSeries, configured_destination, is_wanted, series_of_study
from node.errors import DeliveryError, NotFoundError
from node.ledger.results import unreceived_results
from node.ledger.series import instance_count

KEYS = {"accession": "AccessionNumber", "patient": "PatientID", "study": "StudyInstanceUID", "dates": "StudyDate"}
"""What studies can be named by, and the attribute that is matched."""
MOVE_SECONDS = 3600.0
"""Longest silence of an archive while it sends a series; some report only at the end."""
_ROW_SECONDS = 30.0
"""How long the rows of images that were acknowledged may take."""
_FIRST_PAUSE_SECONDS, _POLL_SECONDS = 0.01, 0.2
"""Between looks at them: the first pause, and the longest."""
MOST_STUDIES = 10_000
"""That one query may match."""
_PENDING, _SUCCESS, _SOME_FAILED, _DESTINATION_UNKNOWN = (0xFF00, 0xFF01), 0x0000, 0xB000, 0xA801
"""Status of C-MOVE (PS3.4 C.4.2.1.5)."""


@dataclass(frozen=True, kw_only=True)
class FetchedSeries:
    """The result for one series."""

    series: ArchivedSeries
    """As it is now."""
    error: str = ""
    """Why images are missing although they were fetched, and the remedy."""


class Archive(Protocol):
    """A connection to an archive, by whichever way."""

    def studies(self, keys: Mapping[str, str]) -> list[str]:
        """Find studies by keyword and value; return their UIDs.

        Raises ``NotFoundError`` when none matches, ``DeliveryError`` when the archive does not answer.
        """

    def series(self, study: str) -> list[ArchivedSeries]:
        """List the series of a study, none when the archive does not have it. Raises ``DeliveryError``.

        Results of this node count as images that it has: viewers store what was made of a result in its series.
        """

    def fetch(self, series: ArchivedSeries) -> FetchedSeries:
        """Bring a series to this node, and wait for its images; what prevents it is the error of the result."""


def wanted_series(
    archived: Collection[ArchivedSeries], modalities: Collection[str], rules: Sequence[Rule]
) -> list[ArchivedSeries]:
    """Return the series that are to be fetched or are here; ``modalities``: empty for those that a rule matches."""
    return [
        series
        for series in archived
        if (series.modality in modalities if modalities else is_wanted(series.modality, rules))
    ]


def incomplete_series(archive: Archive, study: str, series_uid: str = "") -> list[ArchivedSeries]:
    """Find the series of a study, or one of them, of which the archive has more images than the node.

    Raises ``NotFoundError`` when the archive has no such series, ``DeliveryError`` when it does not answer.
    """
    listed = [series for series in archive.series(study) if series_uid in ("", series.series_instance_uid)]
    if not listed:
        of = f"series {series_uid} of " if series_uid else ""
        raise NotFoundError(f"the archive has no {of}study {study}")
    return [series for series in listed if not series.is_complete]


OpenArchive = Callable[[str], AbstractContextManager[Archive]]
"""Opens a connection to the destination of a name. Raises ``NotFoundError``, ``DeliveryError``."""


def archive_destination(config: Config, name: str) -> Destination:
    """Return ``[destinations.name]``, from which studies can be fetched.

    Raises ``NotFoundError`` when it is not configured, ``DeliveryError`` when it has no ``host`` or ``url``.
    """
    destination = configured_destination(config, name)
    if not destination.host and not destination.url:
        raise DeliveryError(
            f"{name} has neither host nor url; fetching needs C-FIND and C-MOVE, or QIDO-RS and WADO-RS"
        )
    return destination


class ReceivedSeries:
    """What this node has received of the series of an archive, by whichever way."""

    def __init__(self, config: Config, engine: Engine, archive: str) -> None:
        """``archive``: its name, for errors."""
        self._config = config
        self._engine = engine
        self._archive = archive

    def any_of(self, studies: list[str], keys: Mapping[str, str]) -> list[str]:
        """Return ``studies``, which match ``keys``. Raises ``NotFoundError`` when there is none."""
        if not studies:
            named = ", ".join(" ".join(key) for key in keys.items())
            raise NotFoundError(f"{self._archive} has no study with {named}")
        return studies

    def count(self, study_uid: str, series_uid: str) -> int:
        """Number of objects of a series that are here, received or made by this node."""
        with self._engine.connect() as connection:
            return instance_count(connection, study_uid, series_uid) + unreceived_results(connection, series_uid)

    def awaited(self, series: ArchivedSeries, error: str, incomplete: str) -> FetchedSeries:
        """Return a series once its images are here, or at once after an ``error``; else with what ``incomplete`` says.

        Rows follow the acknowledgment of an image.
        """
        deadline = time.monotonic() + (0.0 if error else _ROW_SECONDS)
        pause = _FIRST_PAUSE_SECONDS
        while True:
            now = replace(series, here=self.count(series.study_instance_uid, series.series_instance_uid))
            if now.is_complete or time.monotonic() > deadline:
                return FetchedSeries(series=now, error=error or ("" if now.is_complete else incomplete))
            time.sleep(pause)
            pause = min(2 * pause, _POLL_SECONDS)


class Fetcher:
    """An open association to an archive; see ``Archive``."""

    def __init__(self, config: Config, engine: Engine, peer: Peer, association: Association) -> None:
        self._config = config
        self._peer = peer
        self._association = association
        self._received = ReceivedSeries(config, engine, str(peer))

    def studies(self, keys: Mapping[str, str]) -> list[str]:
        studies = []
        for study in query(self._association, self._peer, "STUDY", **{"StudyInstanceUID": "", **keys}):
            studies.append(str(study.StudyInstanceUID))
            if len(studies) > MOST_STUDIES:
                raise DeliveryError(f"{self._peer}: more than {MOST_STUDIES} studies match; ask for fewer")
        return self._received.any_of(studies, keys)

    def series(self, study: str) -> list[ArchivedSeries]:
        here = partial(self._received.count, study)
        return list(series_of_study(self._association, self._peer, study, here))

    def fetch(self, series: ArchivedSeries) -> FetchedSeries:
        """Have the archive send a series to this node, and wait for its images."""
        sent = f"{self._peer} says that it has sent everything; `ainode status` and the log show what was refused"
        try:
            error = self._move(series)
        except DeliveryError as failure:
            error = str(failure)
        return self._received.awaited(series, error, sent)

    def _move(self, series: ArchivedSeries) -> str:
        """Return why not every image was sent."""
        wanted, title = Dataset(), self._config.ae.title.strip()
        wanted.QueryRetrieveLevel = "SERIES"
        wanted.StudyInstanceUID, wanted.SeriesInstanceUID = series.study_instance_uid, series.series_instance_uid
        self._association.dimse_timeout = self._association.network_timeout = MOVE_SECONDS
        status = Dataset()
        try:
            for status, _ in self._association.send_c_move(wanted, title, StudyRootQueryRetrieveInformationModelMove):
                if status.get("Status") not in _PENDING:
                    break
        except (RuntimeError, ValueError) as error:
            raise DeliveryError(f"{self._peer}: C-MOVE is not possible ({error}); ask its administrator") from error
        code = status.get("Status")
        if code is None:
            raise DeliveryError(f"{self._peer}: no response to C-MOVE; check its log")
        port = self._config.ae.port
        if code == _DESTINATION_UNKNOWN:
            raise DeliveryError(
                f"{self._peer}: does not know {title}; register it there with this host and port {port}"
            )
        failed = int(status.get("NumberOfFailedSuboperations") or 0)
        if code in (_SUCCESS, _SOME_FAILED) and not failed:
            return ""
        ended = f"C-MOVE ended with status 0x{code:04X}, {failed} images were not sent"
        return f"{self._peer}: {ended}; check that it knows {title} and can connect to it at port {port}, and its log"


@contextmanager
def fetcher(config: Config, engine: Engine, name: str, timeouts: Timeouts | None = None) -> Iterator[Fetcher]:
    """Open an association to ``[destinations.name]`` for C-FIND and C-MOVE.

    Raises ``NotFoundError`` when it is not configured, ``DeliveryError`` when it is no archive or refuses.
    """
    destination = archive_destination(config, name)
    peer, on_query = Peer.of(name, destination), query_recorder(engine, destination)
    models = (StudyRootQueryRetrieveInformationModelFind, StudyRootQueryRetrieveInformationModelMove)
    contexts = [build_context(model) for model in models]
    with associate(peer, config.ae.title, contexts, timeouts or Timeouts(), on_query=on_query) as association:
        yield Fetcher(config, engine, peer, association)
