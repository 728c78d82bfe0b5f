"""Which series of a study the channels of a model take, as far as their names say so."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from node.adopt.metadata import ModelMetadata

THIS = "this"
"""The series that the rule matches, in the option ``inputs``."""
_MASK = ":"
"""In an input: a mask of another pipeline's result."""
_CONTRAST = r"t1[-_ ]?(w)?[-_ ]?(c|ce|gd|km|post|contrast)"
_SEQUENCES: tuple[tuple[str, dict[str, Any]], ...] = (
    (_CONTRAST, {"sequence_type": "T1", "contrast_agent": "given"}),
    (r"t1[-_ ]?(w|n)?", {"sequence_type": "T1", "contrast_agent": ["not given", "unknown"]}),
    (r"(t2[-_ ]?)?flair|t2f", {"sequence_type": "FLAIR"}),
    (r"t2[-_ ]?w?", {"sequence_type": "T2"}),
    (r"adc", {"sequence_type": "ADC"}),
    (r"dwi", {"sequence_type": "DWI"}),
    (r"swi", {"sequence_type": "SWI"}),
    (r"pd[-_ ]?w?", {"sequence_type": "PD"}),
)
"""Names of channels, and the characteristics that a rule asks for."""
_MAIN = "FLAIR"
"""The series that brain models are read on; results lie on its grid."""


@dataclass(frozen=True, kw_only=True)
class ChannelSeries:
    """The series that a rule has to find for a model."""

    match: dict[str, Any] = field(default_factory=dict)
    """Conditions of the series itself."""
    companions: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Conditions of the other ones, by name."""
    inputs: tuple[str, ...] = ()
    """The option of this name; empty: one channel."""
    missing: tuple[str, ...] = ()
    """What the names do not say."""


def channel_series(metadata: ModelMetadata, given: Sequence[str] | None) -> ChannelSeries:
    """Find the series of each channel; ``given``: the option ``inputs`` of the user."""
    channels = metadata.channels if len(metadata.channels) > 1 or given is None else (THIS,)
    if given:
        named = {name: characteristics(name) for name in given if name != THIS and _MASK not in name}
        own = next((characteristics(c) for c, name in zip(channels, given, strict=False) if name == THIS), {})
        return ChannelSeries(match=own, companions=named)
    if len(channels) < 2:
        return ChannelSeries(match=characteristics(channels[0]) if channels and metadata.modality != "CT" else {})
    kinds = [characteristics(channel) for channel in channels]
    unknown = [channel for channel, kind in zip(channels, kinds, strict=True) if not kind]
    if unknown or len({*map(_name, channels)}) < len(channels):
        why = (
            f"inputs: it takes {len(channels)} images ({', '.join(channels)}), and these names do not say which series "
            'they are; give --option \'inputs=["NAME", "this"]\' with the companions of a rule in this order'
        )
        return ChannelSeries(missing=(why,))
    main = next((n for n, kind in enumerate(kinds) if kind["sequence_type"] == _MAIN), 0)
    return ChannelSeries(
        match=kinds[main],
        companions={_name(c): kind for n, (c, kind) in enumerate(zip(channels, kinds, strict=True)) if n != main},
        inputs=tuple(THIS if n == main else _name(channel) for n, channel in enumerate(channels)),
    )


def characteristics(channel: str) -> dict[str, Any]:
    """Return the conditions for a series that a model calls ``channel``; none for a name that is not known."""
    name = channel.strip().lower()
    return next((dict(kind) for pattern, kind in _SEQUENCES if re.fullmatch(pattern, name)), {})


def _name(channel: str) -> str:
    """Name of a companion: letters and digits."""
    return re.sub(r"[^a-z0-9]+", "_", channel.lower()).strip("_")
