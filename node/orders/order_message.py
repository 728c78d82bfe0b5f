"""What a message says that the node uses: orders, reports on them, changes of a patient. Pure.

Everything else, such as names, addresses and insurance, is not kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

from node.config import Orders
from node.config.order_values import ORDER_PRIORITIES
from node.ledger.new_orders import NewOrder, NewPatientChange, OrderMessage, ReportStatus
from node.ledger.order_keys import OrderKeys, OrderState
from node.orders.hl7_text import Hl7Error, Hl7Text, Segment

MOST_ORDERS = 200
_LONGEST_NUMBER, _LONGEST_TEXT = 255, 1024
_NEW = frozenset({"ORM^O01", "OMI^O23", "OMG^O19"})
_REPORT, _UPDATE, _MERGE = "ORU^R01", "ADT^A08", "ADT^A40"
TAKEN = (*sorted(_NEW), _REPORT, _UPDATE, _MERGE)
_CANCELED = frozenset({"CA", "OC", "CR", "DC", "OD", "DR"})
"""Order control codes (table 0119): canceled or discontinued, by placer or filler."""
_PRIORITIES = MappingProxyType({"S": "STAT", "A": "HIGH", "P": "HIGH", "C": "HIGH", "T": "MEDIUM", "R": "ROUTINE"})
"""HL7's priorities (table 0485) as Requested Procedure Priority (0040,1003), as IHE RAD-4 has them."""


@dataclass(kw_only=True)
class _Group:
    """Segments of one order."""

    common: Segment | None = None
    """ORC."""
    request: Segment | None = None
    """OBR."""
    timing: Segment | None = None
    """TQ1."""
    imaging: Segment | None = None
    """IPC."""


def kind_of(header: Segment) -> str:
    """Return message code and trigger event, such as ``ORM^O01``."""
    return f"{header.text(9, 1)}^{header.text(9, 2)}"[:_LONGEST_NUMBER]


def order_message_of(text: Hl7Text, settings: Orders) -> OrderMessage:
    """Return what the message says. Raises ``Hl7Error`` where it is of another kind or lacks what it is about."""
    kind = kind_of(text.header)
    if kind not in TAKEN:
        raise Hl7Error(f"MSH-9 is none of {', '.join(TAKEN)}", answer="AR")
    if kind in (_UPDATE, _MERGE):
        return OrderMessage(changes=_changes(text, settings, is_merge=kind == _MERGE))
    patient = _patient(text.first("PID"), settings)
    whole = text.first("ZDS")
    groups = _groups(text)
    if not groups:
        raise Hl7Error("no segment ORC or OBR")
    if kind == _REPORT:
        reports = [
            ReportStatus(keys=_keys(group, patient, whole, settings), status=group.request.text(25)[:_LONGEST_NUMBER])
            for group in groups
            if group.request is not None
        ]
        return OrderMessage(reports=tuple(report for report in reports if report.keys.numbers))
    return OrderMessage(orders=tuple(_order(group, patient, whole, settings) for group in groups))


def _groups(text: Hl7Text) -> list[_Group]:
    groups: list[_Group] = []
    for segment in text.segments:
        if segment.name == "ORC" or (segment.name == "OBR" and (not groups or groups[-1].request is not None)):
            groups.append(_Group())
        if not groups:
            continue
        group = groups[-1]
        if segment.name == "ORC":
            group.common = segment
        elif segment.name == "OBR":
            group.request = segment
        elif segment.name == "TQ1":
            group.timing = group.timing or segment
        elif segment.name == "IPC":
            group.imaging = group.imaging or segment
    if len(groups) > MOST_ORDERS:
        raise Hl7Error(f"more than {MOST_ORDERS} orders", answer="AR")
    return groups


def _order(group: _Group, patient: tuple[str, str], whole: Segment | None, settings: Orders) -> NewOrder:
    keys = _keys(group, patient, whole, settings)
    if not keys.numbers:
        raise Hl7Error("an order without placer, filler, accession number and Study Instance UID")
    request, common = group.request, group.common
    code = "44" if request is not None and request.text(44) else "4"
    canceled = common is not None and (common.text(1) in _CANCELED or common.text(5) == "CA")
    return NewOrder(
        keys=keys,
        procedure_code=_number(request.text(int(code))) if request is not None else "",
        procedure=(request.text(int(code), 2) if request is not None else "")[:_LONGEST_TEXT],
        priority=_priority(group),
        reason=_reason(request),
        state=OrderState.CANCELED if canceled else OrderState.ACTIVE,
    )


