"""Asks a destination for this node's report on an earlier study of the same patient: C-FIND, then C-GET (PS3.4 C).

C-GET brings the report on the association that asked for it. C-MOVE would bring it to our receiver, where nothing tells
it from what scanners send.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path

import sqlalchemy as sa
from pydicom import Dataset
from pydicom.uid import Comprehensive3DSRStorage
from pynetdicom import build_context, build_role, evt
from pynetdicom.association import Association
from pynetdicom.sop_class import (
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
)

from node.config import Config, PriorTable
from node.deliver.asked import Told, telling
from node.deliver.association import Peer, Timeouts, associate
from node.errors import DeliveryError
from node.results.prior import day

_MOST_STUDIES = 10
"""Earlier studies that are looked into, the latest first."""
Request = Callable[[Dataset, str], Iterable[tuple[Dataset, Dataset | None]]]
_PENDING = frozenset({0xFF00, 0xFF01})


class EarlierReports:
    """``fetch_reports`` for the ``[rules.prior]`` of a configuration."""

    def __init__(self, config: Config, engine: sa.Engine) -> None:
        self._config = config
        self._engine = engine

    def __call__(self, prior: PriorTable, header: Dataset, folder: Path) -> Generator[list[Path], None, None]:
        source = self._config.destinations[prior.source]
        peer, told = Peer.of(prior.source, source), telling(self._engine, source)
        return fetch_reports(peer, self._config.ae.title, header, prior.days, folder, told=told)


def fetch_reports(
    peer: Peer, calling_title: str, header: Dataset, days: int, folder: Path, *, told: Told | None = None
) -> Generator[list[Path], None, None]:
    """Comprehensive 3D SRs of earlier studies of the patient, a study at a time, the latest first; saved to ``folder``.

    ``header``: of an image of the present study. A study is the patient's when the ID is equal, and issuer and birth
    date are where both sides have them. The association is open as long as the caller goes on; ``told`` hears of
    every query.

    Raises ``DeliveryError`` when the destination does not answer or refuses.
    """
    today = day(header.get("StudyDate"))
    if today is None or not header.get("PatientID"):
        return
    folder.mkdir(parents=True, exist_ok=True)
    with _association(peer, calling_title, folder, told) as association:
        for study in list(_earlier(association, peer, header, today, days))[:_MOST_STUDIES]:
            before = set(folder.iterdir())
            for series in _find(association, peer, _keys("SERIES", study.StudyInstanceUID, Modality="SR")):
                if str(series.get("Modality")) == "SR":
                    _get(association, peer, _keys("SERIES", study.StudyInstanceUID, series.SeriesInstanceUID))
            yield sorted(set(folder.iterdir()) - before)


@contextmanager
def _association(peer: Peer, calling_title: str, folder: Path, told: Told | None) -> Iterator[Association]:
    def keep(event: evt.Event) -> int:
        name = f"{len(list(folder.iterdir())):04d}.dcm"  # what the peer calls it is nothing to name a file by
        (folder / name).write_bytes(event.encoded_dataset())
        return 0x0000

    models = (StudyRootQueryRetrieveInformationModelFind, StudyRootQueryRetrieveInformationModelGet)
    contexts = [build_context(uid) for uid in (*models, Comprehensive3DSRStorage)]
    roles = [build_role(Comprehensive3DSRStorage, scp_role=True)]
    with associate(peer, calling_title, contexts, Timeouts(), roles=roles, on_store=keep, told=told) as association:
        yield association


def _earlier(association: Association, peer: Peer, header: Dataset, today: date, days: int) -> list[Dataset]:
    """Studies of the same patient in the days before, the latest first."""
    first = today - timedelta(days=days)
    query = _keys(
        "STUDY",
        "",
        PatientID=str(header.PatientID),
        IssuerOfPatientID="",  # asked for, not matched: many archives keep none
        PatientBirthDate="",
        StudyDate=f"{first:%Y%m%d}-{today:%Y%m%d}",
        StudyTime="",
    )
    mine = (str(header.StudyDate), str(header.get("StudyTime") or ""))
    found = [
        study
        for study in _find(association, peer, query)
        if study.get("StudyInstanceUID") not in (None, "", header.StudyInstanceUID)
        and str(study.get("PatientID", "")).strip() == str(header.PatientID).strip()
        and all(_agree(study, header, keyword) for keyword in ("IssuerOfPatientID", "PatientBirthDate"))
        and _moment(study) < mine
    ]
    return sorted(found, key=_moment, reverse=True)


def _agree(one: Dataset, other: Dataset, keyword: str) -> bool:
    values = {str(d.get(keyword) or "").strip() for d in (one, other)} - {""}
    return len(values) < 2


def _moment(study: Dataset) -> tuple[str, str]:
    return str(study.get("StudyDate") or ""), str(study.get("StudyTime") or "")


def _keys(level: str, study_uid: str, series_uid: str = "", **keys: str) -> Dataset:
    query = Dataset()
    query.QueryRetrieveLevel = level
    query.StudyInstanceUID = study_uid
    if level == "SERIES":
        query.SeriesInstanceUID = series_uid
    for keyword, value in keys.items():
        setattr(query, keyword, value)
    return query


def _find(association: Association, peer: Peer, query: Dataset) -> list[Dataset]:
    return list(_answers(association.send_c_find, query, StudyRootQueryRetrieveInformationModelFind, peer, "C-FIND"))


def _get(association: Association, peer: Peer, query: Dataset) -> None:
    for _ in _answers(association.send_c_get, query, StudyRootQueryRetrieveInformationModelGet, peer, "C-GET"):
        pass  # the reports arrive as C-STORE requests


def _answers(request: Request, query: Dataset, model: str, peer: Peer, what: str) -> Iterator[Dataset]:
    try:
        for status, identifier in request(query, model):
            if "Status" not in status:
                raise DeliveryError(f"{peer}: no answer to {what}; check that it can be queried by this node")
            if status.Status in _PENDING and identifier is not None:
                yield identifier
            elif status.Status not in (*_PENDING, 0x0000, 0xB000):  # B000: some sub-operations failed
                raise DeliveryError(f"{peer}: {what} refused with status {status.Status:04X}; ask its administrator")
    except (RuntimeError, ValueError) as error:
        raise DeliveryError(f"{peer}: {what} is not possible ({error}); let its administrator allow it") from error
