"""Entries of a Modality Worklist (PS3.4 K.6.1): what is asked for, and which entry is the order of a study. Pure.

Nothing is requested that the node does not keep: no name, birth date or physician.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from pydicom import Dataset

from node.config.order_values import ORDER_PRIORITIES
from node.ledger.new_orders import NewOrder
from node.ledger.order_keys import OrderKeys, is_same_patient, issuers_differ
from node.routing.order_request import request_of
from node.studies.attribute_values import values_of

_LONGEST_TEXT, _LONGEST = 1024, 255
_WILD = frozenset("*?\\")
"""In a matching key these mean other values than themselves (PS3.4 C.2.2.2.4)."""
_STEP = "ScheduledProcedureStepSequence"
_RETURNED = (
    "IssuerOfPatientID",
    "PlacerOrderNumberImagingServiceRequest",
    "FillerOrderNumberImagingServiceRequest",
    "RequestedProcedureID",
    "RequestedProcedurePriority",
    "RequestedProcedureDescription",
    "ReasonForTheRequestedProcedure",
)
_SEQUENCES = (
    "RequestedProcedureCodeSequence",
    "ReasonForRequestedProcedureCodeSequence",
    "IssuerOfAccessionNumberSequence",
)


class QueryKey(StrEnum):
    """By what a worklist is searched."""

    ACCESSION = "accession"
    STUDY = "study"
    PATIENT = "patient"
    """Patient ID and the date of the study as Scheduled Procedure Step Start Date."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One answer of a worklist."""

    order: NewOrder
    procedure_id: str
    dates: frozenset[str]
    """On which steps are scheduled, ``YYYYMMDD``."""
    modalities: frozenset[str]


@dataclass(frozen=True, kw_only=True)
class EntrySelection:
    """The orders of a study among the entries that answered, and why others were not taken."""

    orders: tuple[NewOrder, ...] = ()
    of_other_patients: frozenset[NewOrder] = frozenset()
    of_other_accessions: frozenset[NewOrder] = frozenset()
    ambiguous: frozenset[NewOrder] = frozenset()
    """Procedures of the patient on the day of the study, of which none is surely that of the study."""
    unrelated: frozenset[NewOrder] = frozenset()
    """Entries without what was asked for: the worklist does not search by it."""

    def with_rejected(self, before: EntrySelection) -> EntrySelection:
        """Return this choice with what an earlier search has not taken."""
        names = ("of_other_patients", "of_other_accessions", "ambiguous", "unrelated")
        return replace(self, **{name: getattr(self, name) | getattr(before, name) for name in names})


def searches(images: OrderKeys, study_date: str) -> list[QueryKey]:
    """Return the searches that are possible, the surest first. Values with wildcards are never sent."""
    possible = []
    if _is_plain(images.accession):
        possible.append(QueryKey.ACCESSION)
    if _is_plain(images.study_instance_uid):
        possible.append(QueryKey.STUDY)
    if _is_plain(images.patient_id) and len(study_date) == len("YYYYMMDD") and study_date.isdecimal():
        possible.append(QueryKey.PATIENT)
    return possible


def identifier(by: QueryKey, images: OrderKeys, study_date: str) -> Dataset:
    """Return the identifier of a C-FIND request."""
    wanted, step = Dataset(), Dataset()
    keys = {
        "AccessionNumber": images.accession if by == QueryKey.ACCESSION else "",
        "StudyInstanceUID": images.study_instance_uid if by == QueryKey.STUDY else "",
        "PatientID": images.patient_id if by == QueryKey.PATIENT else "",
    }
    if not all(value.isascii() for value in keys.values()):
        wanted.SpecificCharacterSet = "ISO_IR 192"
    for keyword, value in (keys | dict.fromkeys(_RETURNED, "")).items():
        setattr(wanted, keyword, value)
    for keyword in _SEQUENCES:
        setattr(wanted, keyword, [])
    step.Modality = ""
    step.ScheduledStationAETitle = ""
    step.ScheduledProcedureStepStartDate = study_date if by == QueryKey.PATIENT else ""
    step.ScheduledProcedureStepDescription = ""
    wanted.ScheduledProcedureStepSequence = [step]
    return wanted


