"""Patient and descriptions of studies, read from received files and kept in memory only: never in ledger or log."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import sqlalchemy as sa

from node.config.rule_condition import folded
from node.confined import ConfinedProcess
from node.errors import NodeError, PlatformError
from node.ledger.study_history import image_path_of_series
from node.spool import Spool
from node.studies.attributes import attributes_of
from node.wording import person

_OF_STUDY = ("StudyDate", "PatientName", "PatientID", "AccessionNumber", "StudyDescription")
_KEYWORDS = (*_OF_STUDY, "SeriesDescription", "SeriesNumber")
_KEPT = 20_000
"""Headers in memory, of one series each."""


@dataclass(frozen=True, kw_only=True)
class Label:
    """What a study is called. Patient, accession number, description and date are empty unless they may be shown."""

    patient: str = ""
    patient_id: str = ""
    accession: str = ""
    description: str = ""
    date: str = ""
    series: Mapping[str, str] = field(default_factory=dict)
    """Series Instance UID -> Series Description, in the order of arrival."""
    numbers: Mapping[str, str] = field(default_factory=dict)
    """Series Instance UID -> Series Number."""

    def holds(self, text: str) -> bool:
        """Return whether a search for ``text`` matches this study, regardless of case and width."""
        return any(folded(text) in folded(value) for value in (self.patient, self.patient_id, self.accession))

    def is_named(self, text: str) -> bool:
        """Return whether ``text`` is the accession number or the patient ID of this study."""
        return bool(text) and folded(text.strip()) in (folded(self.patient_id.strip()), folded(self.accession.strip()))


class StudyLabels:
    """Reads labels with a confined process; each file once."""

    def __init__(self, spool: Spool, reader: ConfinedProcess, *, show_patient: bool) -> None:
        self._spool = spool
        self._reader = reader
        self._show_patient = show_patient
        self._headers: dict[Path, dict[str, str]] = {}

    def of(self, connection: sa.Connection, studies: Collection[str]) -> dict[str, Label]:
        """The label of each of ``studies``."""
        paths = {key: self._here(path) for key, path in image_path_of_series(connection, list(studies)).items()}
        self._read([path for path in dict.fromkeys(paths.values()) if path not in self._headers])
        own: dict[str, dict[str, dict[str, str]]] = {study: {} for study in studies}
        for (study, series), path in paths.items():
            own[study][series] = self._headers[path]
        return {study: self._labelled(headers) for study, headers in own.items()}

    def _here(self, path: str) -> Path:
        try:
            return self._spool.readable(path)
        except PlatformError:  # of another machine, which does not answer: the study has no label then
            return self._spool.absolute(path)

    def _read(self, paths: Sequence[Path]) -> None:
        while self._headers and len(self._headers) + len(paths) > _KEPT:
            self._headers.pop(next(iter(self._headers)))
        try:
            read = self._reader.call(f"{len(paths)} headers", attributes_of, paths, _KEYWORDS) if paths else []
        except NodeError:
            if len(paths) > 1:  # one file beyond the bounds must not hide the others
                half = len(paths) // 2
                self._read(paths[:half])
                self._read(paths[half:])
                return
            read = [dict.fromkeys(_KEYWORDS, "")] * len(paths)
        self._headers |= dict(zip(paths, read, strict=True))

    def _labelled(self, headers: Mapping[str, Mapping[str, str]]) -> Label:
        series = {uid: values["SeriesDescription"] for uid, values in headers.items()}
        numbers = {uid: values["SeriesNumber"] for uid, values in headers.items()}
        if not (self._show_patient and headers):
            return Label(series=series, numbers=numbers)
        values = next(iter(headers.values()))
        date = values["StudyDate"]
        return Label(
            patient="  ".join(person(values["PatientName"])),
            patient_id=values["PatientID"],
            accession=values["AccessionNumber"],
            description=values["StudyDescription"],
            date=f"{date[:4]}-{date[4:6]}-{date[6:8]}" if len(date) == 8 else "",
            series=series,
            numbers=numbers,
        )
