"""An archive for C-FIND and C-GET that sends what a test tells it to."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from pydicom import Dataset, FileDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage
from pynetdicom import AE, evt
from pynetdicom.sop_class import (
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
)

TITLE = "SCRIPTED"


class ScriptedGetArchive:
    """Holds series of one study and sends CT and MR images alone."""

    def __init__(self, *series: Sequence[FileDataset]) -> None:
        self.delays: Mapping[str, float] = {}
        """Seconds before the first image of a series, by its UID."""
        self.changed: Callable[[FileDataset], FileDataset] = lambda image: image
        """What is sent in place of an image."""
        self.is_endless = False
        """Whether it says again and again that it goes on."""
        self._series = {str(images[0].SeriesInstanceUID): images for images in series}

    @contextmanager
    def running(self) -> Iterator[int]:
        """Serve on a port."""
        entity = AE(TITLE)
        entity.add_supported_context(StudyRootQueryRetrieveInformationModelFind)
        entity.add_supported_context(StudyRootQueryRetrieveInformationModelGet)
        for sop_class in (CTImageStorage, MRImageStorage):
            entity.add_supported_context(sop_class, [ExplicitVRLittleEndian], scu_role=True, scp_role=True)
        handlers: list[Any] = [(evt.EVT_C_FIND, self._find), (evt.EVT_C_GET, self._get)]
        server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
        try:
            yield int(server.server_address[1])
        finally:
            server.shutdown()

    def _find(self, event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
        wanted = event.identifier
        level, uid = wanted.QueryRetrieveLevel, wanted.get("SeriesInstanceUID")
        series = [images for name, images in self._series.items() if not uid or name == uid]
        for images in series[:1] if level == "STUDY" else series:
            for image in images if level == "IMAGE" else images[:1]:
                match = Dataset()
                for element in wanted:
                    setattr(match, element.keyword, image.get(element.keyword, ""))
                match.QueryRetrieveLevel, match.NumberOfSeriesRelatedInstances = level, len(images)
                yield 0xFF00, match
        yield 0x0000, None

    def _get(self, event: evt.Event) -> Iterator[Any]:
        uid = str(event.identifier.SeriesInstanceUID)
        images = self._series[uid]
        yield 60_000 if self.is_endless else len(images)
        time.sleep(self.delays.get(uid, 0.0))
        while self.is_endless:
            time.sleep(0.1)
            yield 0xFF00, self.changed(images[0])
        for image in images:
            yield 0xFF00, self.changed(image)
