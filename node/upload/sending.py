"""Sends the files of an upload with C-STORE to a Storage SCP."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from pydicom.uid import UID
from pynetdicom import build_context
from pynetdicom.association import Association

from node.deliver.association import Peer, Timeouts, associate
from node.deliver.object_result import Answer
from node.deliver.store import send_file
from node.errors import DeliveryError, InputError, PlatformError, UnreachableError
from node.ledger.pending_deliveries import is_stored
from node.upload.directory_file import instances_of, is_directory
from node.upload.file_result import FileKind, FileResult
from node.upload.medium import MediumFile
from node.upload.part10_meta import LARGEST_META, Part10Meta, part10_meta

_MOST_CONTEXTS = 128
"""Presentation contexts of one association (PS3.8 9.3.2.2)."""
_UNSENDABLE = (ValueError, AttributeError)
"""From pynetdicom: no presentation context was accepted for the file, or it changed after it was looked at."""


@dataclass(frozen=True)
class _Instance:
    file: MediumFile
    meta: Part10Meta

    @property
    def context(self) -> tuple[str, str]:
        return self.meta.sop_class_uid, self.meta.transfer_syntax_uid


def send_files(files: Iterable[MediumFile], peer: Peer, calling_title: str, timeouts: Timeouts) -> Iterator[FileResult]:
    """Send every instance among ``files`` and yield the result of each file.

    An association that is lost costs the file that was being sent; the others go over the next one. Raises
    ``UnreachableError`` or ``RejectedError`` when no association can be opened.
    """
    waiting: list[_Instance] = []
    for file in files:
        result = _looked_at(file)
        if isinstance(result, _Instance):
            waiting.append(result)
        else:
            yield result
    while waiting:
        batch, sent = _first_batch(waiting), 0
        contexts = [build_context(*context) for context in sorted({instance.context for instance in batch})]
        try:
            with associate(peer, calling_title, contexts, timeouts) as association:
                for instance in batch:
                    answer = _answer(association, instance, timeouts)
                    sent += 1
                    yield _result(instance, answer)
                    if answer.lost:
                        break
        except UnreachableError:
            raise
        except DeliveryError as error:  # it accepts none of the presentation contexts
            for instance in batch:
                yield _result(instance, Answer(status=None, comment=str(error)))
            sent = len(batch)
        del waiting[:sent]


def _looked_at(file: MediumFile) -> FileResult | _Instance:
    try:
        meta = part10_meta(file.beginning(LARGEST_META))
        if meta is not None and is_directory(meta):
            return FileResult(name=file.name, kind=FileKind.DIRECTORY, named=tuple(instances_of(file)))
    except (InputError, PlatformError) as error:
        return FileResult(name=file.name, kind=FileKind.REFUSED, reason=str(error))
    if meta is None:
        return FileResult(name=file.name, kind=FileKind.OTHER)
    return _Instance(file, meta)


def _first_batch(waiting: Sequence[_Instance]) -> Sequence[_Instance]:
    """Return as many as one association has presentation contexts for."""
    contexts: set[tuple[str, str]] = set()
    for count, instance in enumerate(waiting):
        contexts.add(instance.context)
        if len(contexts) > _MOST_CONTEXTS:
            return waiting[:count]
    return list(waiting)


def _answer(association: Association, instance: _Instance, timeouts: Timeouts) -> Answer:
    sop_class, syntax = map(UID, instance.context)
    description = f"{sop_class.name} in {syntax.name}"
    try:
        with instance.file.on_disk() as path:
            return send_file(association, path, timeouts, description)
    except _UNSENDABLE:
        return Answer(status=None, comment=f"the receiver does not accept {description}")
    except (InputError, OSError) as error:
        return Answer(status=None, comment=str(error))


def _result(instance: _Instance, answer: Answer) -> FileResult:
    stored = is_stored(answer.status)
    refusal = answer.comment if answer.status is None else f"status 0x{answer.status:04X}, {answer.comment}"
    return FileResult(
        name=instance.file.name,
        kind=FileKind.STORED if stored else FileKind.REFUSED,
        sop_class_uid=instance.meta.sop_class_uid,
        sop_instance_uid=instance.meta.sop_instance_uid,
        reason="" if stored else refusal,
        status=answer.status,
    )
