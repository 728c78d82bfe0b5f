"""Checks of pipelines: whether they load, with which weights, and whether their version is accepted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from node.check.result import Check
from node.config import Config, mask_references, suggest
from node.errors import NodeError
from node.inference.pipeline_description import PipelineDescription
from node.inference.pipeline_process import describe
from node.inference.tested_version import acceptance_refusal
from node.reasons import reason_text
from node.service import open_storage
from node.translation import gettext

_SHOWN_LABELS = 20


def describe_pipelines(config: Config) -> Iterator[dict[str, Any]]:
    """Name, algorithm, needs and weights digest of every pipeline, or the ``error`` of loading it; one by one."""
    for name in config.pipelines:
        try:
            licence = {"license": of} if (of := config.pipelines[name].license) else {}
            yield {"name": name, **asdict(describe(name, config)), **licence}
        except NodeError as error:
            yield {"name": name, "error": str(error)}


def pipeline(entry: dict[str, Any]) -> Check:
    """Check that a pipeline loads; ``entry``: one of ``describe_pipelines``."""
    name = gettext("pipeline {name}", name=entry["name"])
    if "error" in entry:
        return Check(name=name, good=False, found=entry["error"])
    algorithm = f"{entry['algorithm']} {entry['version']}"
    if entry["weights_sha256"]:
        digest = f"{entry['weights_sha256'][:12]}..."
        text = gettext("{algorithm}, weights SHA-256 {digest}", algorithm=algorithm, digest=digest)
    else:
        text = gettext("{algorithm}, without weights", algorithm=algorithm)
    text += gettext(", licence {licence}", licence=entry["license"]) if entry.get("license") else ""
    return Check(name=name, good=True, found=text)


def masks(config: Config, entries: Iterable[dict[str, Any]]) -> Iterator[Check]:
    """Report masks of another pipeline that it does not outline, where it states what it does.

    ``entries``: all of ``describe_pipelines``. That the other pipeline runs before is what ``node.config`` checks.
    """
    stated = {entry["name"]: entry.get("segment_labels") for entry in entries}
    for name, table in config.pipelines.items():
        for reference in mask_references(table):
            labels = stated.get(reference.pipeline)
            if labels is None or reference.label in labels:
                continue
            text = gettext(
                "{field} names {mask}, and pipeline {other} outlines no {label}",
                field=reference.field,
                mask=repr(reference.text),
                other=reference.pipeline,
                label=f"{reference.label!r}{suggest(reference.label, labels)}",
            )
            remedy = gettext("use one of its labels: {labels}", labels=_listed(labels))
            yield Check(name=gettext("pipeline {name}", name=name), good=False, found=text, remedy=remedy)


def _listed(labels: Sequence[str]) -> str:
    return ", ".join([*labels[:_SHOWN_LABELS], *(["..."] if len(labels) > _SHOWN_LABELS else [])])


def acceptance(config: Config, entry: dict[str, Any]) -> Iterator[Check]:
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
        yield Check(name=gettext("acceptance {name}", name=name), good=False, found=str(error))
        return
    if refusal is None:
        text = gettext("an approved report allows this version to send results")
        yield Check(name=gettext("acceptance {name}", name=name), good=True, found=text)
        return
    remedy = gettext(
        "its results are kept in shadow: ainode accept {name} FOLDER, then ainode acceptance approve REPORT", name=name
    )
    yield Check(name=gettext("acceptance {name}", name=name), good=True, found=reason_text(refusal), remedy=remedy)
