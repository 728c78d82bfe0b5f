"""Which keys of ``config.toml`` the machines of a fleet have in common, and which are of one machine."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from node.config.config import Config
from node.config.rules_text import FILE_KEYS

Key = tuple[str, ...]


class Part(StrEnum):
    """To whom a key belongs."""

    SHARED = "shared"
    """It decides what happens to an image, or who is told: published, and taken over by every machine."""
    CONFIRMED = "confirmed"
    """Published too; it names a program, a file or an address that gets secrets, or weakens encryption,
    isolation or de-identification.

    A machine takes it over only when its own file has it, or when its administrator confirms it there.
    """
    LOCAL = "local"
    """Of one machine: where it is, what it offers and bears, its files and secrets."""


_PARTS = {
    Part.SHARED: (
        "ae.require_called_title", "ae.callers",
        "storage.durability", "storage.copies", "storage.copies_missing", "storage.max_instance_gib",
        "storage.max_header_mib", "storage.max_inflated_mib", "storage.max_elements",
        "storage.object_store.pack_after_minutes", "storage.object_store.keep_local_days",
        "retention.*", "records.years", "feedback.*", "orders.accession", "orders.patient_id_authority", "orders.days",
        "orders.worklist.title", "orders.worklist.host", "orders.worklist.port", "orders.worklist.wait_seconds",
        "orders.worklist.retry_hours",
        "orders.ups.query", "orders.ups.poll_seconds", "orders.ups.source", "orders.ups.wait_hours",
        "orders.ups.update_method",
        "fetch.*", "series.*", "jobs.*",
        "notify.mail_to", "notify.mail_from", "notify.weekly_day", "notify.quality_to", "notify.queue_minutes",
        "notify.failed_hours", "notify.silence_hours", "notify.drift_analyses", "notify.disk_factor",
        "pipelines.*.options", "pipelines.*.after", "pipelines.*.title", "pipelines.*.license", "pipelines.*.stop",
        "pipelines.*.require_acceptance", "pipelines.*.similar_findings", "pipelines.*.similar_in_pdf",
        "pipelines.*.quota_gib",
        "procedures.*.*", "rules", "destinations.*",
    ),
    Part.CONFIRMED: (
        "storage.object_store.url", "storage.object_store.endpoint", "storage.object_store.region",
        "storage.object_store.allow_http", "storage.object_store.encryption", "storage.object_store.kms_key",
        "deidentify.read_text", "deidentify.masks",
        "orders.worklist.tls.enabled", "orders.worklist.tls.check_host", "orders.ups.url",
        "audit.syslog", "trace.endpoint",
        "notify.smtp_host", "notify.smtp_port", "notify.smtp_starttls", "notify.smtp_user", "notify.webhook_file",
        "pipelines.*.factory", "pipelines.*.weights", "pipelines.*.trust_group",
    ),
    Part.LOCAL: (
        "ae.title", "ae.address", "ae.port", "ae.max_associations", "ae.associations_per_minute",
        "ae.connections_per_address", "ae.proxies", "ae.processes", "ae.association_timeout_seconds",
        "ae.network_timeout_seconds", "ae.transfer_timeout_seconds", "ae.tls.*",
        "storage.folder", "storage.min_free_gib", "storage.ledger_url", "storage.object_store.credentials_file",
        "storage.object_store.ca", "storage.object_store.local_free_gib",
        "fleet.*", "records.key_file", "deidentify.key_file",
        "orders.enabled", "orders.address", "orders.port", "orders.senders", "orders.max_message_mib", "orders.tls.*",
        "orders.worklist.tls.certificate", "orders.worklist.tls.key", "orders.worklist.tls.ca",
        "orders.worklist.tls.crl", "orders.ups.token_file", "orders.ups.ca_file",
        "dicomweb.enabled", "dicomweb.address", "dicomweb.port", "dicomweb.certificate", "dicomweb.key",
        "dicomweb.link_base", "dicomweb.max_request_gib", "dicomweb.clients.*.*",
        "devices.*",
        "web.enabled", "web.address", "web.port", "web.certificate", "web.key", "web.users_file", "web.hosts",
        "web.link_base", "web.session_hours", "web.session_idle_minutes", "web.proxy_header", "web.proxy_secret_file",
        "web.show_patient", "web.language", "web.viewer_url", "web.oidc.*",
        "audit.file", "audit.ca", "notify.smtp_password_file", "notify.webhook",
    ),
}  # fmt: skip
"""``*``: any key or name. What a pipeline's ``options`` hold is looked at value by value, and ``options.run`` is local:
how a machine runs a container, or reaches an inference server."""
PARTS = MappingProxyType({tuple(name.split(".")): part for part, names in _PARTS.items() for name in names})
"""The part of every key of the configuration."""
OPTIONS: Key = ("pipelines", "*", "options")
SHARED = tuple(
    name for name in Config.model_fields if any(key[0] == name and PARTS[key] != Part.LOCAL for key in PARTS)
)
"""Tables of which something is shared."""
_CHARACTERS = 12


@lru_cache(maxsize=4096)
def part_of(key: Key) -> Part | None:
    """Return the part of a key; ``None`` for a table of which the parts differ, or that has keys of its own."""
    if len(key) == len(OPTIONS) + 1 and is_like(key[:-1], OPTIONS):
        return Part.LOCAL if key[-1] == "run" else Part.SHARED
    return next((part for pattern, part in PARTS.items() if is_like(key, pattern)), None)


def is_like(key: Key, pattern: Key) -> bool:
    """Whether a key is one of a pattern's."""
    return len(key) == len(pattern) and all(part in ("*", name) for name, part in zip(key, pattern, strict=True))


def values_of(table: dict[str, Any], above: Key = ()) -> Iterator[tuple[Key, Any]]:
    """Yield every key of a parsed file, and of each option of a pipeline, with its value."""
    for name, value in table.items():
        key = (*above, name)
        if isinstance(value, dict) and (part_of(key) is None or is_like(key, OPTIONS)):
            yield from values_of(value, key)
        else:
            yield key, value


def is_file(name: str, value: object) -> bool:
    """Whether a key names a file or folder, which may have another name on each machine."""
    return isinstance(value, Path) or name in (*FILE_KEYS, "file", "weights") or name.endswith("_file")


def shared_digests(config: Config) -> dict[str, str]:
    """Beginning of a SHA-256 of each shared table: of what is not the default and not of one machine."""
    return {name: _digest(getattr(config, name), (name,)) for name in SHARED}


def _digest(value: object, key: Key) -> str:
    text = json.dumps(to_jsonable_python(_shared(value, key)), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:_CHARACTERS]


def _shared(value: object, key: Key) -> Any:
    if isinstance(value, BaseModel):
        fields = type(value).model_fields
        values = {name: getattr(value, name) for name in fields}
        return {
            name: _shared(item, (*key, name))
            for name, item in values.items()
            if not is_file(name, item)
            and part_of((*key, name)) != Part.LOCAL
            and item != fields[name].get_default(call_default_factory=True)
        }
    if isinstance(value, dict):
        has_options = is_like(key[: len(OPTIONS)], OPTIONS)  # others have names, which may be like those of files
        return {
            name: _shared(item, (*key, name))
            for name, item in value.items()
            if not (has_options and is_file(name, item)) and part_of((*key, name)) != Part.LOCAL
        }
    return [_shared(item, key) for item in value] if isinstance(value, (list, tuple)) else value
