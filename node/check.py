"""``ainode check``: readiness of machine, configuration and network; each failure names its remedy."""

from __future__ import annotations

import base64
import hashlib
import os
import stat
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from importlib.metadata import PackagePath, distribution
from pathlib import Path
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from node import __version__, compat
from node.check_ports import port_check, service_checks
from node.check_result import Check
from node.config import Config
from node.config.secret_files import secret_files
from node.deliver import echo
from node.errors import NodeError
from node.fleet.file_client import fault
from node.inference.pipeline_description import PipelineDescription
from node.inference.pipeline_process import describe
from node.inference.tested_version import acceptance_refusal
from node.ledger.holdings import file_services
from node.pytorch_build import build_advice, has_nvidia_gpu
from node.reasons import reason_text
from node.service import open_storage
from node.spool.free_space import space_of
from node.tls import path_of, server_context

SLOW_SYNC_SECONDS = 0.05
"""A disk slower than this to sync one small file limits the ingest rate to under 20 images/s per association."""


def check(config: Config, pipelines: Iterable[dict[str, Any]] | None = None) -> Iterator[Check]:
    """Run every check in turn; only a probe file in the storage folder is written.

    ``pipelines``: the result of ``describe_pipelines``, if it is known already.
    """
    yield _installation()
    yield from (Check(name="libraries", good=False, found=fault) for fault in compat.missing())
    yield Check(name="configuration", good=True, found=f"{len(config.rules)} rules, {len(config.pipelines)} pipelines")
    yield _guarded("storage", lambda: _storage(config))
    yield _guarded("ledger", lambda: _ledger(config))
    yield secrets_check(config)
    if config.ae.tls.enabled:
        yield _guarded("tls", lambda: _tls(config))
    yield port_check(config)
    if config.fleet.host:
        yield from _file_services(config)
    yield from (_guarded(name, look) for name, look in service_checks(config))
    yield _device(config)
    for entry in describe_pipelines(config) if pipelines is None else pipelines:
        yield _pipeline(entry)
        yield from _acceptance(config, entry)
    for name in config.destinations:
        yield _destination(config, name)


def _guarded(name: str, look: Callable[[], Check]) -> Check:
    try:
        return look()
    except NodeError as error:  # its message contains the remedy
        return Check(name=name, good=False, found=str(error))


def _installation() -> Check:
    """Check that no other distribution has overwritten files of `node` or `pipelines`."""
    ours = [file for file in distribution("ainode").files or () if file.parts[0] in ("ainode", "node", "pipelines")]
    changed = [str(file) for file in ours if not _as_recorded(file)]
    place = f"ainode {__version__} in {Path(__file__).parents[1]}"
    if changed:
        remedy = "another package has overwritten them: reinstall ainode in a virtual environment of its own"
        found = f"{place}: {len(changed)} files changed since installation: {', '.join(changed[:3])}"
        return Check(name="installation", good=False, found=found, remedy=remedy)
    return Check(name="installation", good=True, found=place)


def _as_recorded(file: PackagePath) -> bool:
    """Return whether the file has the digest of the wheel's RECORD (PEP 376: base64 without padding)."""
    if file.hash is None:  # compiled by pip, or recorded by an older one
        return True
    path = Path(str(file.locate()))
    digest = hashlib.new(file.hash.mode, path.read_bytes() if path.is_file() else b"").digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode() == file.hash.value


def _storage(config: Config) -> Check:
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
    found = f"{folder}: {space.free_gib:.0f} GiB free, one sync takes {seconds * 1000:.1f} ms"
    if space.is_below(config.storage.min_free_gib):
        remedy = (
            f"images are refused: free some space, or lower [storage] min_free_gib ({config.storage.min_free_gib:g})"
        )
        return Check(name="storage", good=False, found=found, remedy=remedy)
    if seconds > SLOW_SYNC_SECONDS:
        return Check(name="storage", good=False, found=found, remedy="receiving will be slow: use a local disk or SSD")
    return Check(name="storage", good=True, found=found)


def _ledger(config: Config) -> Check:
    engine, _ = open_storage(config)
    found = engine.url.render_as_string(hide_password=True)
    engine.dispose()
    return Check(name="ledger", good=True, found=found)


def secrets_check(config: Config) -> Check:
    """Check that other users of the machine cannot read or change ledger, keys, passwords and tokens."""
    found = {path: key for key, path in secret_files(config) if _is_open(path)}
    if not found:
        return Check(name="secrets", good=True, found="keys, passwords and ledger are closed to other users")
    named = ", ".join(f"{key} {path}" for path, key in found.items())
    remedy = f"chmod g-w,o-rwx {' '.join(map(str, found))}"
    return Check(name="secrets", good=False, found=f"{named}: other users can read or change it", remedy=remedy)


