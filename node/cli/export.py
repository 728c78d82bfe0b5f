"""``ainode export``: what readers have verified, as a training data set."""

from __future__ import annotations

from pathlib import Path

import click

from node.cli.options import config_option, echo, json_option, load, local_user, print_json, progress_bar


@click.command()
@config_option
@json_option
@click.argument("pipeline")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
def export(*, config_path: Path, as_json: bool, pipeline: str, folder: Path) -> None:
    """Write verified results of PIPELINE as a training data set.

    FOLDER, new or empty, gets NIfTI images and maps of lesions in the form of nnU-Net v2, splits by patient and a data
    card. Only analyses count that are still stored and judged completely. The files hold no DICOM header.
    """
    from node.feedback.data_set import as_text, export_data_set
    from node.operate.export_acts import record_export
    from node.service import open_storage

    engine, spool = open_storage(load(config_path))
    with progress_bar("reading verdicts", hidden=as_json) as show:
        written = export_data_set(engine, spool, pipeline, folder, show)
    record_export(engine, pipeline, len(written.cases), who=local_user())
    if as_json:
        cases = [
            {"case": case.name, "patient": case.patient, "scanner": case.exported.scanner} for case in written.cases
        ]
        print_json({"cases": cases, "labels": written.labels, "left_out": written.left_out})
    else:
        echo(as_text(written, folder))


VERBS = (export,)
