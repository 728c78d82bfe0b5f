"""What a pipeline is: its algorithm and its needs, as its own confined process reports them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from node.errors import PipelineError
from node.peer_text import escaped, escaped_values

if TYPE_CHECKING:  # workers import no encoder
    from node.pipeline import Pipeline

_WORDS = {
    "modalities": "Modality {}",
    "body_parts": "Body Part Examined {}, or none",
    "images": "images one by one: {}",
    "views": "view {}",
    "lateralities": "laterality {}",
    "tomosynthesis": "slices of a tomosynthesis: {}",
    "min_slices": "at least {} slices",
    "max_slice_spacing_mm": "slice spacing up to {} mm",
    "max_pixel_spacing_mm": "pixel spacing up to {} mm",
    "planes": "plane {}",
    "min_coverage_mm": "at least {} mm from first to last slice",
    "min_field_mm": "images at least {} mm wide and high",
    "levels": "grey levels: {}",
    "volumes_by": "volumes that differ in {} alone",
    "regular_grid": "regular slice spacing: {}",
}
"""How each field of ``node.pipeline.Needs`` reads; those of a later version are shown by name."""


@dataclass(frozen=True, kw_only=True)
class PipelineDescription:
    """Algorithm and needs of a loaded pipeline."""

    algorithm: str
    version: str
    weights_sha256: str | None
    needs: dict[str, Any]
    """Those that differ from the default, as in ``node.pipeline.Needs``; sets are sorted lists."""
    segment_labels: tuple[str, ...] | None = None
    """Of all segments that it can return; ``None``: it does not state them."""

    @classmethod
    def of(cls, pipeline: Pipeline) -> PipelineDescription:
        """Describe a pipeline, in its own process."""
        usual = asdict(type(pipeline.needs)(modalities=frozenset()))
        needs = {k: v for k, v in asdict(pipeline.needs).items() if v != usual[k]}
        return cls(
            algorithm=pipeline.algorithm.name,
            version=pipeline.algorithm.version,
            weights_sha256=pipeline.algorithm.weights_sha256,
            needs={k: sorted(v) if isinstance(v, frozenset) else v for k, v in needs.items()},
            segment_labels=None if (labels := getattr(pipeline, "segment_labels", None)) is None else tuple(labels),
        )

    @classmethod
    def received(cls, document: dict[str, Any]) -> PipelineDescription:
        """Read what the process of a pipeline sent. Raises ``PipelineError`` for anything else."""
        try:
            texts = (document["algorithm"], document["version"], document["weights_sha256"] or "")
            needs, labels = document["needs"], document.get("segment_labels")
        except (KeyError, TypeError) as error:
            raise PipelineError(f"the process of the pipeline sent no description that can be read: {error}") from None
        modalities = needs.get("modalities", []) if isinstance(needs, dict) else None
        known = [*texts, *modalities] if isinstance(modalities, list) else [None]
        known += [] if labels is None else labels if isinstance(labels, list | tuple) else [None]
        if not all(isinstance(text, str) for text in known):
            raise PipelineError("the process of the pipeline sent no description that can be read: a wrong type")
        algorithm, version, digest = map(escaped, texts)
        return cls(
            algorithm=algorithm,
            version=version,
            weights_sha256=digest or None,
            needs=escaped_values(needs),
            segment_labels=None if labels is None else tuple(map(escaped, labels)),
        )


def needs_text(needs: Mapping[str, Any]) -> str:
    """The needs of a description in words."""
    return "; ".join(_WORDS.get(name, f"{name} {{}}").format(_value_text(value)) for name, value in needs.items())


def _value_text(value: Any) -> str:
    if isinstance(value, bool):
        return "required" if value else "not required"
    if isinstance(value, list):
        return " or ".join(map(str, value))
    if isinstance(value, dict):  # percentile: bounds
        return ", ".join(f"percentile {name} from {_range_text(bounds)}" for name, bounds in value.items())
    return f"{value:g}" if isinstance(value, float) else str(value)


def _range_text(bounds: Any) -> str:
    return " to ".join(map(_value_text, bounds)) if isinstance(bounds, list | tuple) else _value_text(bounds)
