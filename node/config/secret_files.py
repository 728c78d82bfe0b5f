"""The files of a configuration that nobody but the node may read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from node.config.config import Config


def secret_files(config: Config) -> Iterator[tuple[str, Path]]:
    """Yield key of ``config.toml`` and path of each; credentials of the service manager have no path of their own."""
    folder, web = config.storage.folder, config.web
    yield "[storage] folder", folder / "salt"
    if not config.storage.ledger_url:
        yield from (("[storage] folder", folder / f"ledger.sqlite{end}") for end in ("", "-wal", "-shm"))
    yield "[audit] file", Path(config.audit.file or folder / "audit.log")
    yield "[web] users_file", web.users_file or folder / "web-users"
    yield "[records] key_file", config.records.key_file or folder / "records-key"
    yield "[deidentify] key_file", config.deidentify.key_file or folder / "deidentify-key"
    keys: list[tuple[str, str | Path | None]] = [
        ("[ae.tls] key", config.ae.tls.key),
        ("[orders.tls] key", config.orders.tls.key),
        ("[fleet] key", config.fleet.key),
        ("[storage.object_store] credentials_file", config.storage.object_store.credentials_file),
        ("[web] key", web.key),
        ("[dicomweb] key", config.dicomweb.key),
        ("[web] proxy_secret_file", web.proxy_secret_file),
        ("[web.oidc] client_secret_file", web.oidc.client_secret_file),
        ("[notify] smtp_password_file", config.notify.smtp_password_file),
        ("[notify] webhook_file", config.notify.webhook_file),
    ]
    for name, destination in config.destinations.items():
        keys.append((f"[destinations.{name}] token_file", destination.token_file))
        keys.append((f"[destinations.{name}] client_secret_file", destination.client_secret_file))
        keys.append((f"[destinations.{name}.tls] key", destination.tls.key))
    for name, client in config.dicomweb.clients.items():
        keys.append((f"[dicomweb.clients.{name}] token_file", client.token_file))
    for key, path in keys:
        if path and "/" in str(path):
            yield key, Path(path)
