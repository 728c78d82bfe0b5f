"""Earlier studies of a patient at a destination: this node's reports on them, and the images that these are about."""

from __future__ import annotations

from collections.abc import Generator
from datetime import date, timedelta
from pathlib import Path

from pydicom import Dataset
from sqlalchemy import Engine

from node.config import Config, PriorTable
from node.deliver.query_audit import query_recorder
from node.deliver.retrieve import Archive, archive
from node.results.prior.report import day

_MOST_STUDIES = 10
"""Earlier studies that are looked into, the latest first."""


class PriorStudies:
    """What the ``[rules.prior]`` of a configuration ask for; see ``node.inference.prior_files``."""

    def __init__(self, config: Config, engine: Engine) -> None:
        self._config = config
        self._engine = engine

    def reports(self, prior: PriorTable, header: Dataset, folder: Path) -> Generator[list[Path], None, None]:
        """Comprehensive 3D SRs of earlier studies of the patient, a study at a time, the latest first.

        ``header``: of an image of the present study. A study is the patient's when the ID is equal, and issuer and
        birth date are where both sides have them. The association is open as long as the caller goes on.

        Raises ``DeliveryError`` when the destination does not answer or refuses.
        """
        today = day(header.get("StudyDate"))
        if today is None or not header.get("PatientID"):
            return
        record_query = query_recorder(self._engine, self._config.destinations[prior.source])
        with archive(self._config, prior, folder, record_query) as opened:
            for study in _previous_studies(opened, header, today, prior.days)[:_MOST_STUDIES]:
                uid = study.StudyInstanceUID
                found = opened.find("SERIES", StudyInstanceUID=uid, SeriesInstanceUID="", Modality="SR")
                yield [
                    path
                    for one in found
                    if str(one.get("Modality")) == "SR"
                    for path in opened.fetch(uid, one.SeriesInstanceUID)
                ]

    def objects(self, prior: PriorTable, study: str, series: str, folder: Path) -> list[Path]:
        """All objects of a series. Raises ``DeliveryError`` when the destination does not answer or refuses."""
        record_query = query_recorder(self._engine, self._config.destinations[prior.source])
        with archive(self._config, prior, folder, record_query) as opened:
            return opened.fetch(study, series)


def _previous_studies(opened: Archive, header: Dataset, today: date, days: int) -> list[Dataset]:
    """Studies of the same patient in the days before, the latest first."""
    first = today - timedelta(days=days)
    found = opened.find(
        "STUDY",
        StudyInstanceUID="",
        PatientID=str(header.PatientID),
        IssuerOfPatientID="",  # asked for, not matched: many archives keep none
        PatientBirthDate="",
        StudyDate=f"{first:%Y%m%d}-{today:%Y%m%d}",
        StudyTime="",
    )
    mine = (str(header.StudyDate), str(header.get("StudyTime") or ""))
    earlier = [
        study
        for study in found
        if study.get("StudyInstanceUID") not in (None, "", header.StudyInstanceUID)
        and str(study.get("PatientID", "")).strip() == str(header.PatientID).strip()
        and all(_agree(study, header, keyword) for keyword in ("IssuerOfPatientID", "PatientBirthDate"))
        and _moment(study) < mine
    ]
    return sorted(earlier, key=_moment, reverse=True)


def _agree(one: Dataset, other: Dataset, keyword: str) -> bool:
    values = {str(d.get(keyword) or "").strip() for d in (one, other)} - {""}
    return len(values) < 2


def _moment(study: Dataset) -> tuple[str, str]:
    return str(study.get("StudyDate") or ""), str(study.get("StudyTime") or "")
