"""Answers of a DICOMweb service in DICOM JSON (PS3.18 F.2), read as far as the node needs them."""

from __future__ import annotations

from codecs import BOM_UTF8
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, TypeVar

from pydantic import BaseModel, Field, TypeAdapter, ValidationError
from pydantic_core import from_json
from pydicom.datadict import tag_for_keyword

from node.peer_text import escaped
from node.spool import is_uid

Valid = TypeVar("Valid")

_STUDY_UID = "0020000D"
_LAST_DATE = "99991231"


class _Numbers(BaseModel):
    values: tuple[int, ...] | None = Field(default=None, alias="Value")


class _Item(BaseModel):
    failure: _Numbers = Field(default=_Numbers(), alias="00081197")
    warning: _Numbers = Field(default=_Numbers(), alias="00081196")


class _Sequence(BaseModel):
    items: tuple[_Item | None, ...] | None = Field(default=None, alias="Value")

    @property
    def first(self) -> _Item | None:
        return self.items[0] if self.items else None


class _StoreResponse(BaseModel):
    failed: _Sequence = Field(default=_Sequence(), alias="00081198")
    stored: _Sequence = Field(default=_Sequence(), alias="00081199")


class _Uid(BaseModel):
    values: tuple[str, ...] = Field(alias="Value", min_length=1)


class _Texts(BaseModel):
    values: tuple[str | None, ...] | None = Field(default=None, alias="Value")


class _Values(BaseModel):
    values: tuple[Any, ...] | None = Field(default=None, alias="Value")


class _Series(BaseModel):
    uid: _Uid = Field(alias="0020000E")
    modality: _Texts = Field(default=_Texts(), alias="00080060")
    instances: _Numbers = Field(default=_Numbers(), alias="00201209")


class _Instance(BaseModel):
    uid: _Uid = Field(alias="00080018")


_RESPONSE = TypeAdapter(_StoreResponse)
_INSTANCES = TypeAdapter(tuple[_Instance, ...])
_SERIES = TypeAdapter(tuple[_Series, ...])
_STUDIES = TypeAdapter(tuple[dict[str, _Values], ...])


@dataclass(frozen=True, kw_only=True)
class HeldStudy:
    """A study at a service."""

    study_instance_uid: str
    stated: Mapping[str, str]
    """First value of each attribute, by its tag."""

    def matches(self, keyword: str, wanted: str) -> bool:
        """Whether it states a value that matches: the same, by wildcards, or in a range of dates (PS3.4 C.2.2.2)."""
        stated = self.stated.get(f"{tag_for_keyword(keyword):08X}", "")
        if keyword == "StudyDate" and "-" in wanted:
            first, _, last = wanted.partition("-")
            return first <= stated <= (last or _LAST_DATE)
        return fnmatchcase(stated, wanted.replace("[", "[[]"))


@dataclass(frozen=True, kw_only=True)
class HeldSeries:
    """A series at a service."""

    series_instance_uid: str
    modality: str
    """"" when the service does not say."""
    instances: int
    """0: it does not say."""


@dataclass(frozen=True, kw_only=True)
class StoreAnswer:
    """Store Instances Response (PS3.18 10.5.3) to one object."""

    failure: int | None = None
    """Failure Reason (0008,1197); ``None``: it names no failure."""
    warning: int | None = None
    """Warning Reason (0008,1196), 0 when it names none; ``None``: it does not say that the object is stored."""


def read_store_answer(content: bytes) -> StoreAnswer:
    """Read the body of a response, which says nothing when it is no JSON object. Raises ``ValueError``."""
    try:
        body = from_json(content.removeprefix(BOM_UTF8))
    except ValueError:  # XML or HTML
        return StoreAnswer()
    if not isinstance(body, dict):
        return StoreAnswer()
    response = _validated(_RESPONSE, body)
    failed, stored = response.failed.first, response.stored.first
    return StoreAnswer(
        failure=None if failed is None else _first(failed.failure.values, 0x0110),
        warning=None if stored is None else _first(stored.warning.values, 0x0000),
    )


def read_instances(content: bytes) -> set[str]:
    """SOP Instance UIDs of the answer to a query for instances. Raises ``ValueError``."""
    instances = _validated(_INSTANCES, from_json(content.removeprefix(BOM_UTF8)))
    return {instance.uid.values[0] for instance in instances}


def read_studies(content: bytes) -> list[HeldStudy]:
    """Studies of the answer to a query for them. Raises ``ValueError``, also for a UID that is none."""
    studies = []
    for study in _validated(_STUDIES, from_json(content.removeprefix(BOM_UTF8))):
        stated = {tag: str((values.values or ("",))[0] or "").strip() for tag, values in study.items()}
        uid = stated.get(_STUDY_UID, "")
        if not is_uid(uid):
            raise ValueError(f"{_STUDY_UID}: not a UID")
        studies.append(HeldStudy(study_instance_uid=uid, stated=stated))
    return studies


def read_series(content: bytes) -> list[HeldSeries]:
    """Series of the answer to a query for them. Raises ``ValueError``, also for a UID that is none."""
    held = []
    for series in _validated(_SERIES, from_json(content.removeprefix(BOM_UTF8))):
        uid = series.uid.values[0]
        if not is_uid(uid):
            raise ValueError("0020000E: not a UID")
        modality = (series.modality.values or ("",))[0] or ""
        held.append(
            HeldSeries(
                series_instance_uid=uid,
                modality=escaped(modality.strip(), 16),
                instances=_first(series.instances.values, 0),
            )
        )
    return held


def _validated(wanted: TypeAdapter[Valid], body: Any) -> Valid:
    try:
        return wanted.validate_python(body)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        raise ValueError(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}") from None


def _first(numbers: Sequence[int] | None, default: int) -> int:
    return numbers[0] if numbers else default
