"""The frame of a model card: what is known of a model is filled in, everything else stands as not stated."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from node.adopt.metadata import ModelMetadata
from node.adopt.proposal import Proposal
from node.adopt.stated_values import in_millimetres
from node.peer_text import escaped
from node.pipeline import content_digest
from node.wording import NOTICE

NOT_STATED = "not stated by the model"
CARD = "MODEL_CARD.md"
_SECOND = "MODEL_CARD.new.md"
_MOST_FILES = 30
_SEGMENTATIONS = (".nii.gz", ".nii", ".nrrd", ".mha")
_MARK = re.compile(r"\n<!-- ainode adopt wrote this text, SHA-256 ([0-9a-f]{64}) -->\n$")
_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>#|!])")


@dataclass(frozen=True, kw_only=True)
class CardFigures:
    """What was measured here."""

    algorithm: str
    """Name and version as the loaded model states them; empty: it does not load yet."""
    needs: str
    """In words."""
    fault: str
    runs: Sequence[str]
    """A line for each series on which it ran."""
    acceptance: str
    """Report of the acceptance test as text; empty: none."""


def card_text(proposal: Proposal, metadata: ModelMetadata, figures: CardFigures, path: Path) -> str:
    """Write the card of a model that lies at ``path``, with the headings of the shipped ones."""
    model = proposal.model
    codes = [
        f"| {_plain(structure.label)} | "
        + (
            f"{structure.code.value} {structure.code.scheme_designator} {_plain(structure.code.meaning)}"
            if structure.code
            else "to be chosen"
        )
        + f" | {f'guess: {structure.guess}' if structure.guess else ''} |"
        for structure in proposal.structures
    ]
    table = (
        ["| outlined | code | to check |", "|---|---|---|", *codes] if codes else [f"What it outlines: {NOT_STATED}."]
    )
    channels = ", ".join(metadata.channels)
    return "\n".join(
        [
            f"# {_plain(metadata.name or model.name)}",
            "",
            f"**{NOTICE}** This is a frame, written by `ainode adopt`: complete it before anybody relies on the model.",
            "",
            "## What it does",
            f"- Purpose: {_stated(metadata.about)}",
            f"- Algorithm: {_stated(figures.algorithm or ' '.join(filter(None, (metadata.name, metadata.version))))}",
            f"- Series it takes: {_stated(figures.needs)}",
            f"- Modality: {_stated(metadata.modality)}{' (a guess)' if metadata.modality_is_guess else ''}",
            f"- Inputs: {_stated(channels)}",
            f"- Grid: {_stated(metadata.grid or in_millimetres(metadata.spacing_mm, 'slice, row, column'))}",
            "",
            *table,
            "",
            "## Where it comes from",
            f"- Packaging: {metadata.kind or model.factory}, read from the model itself",
            f"- Authors: {_stated(metadata.authors)}",
            f"- Licence: {_stated(metadata.licence)}",
            f"- Version: {_stated(metadata.version)}",
            f"- References: {_stated(metadata.references)}",
            f"- SHA-256 of the whole: `{model.sha256}`",
            *_files(path),
            "",
            "## Data",
            _stated(metadata.data) + ".",
            "",
            "## Network",
            _stated(metadata.network) + ".",
            "",
            "## Training",
            _stated(metadata.training) + ".",
            "",
            "## Held-out figures",
            f"Of its author: {_stated(metadata.figures)}.",
            "",
            *_acceptance(figures),
            "",
            "## On this machine",
            *(figures.runs or [f"Not run here{f': {_plain(figures.fault)}' if figures.fault else ''}."]),
            "",
            "## Limits",
            f"Who and what it must not be used for, and what it is known to miss: {NOT_STATED}.",
        ]
    )


def write_card(folder: Path, text: str) -> Path:
    """Write the card to ``folder``; one that somebody has edited stays, and the new one gets a name of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / CARD
    if path.exists() and not _is_ours(path.read_text(encoding="utf-8")):
        path = folder / _SECOND
    digest = sha256(text.encode()).hexdigest()
    path.write_text(f"{text}\n<!-- ainode adopt wrote this text, SHA-256 {digest} -->\n", encoding="utf-8")
    return path


def _is_ours(text: str) -> bool:
    """Whether a card is as it was written."""
    mark = _MARK.search(text)
    return mark is not None and sha256(text[: mark.start()].encode()).hexdigest() == mark[1]


def _stated(text: str) -> str:
    return _plain(text.rstrip(".")) if text else NOT_STATED


def _plain(text: str) -> str:
    """Words of a model, without the marks of Markdown."""
    return _MARKDOWN.sub(r"\\\1", text)


def _files(path: Path) -> list[str]:
    """Digests of the files of a folder, without segmentations that a cross-validation left in it."""
    if not path.is_dir():
        return []
    files = sorted(file for file in path.rglob("*") if file.is_file() and not file.name.endswith(_SEGMENTATIONS))
    lines = [
        f"  - `{escaped(file.relative_to(path).as_posix())}`: `{content_digest(file)}`" for file in files[:_MOST_FILES]
    ]
    return lines + ([f"  - and {len(files) - _MOST_FILES} more files"] if len(files) > _MOST_FILES else [])


def _acceptance(figures: CardFigures) -> list[str]:
    if not figures.acceptance:
        return ["On studies of this site: not tested. `ainode accept` tests it where truth is known."]
    return [
        f"On studies of this site, by `ainode accept`; whether the model was trained on any of them is {NOT_STATED}:",
        "",
        "```",
        figures.acceptance,
        "```",
    ]
