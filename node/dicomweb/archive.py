"""Fetches series from an archive with DICOMweb: QIDO-RS finds them, WADO-RS retrieves them (PS3.18 10.6, 10.4).

What is retrieved goes to the receiver of this node, as what a client stores does, and counts as sent by this node.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager

import httpx
from sqlalchemy import Engine

from node.config import Config
from node.deliver.association import Timeouts
from node.deliver.fetch import MOST_STUDIES, Archive, FetchedSeries, ReceivedSeries, fetcher
from node.deliver.query_audit import query_recorder
from node.deliver.reconcile import ArchivedSeries, configured_destination
from node.deliver.stow import http_fault, matching_studies, plain_bytes, series_of_study, service
from node.dicomweb.related_parts import Beginning, Content, Ending, RelatedParts
from node.errors import ConfigError, DeliveryError, InputError, UnreachableError
from node.receive.dataset_limits import DatasetLimits
from node.spool import Spool
from node.upload import FileKind, upload_files
from node.upload.get_archive import get_archive
from node.upload.received_part import ReceivedPart

_ANY_SYNTAX = 'multipart/related; type="application/dicom"; transfer-syntax=*'
"""As stored; without the parameter a service decompresses what it sends (PS3.18 8.7.3.5)."""
_DEFAULT_SYNTAX = 'multipart/related; type="application/dicom"'
_LONGEST_SECONDS = 3600.0
"""Of one series, as with C-MOVE: a thousand images over a slow line."""
_MOST_OBJECTS, _MOST_BYTES = 20_000, 8 << 30
"""Of one series."""


class WebArchive:
    """An open connection to the DICOMweb service of an archive; see ``Archive``."""

    def __init__(self, config: Config, engine: Engine, spool: Spool, name: str, http: httpx.Client) -> None:
        self._config = config
        self._name = name
        self._http = http
        self._spool = spool
        self._limits = DatasetLimits.of(config.storage)
        self._received = ReceivedSeries(config, engine, name)

    def studies(self, keys: Mapping[str, str]) -> list[str]:
        return self._received.any_of(matching_studies(self._http, keys, MOST_STUDIES), keys)

    def series(self, study: str) -> list[ArchivedSeries]:
        return [
            ArchivedSeries(
                study_instance_uid=study,
                series_instance_uid=series.series_instance_uid,
                modality=series.modality,
                there=series.instances,
                here=self._received.count(study, series.series_instance_uid),
            )
            for series in series_of_study(self._http, study)
        ]

    def fetch(self, series: ArchivedSeries) -> FetchedSeries:
        """Retrieve a series and give it to the receiver."""
        parts: list[ReceivedPart] = []
        try:
            try:
                self._retrieve(series, parts)
            except OSError as full:
                raise DeliveryError(f"the disk refuses series of {self._name}: {full.strerror}") from full
            error = self._give(series, parts)
        except DeliveryError as failure:
            error = str(failure)
        finally:
            for part in parts:
                part.discard()
        fewer = f"{self._name} sent fewer objects than it says to have, or the receiver has no row of them yet"
        return self._received.awaited(series, error, fewer)

    def _retrieve(self, series: ArchivedSeries, parts: list[ReceivedPart]) -> None:
        where = f"studies/{series.study_instance_uid}/series/{series.series_instance_uid}"
        for accept in (_ANY_SYNTAX, _DEFAULT_SYNTAX):
            with self._http.stream("GET", where, headers={"Accept": accept}) as response:
                if response.status_code in (400, 406) and accept != _DEFAULT_SYNTAX:
                    continue
                if response.status_code != 200:
                    raise DeliveryError(f"{self._name}: retrieval of a series: {http_fault(response.status_code)}")
                try:
                    self._read(response, parts)
                except InputError as error:
                    raise DeliveryError(f"{self._name}: its answer cannot be read: {error}") from error
                return

    def _read(self, response: httpx.Response, parts: list[ReceivedPart]) -> None:
        """Write every part of a response to a file. Raises ``InputError`` for other content, ``OSError``."""
        related = RelatedParts(response.headers.get("content-type", ""))
        deadline, size = time.monotonic() + _LONGEST_SECONDS, 0
        for piece in plain_bytes(response):
            size += len(piece)
            if size > _MOST_BYTES:
                raise self._too_large()
            if time.monotonic() > deadline:
                raise UnreachableError(f"{self._name}: a series does not end within {_LONGEST_SECONDS:g} s")
            for event in related.feed(piece):
                match event:
                    case Beginning():
                        if len(parts) >= _MOST_OBJECTS:
                            raise self._too_large()
                        if self._spool.space().is_below(self._config.storage.min_free_gib):
                            raise DeliveryError("there is too little free space to retrieve a series")
                        parts.append(ReceivedPart(self._spool.drafts.new(), len(parts) + 1))
                    case Content(data):
                        parts[-1].append([data])
                    case Ending():
                        parts[-1].close()
        related.check_complete()

    def _too_large(self) -> DeliveryError:
        return DeliveryError(f"{self._name}: a series has more than {_MOST_OBJECTS} objects or {_MOST_BYTES >> 30} GiB")

    def _give(self, series: ArchivedSeries, parts: Collection[ReceivedPart]) -> str:
        """Send the parts to the receiver of this node; return why not every object is stored."""
        wanted = (series.study_instance_uid, series.series_instance_uid)
        ours = []
        for part in parts:
            identity = part.identity(self._limits)
            if identity is not None and (identity.study_instance_uid, identity.series_instance_uid) == wanted:
                ours.append(part)
        refusals = [] if len(ours) == len(parts) else [f"{self._name} sent what is no object of the series"]
        try:
            results = [result for result in upload_files(self._config, ours) if result.kind is not FileKind.STORED]
        except ConfigError as error:
            raise DeliveryError(str(error)) from error
        refusals += [f"{result.sop_instance_uid or result.name}: {result.reason}" for result in results]
        return "; ".join(refusals[:3])


@contextmanager
def web_archive(config: Config, engine: Engine, spool: Spool, name: str) -> Iterator[WebArchive]:
    """Open a connection to ``[destinations.name] url``. Raises ``DeliveryError`` when that is not possible."""
    destination = configured_destination(config, name)
    with service(name, destination, Timeouts(), query_recorder(engine, destination)) as http:
        yield WebArchive(config, engine, spool, name, http)


def open_archive(config: Config, engine: Engine, spool: Spool, name: str) -> AbstractContextManager[Archive]:
    """Open a connection to ``[destinations.name]``, by DICOMweb where it has a ``url``, else as its ``retrieve`` says.

    Raises ``NotFoundError`` when it is not configured, ``DeliveryError`` when it refuses.
    """
    destination = configured_destination(config, name)
    if destination.url:
        return web_archive(config, engine, spool, name)
    if destination.host and destination.retrieve == "get":
        return get_archive(config, engine, spool, name)
    return fetcher(config, engine, name)
