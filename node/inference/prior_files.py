"""Files of the prior analysis that a rule requests: report, segmentation, and the images of both."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Generator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pydicom import Dataset
from sqlalchemy import Connection, Engine

from node.config import PriorTable
from node.errors import NodeError
from node.inference.task import PriorFiles
from node.ledger.instances import series_files
from node.ledger.jobs import result_path
from node.results.prior.report import analysed_series, latest_report, referenced_segmentation
from node.spool import Spool
from node.studies.header import read_header
from node.studies.identity import PRIOR, contradictions

logger = logging.getLogger(__name__)


class PriorStudies(Protocol):
    """Prior studies of a patient as files; ``node.deliver.prior_studies`` retrieves them from an archive."""

    def reports(self, prior: PriorTable, header: Dataset, folder: Path) -> Generator[list[Path], None, None]:
        """Reports, a study at a time, the latest first; ``header``: of an image of the present study."""

    def objects(self, prior: PriorTable, study: str, series: str, folder: Path) -> list[Path]:
        """All objects of a series."""


@dataclass(frozen=True, kw_only=True)
class PriorFinder:
    """Finds prior files: the report in the archive, all others in this node's files first."""

    studies: PriorStudies
    engine: Engine
    spool: Spool

    def files(self, wanted: PriorTable, names: Collection[str], first: Path, folder: Path) -> PriorFiles:
        """Return the files to compare with. Retrieved files are written to ``folder``.

        ``names``: what reports call the pipeline, or have called it; ``first``: an image of the present study.

        A destination that cannot be asked is no reason to wait with a result.
        """
        try:
            with closing(self.studies.reports(wanted, read_header(first), folder / "reports")) as studies:
                candidates = (latest_report([read_header(path) for path in files], names) for files in studies)
                report = next((one for one in candidates if one is not None), None)
        except NodeError as error:
            logger.warning("no earlier analysis for pipeline %s: %s", " or ".join(names), error)
            remark = f"Earlier analyses could not be asked for at {wanted.source}; nothing was compared."
            return PriorFiles(without=remark)
        if report is not None and contradictions([read_header(first), report], PRIOR):
            logger.warning("earlier report %s is of another patient", report.SOPInstanceUID)
            report = None
        if report is None:
            return PriorFiles(without=f"No earlier analysis was found at {wanted.source} within {wanted.days} days.")
        return PriorFiles(
            report=Path(str(report.filename)),
            segmentation=self._segmentation(wanted, report, folder / "segmentation"),
            images=self._images(wanted, report, folder / "images"),
        )

    def _images(self, wanted: PriorTable, report: Dataset, folder: Path) -> tuple[Path, ...]:
        series = analysed_series(report)
        if not series:
            return ()
        here = self._here(lambda ledger: [*series_files(ledger, str(report.StudyInstanceUID), series).values()])
        return here or self._fetch(wanted, report, series, folder)

    def _segmentation(self, wanted: PriorTable, report: Dataset, folder: Path) -> Path | None:
        series, uid = referenced_segmentation(report)
        if not series:
            return None
        here = self._here(lambda ledger: result_path(ledger, uid))
        objects = here or self._fetch(wanted, report, series, folder)
        return next((path for path in objects if str(read_header(path).get("SOPInstanceUID")) == uid), None)

    def _here(self, paths: Callable[[Connection], list[str]]) -> tuple[Path, ...]:
        with self.engine.connect() as connection:
            return tuple(self.spool.absolute(path) for path in paths(connection))

    def _fetch(self, wanted: PriorTable, report: Dataset, series: str, folder: Path) -> tuple[Path, ...]:
        try:
            return tuple(self.studies.objects(wanted, str(report.StudyInstanceUID), series, folder))
        except NodeError as error:
            logger.warning("earlier series %s: %s", series, error)
            return ()
