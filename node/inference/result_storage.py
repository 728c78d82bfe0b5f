"""Storage of result objects: the durable file and the values of its row.

The objects come from a process that parsed what strangers sent. Whatever happened to it, no object of another patient
or study is stored as one that may be sent: a walk over the undecoded elements of each says whose it is.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from pydicom.datadict import keyword_for_tag, tag_for_keyword

from node.errors import GateError, InputError
from node.inference.encode_task import EncodedFile
from node.spool import Spool, is_uid
from node.studies.element_bytes import top_elements

_UIDS = (
    "MediaStorageSOPClassUID", "MediaStorageSOPInstanceUID", "TransferSyntaxUID",
    "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID",
)  # fmt: skip
_PATIENT = ("PatientID", "IssuerOfPatientID", "PatientName", "PatientBirthDate")
_TAGS = frozenset(int(tag_for_keyword(keyword) or 0) for keyword in (*_UIDS, *_PATIENT))


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What results must be about."""

    study_instance_uid: str
    images: tuple[Path, ...]
    """Files of the images, or of the results that a note is about."""
    taken: set[str] = field(default_factory=set)
    """UIDs that a result must not have: of the images, of the series, of the results before it."""

    def check(self, values: dict[str, bytes]) -> None:
        """Raise ``GateError`` when an object with these values is about another patient or study, or badly named."""
        for keyword in _UIDS:
            if not is_uid(values[keyword].decode("ascii", "replace")):
                raise GateError(f"{keyword} of an encoded object is no UID (PS3.5 9.1)")
        if values["StudyInstanceUID"].decode() != self.study_instance_uid:
            raise GateError("StudyInstanceUID of an encoded object is not that of the images")
        for keyword in ("SOPClassUID", "SOPInstanceUID"):
            if values[keyword] != values[f"MediaStorage{keyword}"]:
                raise GateError(f"MediaStorage{keyword} of an encoded object differs from {keyword}")
        uids = {values["SOPInstanceUID"].decode(), values["SeriesInstanceUID"].decode()}
        if used := uids & self.taken:
            raise GateError(f"UID {min(used)} of an encoded object is used already")
        self.taken.add(values["SOPInstanceUID"].decode())
        for stated in self._stated():
            wrong = [keyword for keyword in _PATIENT if values[keyword] != stated[keyword]]
            if not wrong:
                return
        raise GateError(f"{', '.join(wrong)} of an encoded object is not that of the images")

    def _stated(self) -> Iterable[dict[str, bytes]]:
        """Values of the images, one after the other: the first that can be read is nearly always enough."""
        fault: InputError | None = None
        for path in self.images:
            try:
                yield _values(path)
            except InputError as error:
                fault = error
        if fault is not None:
            raise GateError(f"no image says whose they are: {fault}") from fault


def store_result(spool: Spool, job_id: str, file: Path, encoded: EncodedFile, subject: Subject) -> dict[str, object]:
    """Copy one object durably; return the values of its ``result`` row, but for its time.

    Raises ``InputError`` when it is no object, ``GateError`` when it is not about the subject.
    """
    draft = spool.drafts.new()
    try:
        try:
            draft.copy(file)
        except InputError as error:
            raise GateError(f"encoded object {error}") from error
        values = _values(draft.path)
        if encoded.quarantine is None:
            subject.check(values)
        uid = {keyword: value.decode("ascii", "replace") for keyword, value in values.items() if keyword in _UIDS}
        stored = spool.keep_result(job_id, uid["MediaStorageSOPInstanceUID"], draft)
    finally:
        draft.discard()
    return {
        "sop_instance_uid": uid["MediaStorageSOPInstanceUID"],
        "job_id": job_id,
        "sop_class_uid": uid["MediaStorageSOPClassUID"],
        "transfer_syntax_uid": uid["TransferSyntaxUID"],
        "series_instance_uid": uid["SeriesInstanceUID"],
        "description": encoded.description[:64],
        "path": stored.path,
        "digest": stored.digest,
        "size": stored.size,
        "quarantine": encoded.quarantine,
        "kind": encoded.kind,
        "analysis": encoded.analysis,
        "version": encoded.version,
        "replaces": encoded.replaces,
    }


def _values(path: Path) -> dict[str, bytes]:
    values = top_elements(path, _TAGS)
    of = {keyword_for_tag(tag): value.strip(b" \0") for tag, value in values.items()}
    return {keyword: of.get(keyword, b"") for keyword in (*_UIDS, *_PATIENT)}
