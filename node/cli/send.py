"""``ainode send``: give the images of a folder, a ZIP archive or a CD to this node."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from node.cli.options import config_option, echo, in_language_of_user, json_option, load, print_json, progress_bar
from node.errors import DeliveryError, InputError
from node.translation import gettext, ngettext

if TYPE_CHECKING:
    from node.config import Config
    from node.upload import FileResult, UploadSummary


@click.command()
@config_option
@json_option
@click.option("--title", default="", metavar="AET", help="Calling AE title.  [that of the node]")
@click.argument("paths", metavar="PATH...", nargs=-1, required=True,
                type=click.Path(exists=True, path_type=Path))  # fmt: skip
@in_language_of_user
def send(*, config_path: Path, as_json: bool, title: str, paths: tuple[Path, ...]) -> None:
    """Send images of a folder, a ZIP archive or a CD to this node.

    The receiver on this machine takes them as from any sender. What it has already is not stored again, so an upload
    that was interrupted is simply repeated. A DICOMDIR is checked for images that are not on the medium.

    Exits with status 6 if an image was refused or is missing.
    """
    from node.upload import UploadSummary

    config = load(config_path)
    results: list[FileResult] = []
    hidden = as_json or not sys.stdout.isatty()
    try:
        with tempfile.TemporaryDirectory() as folder, progress_bar(gettext("Sending"), hidden=hidden) as moved:
            for path in paths:
                for result in _uploaded(config, path, Path(folder), title):
                    results.append(result)
                    moved(ngettext("{number} file", "{number} files", len(results)), len(results), 0)
    finally:  # what was stored before the receiver went away is stored
        summary = UploadSummary.of(results)
        if as_json:
            print_json(asdict(summary))
        elif results:
            _show(summary)
    if summary.refused or summary.missing:
        counts = f"{len(summary.refused)} refused, {len(summary.missing)} missing"
        raise DeliveryError(f"not everything is stored: {counts}; correct that and send it again")
    if not summary.stored:
        raise InputError("no DICOM file there; give a folder, a ZIP archive or files with DICOM images")


def _uploaded(config: Config, path: Path, folder: Path, title: str) -> Iterator[FileResult]:
    from node.upload import upload_medium

    try:
        yield from upload_medium(config, path, folder, title)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _show(summary: UploadSummary) -> None:
    for reason, count, first in summary.reasons:
        files = ngettext("{number} file was refused", "{number} files were refused", count)
        echo(gettext("{files}: {reason} (first: {first})", files=files, reason=reason, first=first))
    for uid in summary.missing:
        echo(gettext("The DICOMDIR names instance {uid}, which is not on the medium.", uid=uid))
    if summary.other:
        echo(ngettext("{number} other file is no DICOM file", "{number} other files are no DICOM files", summary.other))
    echo(ngettext("{number} instance is stored", "{number} instances are stored", summary.stored))


VERBS = (send,)
