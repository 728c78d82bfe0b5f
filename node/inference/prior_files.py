"""Files of the prior analysis that a rule requests: report, segmentation, and the images of both."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Generator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Protocol

from sqlalchemy import Connection, Engine

from node.config import PriorTable
from node.confined import ConfinedProcess
from node.errors import NodeError, PlatformError
from node.inference.prior_reading import PriorReport, find_instance, find_report, study_attributes
from node.inference.task import PriorFiles
from node.ledger.instances import series_files
from node.ledger.jobs import result_path
from node.spool import Spool
from node.translation import sentence

logger = logging.getLogger(__name__)


class PriorStudies(Protocol):
    """Prior studies of a patient as files; ``node.deliver.prior_studies`` retrieves them from an archive."""

    def reports(self, prior: PriorTable, header: Mapping[str, str], folder: Path) -> Generator[list[Path], None, None]:
        """Reports, a study at a time, the latest first; ``header``: see ``study_attributes``."""

    def objects(self, prior: PriorTable, study: str, series: str, folder: Path) -> list[Path]:
        """All objects of a series."""


class PriorFinder:
    """Finds prior files: the report in the archive, all others in this node's files first; any thread may call."""

    def __init__(self, *, studies: PriorStudies, engine: Engine, spool: Spool) -> None:
        self._studies = studies
        self._engine = engine
        self._spool = spool
        self._reader = ConfinedProcess(
            "reader of prior studies",
            readable=[*spool.data_folders, spool.folder / "work"],
        )

    def files(self, wanted: PriorTable, names: Collection[str], first: Path, folder: Path) -> PriorFiles:
        """Return the files to compare with. Retrieved files are written to ``folder``.

        ``names``: what reports call the pipeline, or have called it; ``first``: an image of the present study.

        A destination that cannot be asked is no reason to wait with a result.
        """
        try:
            header = self._reader.call(first.name, study_attributes, first)
            with closing(self._studies.reports(wanted, header, folder / "reports")) as studies:
                candidates = (
                    self._reader.call(f"reports of {wanted.source}", find_report, files, tuple(names), first)
                    for files in studies
                )
                report = next((candidate for candidate in candidates if candidate is not None), None)
        except NodeError as error:
            logger.warning("no earlier analysis for pipeline %s: %s", " or ".join(names), error)
            remark = sentence(
                "Earlier analyses could not be asked for at {source}; nothing was compared.", source=wanted.source
            )
            return PriorFiles(without=remark)
        if report is not None and not report.same_patient:
            logger.warning("earlier report %s is of another patient", report.sop_instance_uid)
            report = None
        if report is None:
            return PriorFiles(
                without=sentence(
                    "No earlier analysis was found at {source} within {days} days.",
                    source=wanted.source,
                    days=wanted.days,
                )
            )
        return PriorFiles(
            report=report.path,
            segmentation=self._segmentation(wanted, report, folder / "segmentation"),
            images=self._images(wanted, report, folder / "images"),
        )

    def _images(self, wanted: PriorTable, report: PriorReport, folder: Path) -> tuple[Path, ...]:
        study, series = report.study_instance_uid, report.analysed_series
        if not series:
            return ()
        here = self._here(lambda ledger: [*series_files(ledger, study, series).values()])
        return here or self._fetch(wanted, study, series, folder)

    def _segmentation(self, wanted: PriorTable, report: PriorReport, folder: Path) -> Path | None:
        series, uid = report.segmentation_series, report.segmentation
        if not series:
            return None
        here = self._here(lambda ledger: result_path(ledger, uid))
        objects = here or self._fetch(wanted, report.study_instance_uid, series, folder)
        try:
            return self._reader.call(f"segmentation {uid}", find_instance, objects, uid)
        except NodeError as error:
            logger.warning("earlier segmentation %s: %s", uid, error)
            return None

    def _here(self, paths: Callable[[Connection], list[str]]) -> tuple[Path, ...]:
        with self._engine.connect() as connection:
            own = paths(connection)
        try:
            return self._spool.all_readable(own)
        except PlatformError as error:  # on a machine that cannot be reached; the archive has them too
            logger.warning("earlier files: %s", error)
            return ()

    def _fetch(self, wanted: PriorTable, study: str, series: str, folder: Path) -> tuple[Path, ...]:
        try:
            return tuple(self._studies.objects(wanted, study, series, folder))
        except NodeError as error:
            logger.warning("earlier series %s: %s", series, error)
            return ()