def _is_open(path: Path) -> bool:
    try:
        return bool(path.stat().st_mode & (stat.S_IRWXO | stat.S_IWGRP))
    except OSError:  # another check reports it
        return False


def _tls(config: Config) -> Check:
    server_context(config.ae.tls)
    asks = "required" if config.ae.tls.require_client_certificate else "optional"
    found = f"{config.ae.tls.certificate} is usable; client certificates are {asks}"
    key = path_of(config.ae.tls.ca).with_suffix(".key")
    if key.exists() and key != path_of(config.ae.tls.key):
        remedy = f"move {key} to another machine: whoever reads it can make certificates that this node accepts"
        return Check(
            name="tls", good=True, found=f"{found}; the key of its authority is on this machine", remedy=remedy
        )
    return Check(name="tls", good=True, found=found)


def _file_services(config: Config) -> Iterator[Check]:
    """Check that this machine can fetch from the file service of every machine that runs one."""
    try:
        engine, _ = open_storage(config)
        with engine.connect() as connection:
            services = file_services(connection)
        engine.dispose()
        faults = {url: fault(config.fleet, url) for url in services.values()}
    except (NodeError, SQLAlchemyError) as error:
        yield Check(name="fleet", good=False, found=str(error))
        return
    for url, why in faults.items():
        remedy = "compare [fleet] host with the names in its certificate, and ca on both; check the network"
        found = f"{url}: {why or 'serves files to this machine'}"
        yield Check(name="fleet", good=not why, found=found, remedy=remedy if why else "")
    if not faults:
        remedy = "start the node, and check again"
        yield Check(name="fleet", good=True, found="no file service is running", remedy=remedy)


def _device(config: Config) -> Check:
    import torch

    wanted = [d for d in config.devices.use if d.startswith("cuda")]
    have = [f"cuda:{i} {torch.cuda.get_device_name(i)}" for i in range(torch.cuda.device_count())]
    advice = build_advice(torch.__version__, torch.version.cuda, has_gpu=has_nvidia_gpu())
    if wanted and not have:
        remedy = advice or 'install the driver, or set [devices] use = ["cpu"]'
        return Check(
            name="device", good=False, found=f"{', '.join(wanted)} configured, no CUDA device found", remedy=remedy
        )
    build = f"PyTorch {torch.__version__}"
    found = ", ".join(have) or f"CPU, {os.cpu_count()} cores"
    return Check(name="device", good=True, found=f"{found}, {build}" if advice else found, remedy=advice)


def _pipeline(entry: dict[str, Any]) -> Check:
    name = f"pipeline {entry['name']}"
    if "error" in entry:
        return Check(name=name, good=False, found=entry["error"])
    digest = entry["weights_sha256"] or "none"
    found = f"{entry['algorithm']} {entry['version']}, weights SHA-256 {digest[:12]}..."
    found += f", licence {entry['license']}" if entry.get("license") else ""
    return Check(name=name, good=True, found=found)


def _acceptance(config: Config, entry: dict[str, Any]) -> Iterator[Check]:
    """Say whether the version of a pipeline that needs an acceptance report has one."""
    name = entry["name"]
    table = config.pipelines.get(name)
    if table is None or not table.require_acceptance or "error" in entry:
        return
    description = PipelineDescription.received(entry)
    try:
        engine, _ = open_storage(config)
        with engine.connect() as connection:
            refusal = acceptance_refusal(connection, name, table, description)
        engine.dispose()
    except (NodeError, SQLAlchemyError) as error:
        yield Check(name=f"acceptance {name}", good=False, found=str(error))
        return
    if refusal is None:
        yield Check(
            name=f"acceptance {name}", good=True, found="an approved report allows this version to send results"
        )
        return
    remedy = f"its results are kept in shadow: ainode accept {name} FOLDER, then ainode acceptance approve REPORT"
    yield Check(name=f"acceptance {name}", good=True, found=reason_text(refusal), remedy=remedy)


def _destination(config: Config, name: str) -> Check:
    to = config.destinations[name]
    answer = echo(name, to, config.ae.title)
    found = f"{to.place} answers in {answer.seconds * 1000:.0f} ms"
    return Check(name=f"destination {name}", good=answer.ok, found=found if answer.ok else answer.reason)


def describe_pipelines(config: Config) -> Iterator[dict[str, Any]]:
    """Name, algorithm, needs and weights digest of every pipeline, or the ``error`` of loading it; one by one."""
    for name in config.pipelines:
        try:
            licence = {"license": of} if (of := config.pipelines[name].license) else {}
            yield {"name": name, **asdict(describe(name, config)), **licence}
        except NodeError as error:
            yield {"name": name, "error": str(error)}
