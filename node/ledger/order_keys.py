"""Numbers by which an order and a series of images are matched, and the rule that matches them. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class OrderState(StrEnum):
    """Whether an order still asks for something."""

    ACTIVE = "active"
    CANCELED = "canceled"


@dataclass(frozen=True, kw_only=True)
class OrderKeys:
    """What an order, or the header of an image, says of the order; empty: it does not say."""

    study_instance_uid: str = ""
    accession: str = ""
    accession_issuer: str = ""
    """Namespace, universal ID and type, joined by ``&``, as far as they are known."""
    placer: str = ""
    filler: str = ""
    patient_id: str = ""
    patient_issuer: str = ""
    """As ``accession_issuer``."""

    @property
    def numbers(self) -> dict[str, str]:
        """The numbers by which orders are looked for, without those that are not known."""
        names = ("study_instance_uid", "accession", "placer", "filler")
        return {name: value for name in names if (value := getattr(self, name))}


def names_same_order(order: OrderKeys, images: OrderKeys) -> bool:
    """Return whether both have the same study, or the same accession, placer or filler number.

    An accession number of another issuer is another number.
    """
    same = {name for name, value in order.numbers.items() if images.numbers.get(name) == value}
    if issuers_differ(order.accession_issuer, images.accession_issuer):
        same.discard("accession")
    return bool(same)


def is_same_patient(order: OrderKeys, images: OrderKeys) -> bool:
    """Return whether the order is of the patient of the images.

    Both state the same ID and no different issuers. Without an ID on one side only a Study Instance UID, which no two
    patients share, counts.
    """
    if not order.patient_id or not images.patient_id:
        return bool(order.study_instance_uid) and order.study_instance_uid == images.study_instance_uid
    same_issuer = not issuers_differ(order.patient_issuer, images.patient_issuer)
    return order.patient_id == images.patient_id and same_issuer


def issuers_differ(first: str, second: str) -> bool:
    """Return whether two issuers are known and have neither name nor universal ID in common."""
    names, others = (
        {part.casefold() for part in issuer.split("&")[:2] if part} for issuer in (first, second)
    )  # the type, such as ISO, is nobody's name
    return bool(names) and bool(others) and names.isdisjoint(others)
