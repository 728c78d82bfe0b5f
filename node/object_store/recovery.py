"""Packs that the ledger does not know: what a lost or an older ledger has to get back from the store."""

from __future__ import annotations

import os
import re
import struct
import uuid
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import sqlalchemy as sa

from node.errors import InputError
from node.ledger.engine import begin_immediate
from node.ledger.holdings import RecordedFile, recorded_files
from node.ledger.instances import hold_receipts
from node.ledger.packed_files import PackedFile
from node.ledger.packs import NewPack, claim_pack, known_packs, record_pack
from node.object_store.pack_file import FOLDER, pack_name
from node.object_store.store import STALE_SECONDS, Objects
from node.receive.recovery import record_files
from node.spool import CACHE, Spool, digest_of
from node.spool.cache import Cache

_NAME = re.compile(rf"{FOLDER}/[0-9a-f]{{64}}\.zip")
_UID = r"[0-9]+(?:\.[0-9]+)*"
_PATH = re.compile(
    rf"incoming/({_UID})/({_UID})/{_UID}\.dcm|conflicts/({_UID})/({_UID})/{_UID}\.[0-9a-f]{{16}}\.dcm", re.ASCII
)
_AT_ONCE = 500
_HEADER = struct.Struct("<26xHH")
"""Lengths of name and extra field in the header of a member (APPNOTE 4.3.7)."""
_HEADER_SIZE = 30


class RecoveredPack(NamedTuple):
    """What became of the files of one pack."""

    recorded: int
    """Images that the ledger did not know, and has now."""
    known: int
    """Those that it knew, and are packed now."""
    left: int
    """Those that it knows with other content, or rejects."""


def unknown_packs(engine: sa.Engine, objects: Objects) -> list[str]:
    """Return the names of packs in the store that have no row in the ledger, or one of an upload long ago."""
    names = sorted(of.name for of in objects.names(FOLDER) if _NAME.fullmatch(of.name))
    unknown = []
    for first in range(0, len(names), _AT_ONCE):
        part = names[first : first + _AT_ONCE]
        with engine.connect() as connection:
            known = known_packs(connection, part, STALE_SECONDS)
        unknown += [name for name in part if name not in known]
    return unknown


def recover_pack(engine: sa.Engine, spool: Spool, objects: Objects, name: str) -> RecoveredPack:
    """Record the files of a pack: those that the ledger does not know are put into the spool and recorded there.

    Done again after a crash it goes on. Raises ``InputError`` when the object is no pack, or damaged.
    """
    cache = Cache(spool.folder / CACHE)
    with cache.draft() as draft:
        with draft.open("xb") as file:
            for part in objects.stream(name, objects.size(name) or 0):
                file.write(part)
        with draft.open("rb") as file:
            if pack_name(digest_of(file)) != name:
                raise InputError(f"{name} is damaged: its content is not the one that its name says")
        files = local_index(draft, name)
        with engine.connect() as connection:
            recorded = recorded_files(connection, files)
        new = {path: of for path, of in files.items() if path not in recorded}
        _extract(engine, spool, cache, draft, new)
        size = draft.stat().st_size
    claim = uuid.uuid4().hex
    first = next(match for path in files if (match := _PATH.fullmatch(path)))
    study, series_uid = [uid for uid in first.groups() if uid]
    pack = NewPack(name=name, claim=claim, study_instance_uid=study, series_instance_uid=series_uid, size=size)
    with begin_immediate(engine) as connection:
        hold_receipts(connection)
        now_recorded = recorded_files(connection, files)
        right = {
            path: of for path, of in files.items() if path in now_recorded and now_recorded[path].digest == of.digest
        }
        if claim_pack(connection, pack, 0.0):
            record_pack(connection, name, claim, right)
    return RecoveredPack(len(new.keys() & right.keys()), len(recorded.keys() & right.keys()), len(files) - len(right))


def _digest_of(recorded: Mapping[str, RecordedFile], path: str) -> str | None:
    return recorded[path].digest if path in recorded else None


def local_index(file: Path, name: str) -> dict[str, PackedFile]:
    """Return path and place of the files in a pack on this machine. Raises ``InputError`` when it is none of ours."""
    files = {}
    try:
        with zipfile.ZipFile(file) as archive, file.open("rb") as content:
            for member in archive.infolist():
                if not _PATH.fullmatch(member.filename) or member.compress_type != zipfile.ZIP_STORED:
                    raise InputError(f"{name} holds {member.filename!r}, which no pack of this node has")
                content.seek(member.header_offset)
                lengths = _HEADER.unpack(content.read(_HEADER_SIZE))
                position = member.header_offset + _HEADER_SIZE + sum(lengths)
                files[member.filename] = PackedFile(name, position, member.file_size, member.comment.decode())
    except (zipfile.BadZipFile, UnicodeDecodeError, struct.error) as error:
        raise InputError(f"{name} is no pack: {error}") from error
    if not files:
        raise InputError(f"{name} is empty")
    return files


def _extract(engine: sa.Engine, spool: Spool, cache: Cache, pack: Path, files: dict[str, PackedFile]) -> None:
    """Put files of a pack into the spool, and record them as those of a receiver that has died."""
    with pack.open("rb") as content:
        for path, of in files.items():
            with cache.draft() as draft:
                content.seek(of.position)
                with draft.open("xb") as file:
                    left = of.size
                    while left and (block := content.read(min(left, 1 << 20))):
                        file.write(block)
                        left -= len(block)
                    file.flush()
                    os.fsync(file.fileno())
                with draft.open("rb") as file:
                    if digest_of(file, of.digest) != of.digest:
                        raise InputError(f"{of.pack}: {path} is not what its index says")
                spool.place(draft, path)
                record_files(engine, spool, [draft])