def _keys(group: _Group, patient: tuple[str, str], whole: Segment | None, settings: Orders) -> OrderKeys:
    common, request, imaging = group.common, group.request, group.imaging

    def of_either(number: int) -> str:
        return next(
            (text for segment in (common, request) if segment is not None and (text := segment.text(number))), ""
        )

    accession, issuer, study = "", "", ""
    if imaging is not None:
        accession, study = imaging.text(1), imaging.text(3)
        issuer = _joined([imaging.text(1, number) for number in (2, 3, 4)])
    if not accession and request is not None:
        number = int(settings.accession.partition("-")[2])
        accession = request.text(number)
        issuer = _joined([request.text(number, part) for part in (2, 3, 4)])
    if not study and whole is not None:
        study = whole.text(1)
    return OrderKeys(
        study_instance_uid=_number(study),
        accession=_number(accession),
        accession_issuer=issuer if accession else "",
        placer=_number(of_either(2)),
        filler=_number(of_either(3)),
        patient_id=patient[0],
        patient_issuer=patient[1],
    )


def _priority(group: _Group) -> str:
    """From TQ1-9, ORC-7 and OBR-27 (component 6), or OBR-5: the first that is stated."""
    places = ((group.timing, 9, 1), (group.common, 7, 6), (group.request, 27, 6), (group.request, 5, 1))
    stated = (segment.text(number, part) for segment, number, part in places if segment is not None)
    word = next((text for text in stated if text), "").upper()
    if word in ORDER_PRIORITIES:
        return word
    return _PRIORITIES.get("T" if word.startswith("TS") else word, "")


def _reason(request: Segment | None) -> str:
    if request is None:
        return ""
    texts = (request.plain(components, 2) or request.plain(components, 1) for components in request.repetitions(31))
    return "; ".join(filter(None, texts))[:_LONGEST_TEXT]


def _changes(text: Hl7Text, settings: Orders, *, is_merge: bool) -> tuple[NewPatientChange, ...]:
    """A40 has PID and MRG of each patient; A08 has one PID."""
    changes: list[NewPatientChange] = []
    patient: Segment | None = None
    for segment in text.segments:
        if segment.name == "PID":
            patient = segment
            if not is_merge:
                changes.append(_change(patient, None, settings))
        elif segment.name == "MRG" and is_merge and patient is not None:
            changes.append(_change(patient, segment, settings))
    if not changes:
        raise Hl7Error("no segment MRG after a segment PID" if is_merge else "no segment PID")
    if len(changes) > MOST_ORDERS:
        raise Hl7Error(f"more than {MOST_ORDERS} patients", answer="AR")
    return tuple(changes)


def _change(patient: Segment, prior: Segment | None, settings: Orders) -> NewPatientChange:
    patient_id, issuer = _patient(patient, settings)
    prior_id, prior_issuer = ("", "") if prior is None else _identifier(prior, 1, settings)
    if not patient_id or (prior is not None and not prior_id):
        raise Hl7Error("PID-3 or MRG-1 has no ID of the assigning authority that [orders] names")
    if prior is not None and (prior_id, prior_issuer) == (patient_id, issuer):
        raise Hl7Error("MRG-1 names the patient of PID-3")
    return NewPatientChange(patient_id=patient_id, patient_issuer=issuer, prior_id=prior_id, prior_issuer=prior_issuer)


def _patient(segment: Segment | None, settings: Orders) -> tuple[str, str]:
    return ("", "") if segment is None else _identifier(segment, 3, settings)


def _identifier(segment: Segment, number: int, settings: Orders) -> tuple[str, str]:
    """ID and issuer of a patient (CX): of the configured authority, else of type MR or PI, else the first."""
    candidates = []
    for components in segment.repetitions(number):
        identifier = _number(segment.plain(components, 1))
        if identifier:
            names = segment.subcomponents(components, 4)[:3]
            candidates.append((identifier, names, segment.plain(components, 5)))
    wanted = settings.patient_id_authority.casefold()
    if wanted:
        candidates = [candidate for candidate in candidates if wanted in {name.casefold() for name in candidate[1]}]
    candidates.sort(key=lambda candidate: candidate[2] not in {"MR", "PI"})
    return (candidates[0][0], _joined(candidates[0][1])) if candidates else ("", "")


def _joined(names: list[str]) -> str:
    return "&".join(name.replace("&", " ") for name in names).rstrip("&")[:_LONGEST_NUMBER]


def _number(text: str) -> str:
    if len(text) > _LONGEST_NUMBER:
        raise Hl7Error(f"a number or code of more than {_LONGEST_NUMBER} characters")
    return text
