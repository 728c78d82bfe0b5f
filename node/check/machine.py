"""Checks of the machine: installation, storage, ledger, files that others can read, device."""

from __future__ import annotations

import base64
import hashlib
import os
import stat
import time
import uuid
from collections.abc import Iterator
from importlib.metadata import PackagePath, distribution
from pathlib import Path

from node import __version__
from node.check.result import Check, guarded
from node.config import Config
from node.config.secret_files import secret_files
from node.deidentify.text_recognition import missing_package
from node.ledger.server_sessions import splits_sessions
from node.operate.notification_channels import check_files
from node.pytorch_build import build_advice, has_nvidia_gpu
from node.service import open_storage
from node.spool.file_system import file_system_of
from node.spool.free_space import space_of
from node.translation import decimal, gettext

SLOW_SYNC_SECONDS = 0.05
"""A disk slower than this to sync one small file limits the ingest rate to under 20 images/s per association."""


def installation() -> Check:
    """Check that no other distribution has overwritten files of `node` or `pipelines`."""
    ours = [file for file in distribution("ainode").files or () if file.parts[0] in ("ainode", "node", "pipelines")]
    changed = [str(file) for file in ours if not _as_recorded(file)]
    place = gettext("ainode {version} in {folder}", version=__version__, folder=Path(__file__).parents[2])
    if changed:
        remedy = gettext("another package has overwritten them: reinstall ainode in a virtual environment of its own")
        text = gettext(
            "{place}: {number} files changed since installation: {files}",
            place=place,
            number=len(changed),
            files=", ".join(changed[:3]),
        )
        return Check(name="installation", good=False, found=text, remedy=remedy)
    return Check(name="installation", good=True, found=place)


def text_recognition(config: Config) -> Iterator[Check]:
    """Check that text in the pixels of images can be read, where it is to be before they leave under pseudonyms."""
    if not config.deidentify.read_text:
        return
    fault = missing_package()
    text = fault or gettext("[deidentify] read_text: text in pixels is recognised")
    yield Check(name="text recognition", good=not fault, found=text)


def _as_recorded(file: PackagePath) -> bool:
    """Return whether the file has the digest of the wheel's RECORD (PEP 376: base64 without padding)."""
    if file.hash is None:  # compiled by pip, or recorded by an older one
        return True
    path = Path(str(file.locate()))
    digest = hashlib.new(file.hash.mode, path.read_bytes() if path.is_file() else b"").digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode() == file.hash.value


def storage(config: Config) -> Check:
    """Check that files can be written, and how long one takes to be durable."""
    folder = config.storage.folder
    open_storage(config)
    probe = folder / f".probe-{uuid.uuid4().hex}"
    started = time.perf_counter()
    with probe.open("wb") as file:
        file.write(b"\0" * 4096)
        file.flush()
        os.fsync(file.fileno())
    seconds = time.perf_counter() - started
    probe.unlink()
    space = space_of(folder)
    text = gettext(
        "{folder}: {free} GiB free, one sync takes {milliseconds} ms",
        folder=folder,
        free=f"{space.free_gib:.0f}",
        milliseconds=decimal(f"{seconds * 1000:.1f}"),
    )
    system = file_system_of(folder)
    if system is not None and not system.is_tested:
        place = {"found": text, "kind": system.kind, "mount_point": system.mount_point}
        text = gettext("{found}, on a file system of the kind {kind} ({mount_point})", **place)
        if not system.is_supported:
            remedy = gettext(
                "acknowledged images can be lost: put [storage] folder on a local disk; several machines share their "
                "files over [fleet], without a network file system"
            )
            return Check(name="storage", good=False, found=text, remedy=remedy)
    if space.is_below(config.storage.min_free_gib):
        remedy = gettext(
            "images are refused: free some space, or lower [storage] min_free_gib ({limit})",
            limit=f"{config.storage.min_free_gib:g}",
        )
        return Check(name="storage", good=False, found=text, remedy=remedy)
    if seconds > SLOW_SYNC_SECONDS:
        remedy = gettext("receiving will be slow: use a local disk or SSD")
        return Check(name="storage", good=False, found=text, remedy=remedy)
    if system is not None and not system.is_tested:
        remedy = gettext("the node was not tested on it: prefer a local disk for each machine, with copies = 2")
        return Check(name="storage", good=True, found=text, remedy=remedy)
    return Check(name="storage", good=True, found=text)


def ledger(config: Config) -> Check:
    """Check that the ledger can be opened."""
    engine, _ = open_storage(config)
    url = engine.url.render_as_string(hide_password=True)
    try:
        if splits_sessions(engine):
            remedy = gettext("set pool_mode = session in the pooler, or connect to PostgreSQL itself")
            split = gettext("{url}: a pooler gives each transaction to another session", url=url)
            return Check(name="ledger", good=False, found=split, remedy=remedy)
    finally:
        engine.dispose()
    return Check(name="ledger", good=True, found=url)


def secrets(config: Config) -> Check:
    """Check that other users of the machine cannot read or change ledger, keys, passwords and tokens."""
    files = {path: key for key, path in secret_files(config) if _is_open(path)}
    if not files:
        closed = gettext("keys, passwords and ledger are closed to other users")
        return Check(name="secrets", good=True, found=closed)
    named = ", ".join(f"{key} {path}" for path, key in files.items())
    remedy = f"chmod g-w,o-rwx {' '.join(map(str, files))}"
    opened = gettext("{files}: other users can read or change it", files=named)
    return Check(name="secrets", good=False, found=opened, remedy=remedy)


def notification(config: Config) -> Iterator[Check]:
    """Check that the files of ``[notify]`` can be used: they are read only when there is a problem to tell."""
    if config.notify.webhook_file is not None or config.notify.smtp_password_file is not None:
        yield guarded("notify", lambda: _files_of_notification(config))


def _files_of_notification(config: Config) -> Check:
    try:
        check_files(config)
    except OSError as error:
        text = gettext("{file}: {error}", file=error.filename, error=error.strerror)
        return Check(
            name="notify", good=False, found=text, remedy=gettext("write the file, or remove it from [notify]")
        )
    return Check(name="notify", good=True, found=gettext("files of webhook and password can be read"))


def _is_open(path: Path) -> bool:
    try:
        return bool(path.stat().st_mode & (stat.S_IRWXO | stat.S_IWGRP))
    except OSError:  # another check reports it
        return False


def device(config: Config) -> Check:
    """Check that the configured devices exist, and that the build of PyTorch suits the machine."""
    import torch

    wanted = [d for d in config.devices.use if d.startswith("cuda")]
    have = [f"cuda:{i} {torch.cuda.get_device_name(i)}" for i in range(torch.cuda.device_count())]
    advice = build_advice(torch.__version__, torch.version.cuda, has_gpu=has_nvidia_gpu())
    if wanted and not have:
        remedy = advice or gettext("install the driver, or set {setting}", setting='[devices] use = ["cpu"]')
        missing = gettext("{devices} configured, no CUDA device found", devices=", ".join(wanted))
        return Check(name="device", good=False, found=missing, remedy=remedy)
    devices = ", ".join(have) or gettext("CPU, {number} cores", number=os.cpu_count())
    build = f", PyTorch {torch.__version__}" if advice else ""
    return Check(name="device", good=True, found=f"{devices}{build}", remedy=advice)
