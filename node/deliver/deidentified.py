"""De-identified objects in the place of stored ones, for destinations with ``deidentify``.

An object is made when it is sent, and again the same when it is sent again; only its digest is kept. One that must not
be sent, or in which something of its identity is left, is withheld: nothing of it leaves the node.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace

from sqlalchemy import Engine

from node.config import Config, Destination
from node.confined import Bounds, shared_process
from node.deidentify.calls import deidentify_file
from node.deidentify.key import deidentify_key
from node.deidentify.profile_of_destination import VISUAL_FEATURES, PixelMask, Profile
from node.deidentify.pseudonyms import Pseudonyms
from node.deidentify.source_images import SourceImage
from node.deliver.object_result import Answer, Store
from node.errors import EncodeError, GateError, InputError, ProcessAbsentError
from node.ledger.deliveries import Sent
from node.ledger.pending_deliveries import PendingObject
from node.spool import Spool

_BOUNDS = Bounds(memory_mib=8192, cpu_seconds=300, wall_seconds=900.0)
"""The object, what was written and both as values: four times the largest object of practice."""
_IDLE_SECONDS = 10.0
"""After which a connection is replaced: many archives end one on which nothing comes for 30 s."""


def profile_of(config: Config, engine: Engine, name: str, destination: Destination) -> Profile | None:
    """Return how a destination gets its objects; ``None``: as they are. Raises as ``deidentify_key``."""
    if not destination.deidentify:
        return None
    return Profile(
        key=deidentify_key(config, engine),
        destination=name,
        options=tuple(sorted(destination.deidentify_options)),
        read_text=config.deidentify.read_text,
        masks=tuple(PixelMask(**mask.model_dump()) for mask in config.deidentify.masks),
    )


def needs_series(profile: Profile | None) -> bool:
    """Whether an object is de-identified with the other images of its series."""
    return profile is not None and VISUAL_FEATURES in profile.options


@contextmanager
def deidentified(
    spool: Spool, pending: PendingObject, profile: Profile, series: tuple[SourceImage, ...]
) -> Iterator[tuple[PendingObject, Sent]]:
    """De-identify an object; yield it, as a temporary file, and its digest.

    ``series``: the images of which it is one, or of which it was made, where they are needed.

    Raises ``GateError`` when it must not be sent, or could not be looked at in time; ``InputError`` when it cannot be
    read, ``OSError`` when the disk cannot be written.
    """
    draft, written = spool.drafts.new(), spool.drafts.new()
    try:
        process = shared_process("de-identifier", spool.data_folders, _BOUNDS, writable=(written.path.parent,))
        about = f"instance {pending.sop_instance_uid}"
        is_result = bool(pending.kind)
        source = spool.readable(pending.path)
        try:
            identity = process.call(about, deidentify_file, source, profile, written.path, series, is_result=is_result)
        except ProcessAbsentError as error:
            raise GateError(_late(profile)) from error
        draft.copy(written.path)
        pseudonyms = Pseudonyms(profile.key, profile.destination)
        expected = {
            "sop_instance_uid": pseudonyms.uid(pending.sop_instance_uid),
            "series_instance_uid": pseudonyms.uid(pending.series_instance_uid),
            "study_instance_uid": pseudonyms.uid(pending.study_instance_uid),
        }
        if any(getattr(identity, name) != uid for name, uid in expected.items()):
            raise GateError("not sent: the UIDs of the de-identified object are not those that belong to it")
        syntax = identity.transfer_syntax_uid
        path = str(draft.path.relative_to(spool.folder))
        yield (
            replace(pending, **expected, path=path, size=draft.size, transfer_syntax_uid=syntax),
            Sent(transfer_syntax_uid=syntax, digest=draft.digest),
        )
    finally:
        draft.discard()
        written.discard()


def _late(profile: Profile) -> str:
    """What the operator of a withheld object reads: later objects of the job do not wait for it."""
    search = " and the search for text in its pixels (read_text)" if profile.read_text else ""
    return (
        f"not sent: its de-identification{search} took longer than {_BOUNDS.wall_seconds:g} s; it is tried again: see "
        "what else the machine computes, or let no rule send such images"
    )


@contextmanager
def reopened(open_store: Callable[[], AbstractContextManager[Store]]) -> Iterator[Store]:
    """Yield a store that is opened now, and again before an object that was made for long. Raises as ``open_store``."""
    with ExitStack() as using:
        store, used_at = using.enter_context(open_store()), time.monotonic()

        def send(pending: PendingObject) -> Answer:
            nonlocal store, used_at
            if time.monotonic() - used_at > _IDLE_SECONDS:
                using.close()
                store = using.enter_context(open_store())
            answer = store(pending)
            used_at = time.monotonic()
            return answer

        yield send


def deidentified_store(store: Store, spool: Spool, profile: Profile, series: tuple[SourceImage, ...]) -> Store:
    """Return a store that sends what ``profile`` makes of each object; ``store``: of the destination.

    ``series``: as in ``deidentified``.
    """

    def send(pending: PendingObject) -> Answer:
        try:
            with deidentified(spool, pending, profile, series) as (instead, sent):
                answer = store(instead)
                return replace(answer, sent=answer.sent or sent)
        except (InputError, EncodeError) as error:
            return Answer(status=None, comment=str(error), withheld=True)

    return send


class PseudonymousUids(Container[str]):
    """UIDs at a destination, asked for by those of the node."""

    def __init__(self, there: Container[str], uid: Callable[[str], str]) -> None:
        self._there = there
        self._uid = uid

    def __contains__(self, sop_instance_uid: object) -> bool:
        return self._uid(str(sop_instance_uid)) in self._there
