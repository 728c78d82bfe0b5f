"""Prior studies of a patient at a destination: this node's reports on them and the images they refer to."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from datetime import date, timedelta
from pathlib import Path

from pydicom import Dataset
from sqlalchemy import Engine

from node.config import Config, PriorTable
from node.deliver.query_audit import query_recorder
from node.deliver.retrieve import Archive, archive
from node.studies.attribute_values import day

_MOST_STUDIES = 10
"""Maximum number of prior studies that are searched, latest first."""


class PriorStudies:
    """Retrieves what the ``prior`` tables of the rules ask for; see ``node.inference.prior_files``."""

    def __init__(self, config: Config, engine: Engine) -> None:
        self._config = config
        self._engine = engine

    def reports(
        self, prior: PriorTable, header: Mapping[str, str] | Dataset, folder: Path
    ) -> Generator[list[Path], None, None]:
        """Yield the Comprehensive 3D SRs of each prior study of the patient, latest study first.

        ``header``: attributes of an image of the current study. A study belongs to the patient when the ID is equal,
        and issuer and birth date are equal where both sides have them. The association stays open while the caller
        iterates.

        Raises ``DeliveryError`` when the destination does not answer or refuses.
        """
        today = day(header.get("StudyDate"))
        if today is None or not header.get("PatientID"):
            return
        on_query = query_recorder(self._engine, self._config.destinations[prior.source])
        with archive(self._config, prior, folder, on_query) as opened:
            for study in _prior_studies(opened, header, today, prior.days)[:_MOST_STUDIES]:
                uid = study.StudyInstanceUID
                series = opened.find("SERIES", StudyInstanceUID=uid, SeriesInstanceUID="", Modality="SR")
                yield [
                    path
                    for item in series
                    if str(item.get("Modality")) == "SR"
                    for path in opened.fetch(uid, item.SeriesInstanceUID)
                ]

    def objects(self, prior: PriorTable, study: str, series: str, folder: Path) -> list[Path]:
        """Retrieve all objects of a series. Raises ``DeliveryError`` when the destination fails or refuses."""
        on_query = query_recorder(self._engine, self._config.destinations[prior.source])
        with archive(self._config, prior, folder, on_query) as opened:
            return opened.fetch(study, series)


def _prior_studies(opened: Archive, header: Mapping[str, str] | Dataset, today: date, days: int) -> list[Dataset]:
    """Return studies of the same patient within the last ``days`` days, latest first."""
    first = today - timedelta(days=days)
    series = opened.find(
        "STUDY",
        StudyInstanceUID="",
        PatientID=str(header.get("PatientID")),
        IssuerOfPatientID="",  # returned, not matched: many archives do not store it
        PatientBirthDate="",
        StudyDate=f"{first:%Y%m%d}-{today:%Y%m%d}",
        StudyTime="",
    )
    mine = (str(header.get("StudyDate")), str(header.get("StudyTime") or ""))
    priors = [
        study
        for study in series
        if study.get("StudyInstanceUID") not in (None, "", header.get("StudyInstanceUID"))
        and str(study.get("PatientID", "")).strip() == str(header.get("PatientID")).strip()
        and all(_values_agree(study, header, keyword) for keyword in ("IssuerOfPatientID", "PatientBirthDate"))
        and _date_and_time(study) < mine
    ]
    return sorted(priors, key=_date_and_time, reverse=True)


def _values_agree(first: Dataset, other: Mapping[str, str] | Dataset, keyword: str) -> bool:
    values = {str(d.get(keyword) or "").strip() for d in (first, other)} - {""}
    return len(values) < 2


def _date_and_time(study: Dataset) -> tuple[str, str]:
    return str(study.get("StudyDate") or ""), str(study.get("StudyTime") or "")