def entry_of(answer: Dataset) -> Entry:
    """Read an answer; what it does not say, or says in a way that cannot be read, is empty."""
    priority = _first(answer, "RequestedProcedurePriority").upper()
    procedure = (
        "RequestedProcedureDescription",
        "RequestedProcedureCodeSequence.CodeMeaning",
        f"{_STEP}.ScheduledProcedureStepDescription",
    )
    reasons = values_of(answer, "ReasonForTheRequestedProcedure") + values_of(
        answer, "ReasonForRequestedProcedureCodeSequence.CodeMeaning"
    )
    order = NewOrder(
        keys=request_of(answer),
        procedure_code=_first(answer, "RequestedProcedureCodeSequence.CodeValue")[:_LONGEST],
        procedure=next(filter(None, (_first(answer, path) for path in procedure)), "")[:_LONGEST_TEXT],
        priority=priority if priority in ORDER_PRIORITIES else "",
        reason="; ".join(dict.fromkeys(filter(None, reasons)))[:_LONGEST_TEXT],
    )
    return Entry(
        order=order,
        procedure_id=_first(answer, "RequestedProcedureID"),
        dates=frozenset(filter(None, values_of(answer, f"{_STEP}.ScheduledProcedureStepStartDate"))),
        modalities=frozenset(filter(None, values_of(answer, f"{_STEP}.Modality"))),
    )


def choose(entries: Sequence[Entry], by: QueryKey, images: OrderKeys, study_date: str, modality: str) -> EntrySelection:
    """Return which entries are orders of the study.

    An entry of another patient or accession number is not taken, however the worklist has searched. By patient and day,
    one requested procedure has to remain, among those of the modality where entries state it.
    """
    patients, accessions, unrelated = set(), set(), set()
    taken: list[Entry] = []
    for entry in entries:
        keys = entry.order.keys
        if not _answers(entry, by, images, study_date):
            unrelated.add(entry.order)
        elif not is_same_patient(keys, images):
            patients.add(entry.order)
        elif keys.accession and images.accession and not _is_same_accession(keys, images):
            accessions.add(entry.order)
        else:
            taken.append(entry)
    rejected = EntrySelection(
        of_other_patients=frozenset(patients),
        of_other_accessions=frozenset(accessions),
        unrelated=frozenset(unrelated),
    )
    if by == QueryKey.PATIENT:
        taken = [entry for entry in taken if not entry.modalities or not modality or modality in entry.modalities]
    orders = list({(entry.order.keys, entry.procedure_id): entry.order for entry in reversed(taken)}.values())[::-1]
    if by != QueryKey.PATIENT:
        return replace(rejected, orders=tuple(orders))
    if len(orders) > 1:
        return replace(rejected, ambiguous=frozenset(orders))
    # The images name neither the study nor the order of the worklist: this is the link.
    linked = (
        replace(order, keys=replace(order.keys, study_instance_uid=images.study_instance_uid)) for order in orders
    )
    return replace(rejected, orders=tuple(linked))


def _answers(entry: Entry, by: QueryKey, images: OrderKeys, study_date: str) -> bool:
    """Whether an entry has what was asked for: a worklist need not support a key, and then answers with all."""
    keys = entry.order.keys
    if by == QueryKey.ACCESSION:
        return keys.accession == images.accession
    if by == QueryKey.STUDY:
        return keys.study_instance_uid == images.study_instance_uid
    return keys.patient_id == images.patient_id and study_date in entry.dates


def _is_same_accession(order: OrderKeys, images: OrderKeys) -> bool:
    same_issuer = not issuers_differ(order.accession_issuer, images.accession_issuer)
    return order.accession == images.accession and same_issuer


def _is_plain(value: str) -> bool:
    return bool(value) and _WILD.isdisjoint(value)


def _first(answer: Dataset, path: str) -> str:
    return next(filter(None, values_of(answer, path)), "")
