"""The tables of a proposal as text for ``config.toml``; what is a guess or missing is marked in a comment."""

from __future__ import annotations

from collections.abc import Iterator

from node.adopt.proposal import MODEL_FILE, Proposal
from node.adopt.structure_codes import StructureCode, code_values
from node.adopt.table_lines import key_text, line_of, table_header, value_text

_NNUNET = "pipelines.nnunet:create"
_UNSTATED = {
    MODEL_FILE: {
        "window": "without it the images are standardised (mean 0, standard deviation 1)",
        "orientation": "without it slices, rows and columns grow towards H, P, L",
        "activation": "without it softmax: each voxel belongs to its strongest channel",
    },
    _NNUNET: {"orientation": "that of the training files matters where left and right do; without it H, P, L"},
}
"""Options that change results and that models seldom state, with what happens without them."""
_NO_VALUE = frozenset({"structures", "segments"})


def tables_text(proposal: Proposal) -> str:
    """Write ``[pipelines.NAME]`` with its options and structures."""
    model = proposal.model
    head = [table_header("pipelines", model.name), line_of("factory", model.factory)]
    head.append(line_of("weights", str(model.path)))
    if proposal.licence is not None:
        head.append(line_of("license", proposal.licence.value, f"guess: {proposal.licence.guess}"))
    lines = [*head, "", table_header("pipelines", model.name, "options"), *_options(proposal)]
    return "\n".join(lines) + "\n"


def _options(proposal: Proposal) -> Iterator[str]:
    for name, option in proposal.options.items():
        if name not in _NO_VALUE:
            yield line_of(name, option.value, f"guess: {option.guess}" if option.guess else "")
    for sentence in proposal.missing:
        yield f"# MISSING {sentence}"
    for name, effect in _UNSTATED.get(proposal.model.factory, {}).items():
        if name not in proposal.options:
            yield f"# {name}: not stated by the model; {effect}"
    if (segments := proposal.options.get("segments")) is not None:
        yield from _segments(proposal, segments.value)
    else:
        yield from _structures(proposal)


def _segments(proposal: Proposal, segments: object) -> Iterator[str]:
    """One table in the array ``segments`` for each channel."""
    notes = {structure.label: structure.guess for structure in proposal.structures}
    for segment in segments if isinstance(segments, list) else ():
        guess = notes.get(str(segment.get("label")), "")
        yield ""
        yield table_header("pipelines", proposal.model.name, "options", "segments", array=True)
        for key, value in segment.items():
            yield line_of(key, value, f"guess: {guess}" if guess and key == "type" else "")


def _structures(proposal: Proposal) -> Iterator[str]:
    if not proposal.structures:
        return
    yield ""
    yield table_header("pipelines", proposal.model.name, "options", "structures")
    for structure in proposal.structures:
        if structure.code is None:
            yield _unknown(structure)
        else:
            yield line_of(
                structure.label, code_values(structure.code), f"guess: {structure.guess}" if structure.guess else ""
            )


def _unknown(structure: StructureCode) -> str:
    """A comment in place of a code."""
    if structure.candidates:
        several = "; ".join(value_text(code_values(code)) for code in structure.candidates)
        return f"# {key_text(structure.label)}: several codes have its words, choose one: {several}"
    return (
        f"# {key_text(structure.label)}: no code was found; fill in [value, scheme, meaning], see `ainode codes find`"
    )
