"""Uploads to the receiver of this node, which takes the images as from any other sender."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from node.config import Config, Destination
from node.deliver.association import Peer, Timeouts
from node.errors import ConfigError, RejectedError
from node.receive.policy import Policy
from node.upload.file_result import FileResult
from node.upload.medium import MediumFile, opened_medium
from node.upload.sending import send_files


def upload_medium(config: Config, path: Path, folder: Path, calling_title: str = "") -> Iterator[FileResult]:
    """Send every instance of a folder, an archive or a file to the receiver on this machine; yield the results.

    ``folder``: for the members of an archive, which are unpacked one by one. Raises ``InputError`` when the archive
    cannot be read, and as ``upload_files``.
    """
    with opened_medium(path, folder) as files:
        yield from upload_files(config, files, calling_title)


def upload_files(config: Config, files: Iterable[MediumFile], calling_title: str = "") -> Iterator[FileResult]:
    """Send every instance among ``files`` to the receiver on this machine; yield the results.

    ``calling_title``: the sender that rules, callers and limits see; empty: the title of the node. Raises
    ``ConfigError`` when only a proxy may connect from this machine, ``UnreachableError`` or ``RejectedError`` when the
    receiver opens no association.
    """
    ours, calling_title = Destination.of_node(config.ae), calling_title or config.ae.title
    if Policy.of(config.ae).is_proxy(ours.host):
        raise ConfigError(f"[ae] proxies contains {ours.host}: only a proxy may connect from this machine to the node")
    try:
        yield from send_files(files, Peer.of("this node", ours), calling_title, Timeouts())
    except RejectedError as error:
        if not config.ae.callers:
            raise
        remedy = f"list {calling_title.strip()} in [ae] callers, for the address {ours.host}"
        raise RejectedError(f"{error}. To upload images, {remedy}.") from error
