"""UIDs of results, derived from everything that distinguishes one analysis from another."""

from __future__ import annotations

import hmac
import json
import uuid
from dataclasses import fields

from node import __version__
from node.results.analysis import Analysis, Source
from node.results.identity import Identity

_NAMESPACE = uuid.UUID("7b1f2c9e-52f1-5d0c-9a53-0f4b6c1f7e21")


def derive_uid(*parts: object) -> str:
    """Derive a UID from its parts (PS3.5 B.2, name-based UUID), so that a retry makes the same instance."""
    return f"2.25.{uuid.uuid5(_NAMESPACE, json.dumps([str(p) for p in parts])).int}"


def analysis_key(analysis: Analysis, source: Source, identity: Identity | None = None) -> str:
    """Digest (HMAC-SHA-256 with the node's secret) of everything that distinguishes one analysis from another.

    ``identity``: of the source; ``None``: it is read.

    Not the findings and not the time: the same pipeline on the same images makes the same instances, whenever it runs.
    """
    algorithm, first = analysis.algorithm, source.datasets[0]
    parts = [
        [str(first.get("StudyInstanceUID", "")), source.series_instance_uid],
        sorted(str(d.SOPInstanceUID) for d in source.datasets),
        [(int(e.tag), _text(e.value)) for e in (identity or Identity.read(source)).elements],
        sorted(analysis.inputs),
        analysis.pipeline,
        {f.name: getattr(algorithm, f.name) for f in fields(algorithm)},
        __version__,
        [analysis.generation, analysis.version, *analysis.images],
        [analysis.outcome, analysis.reason, analysis.caveat, analysis.withheld],
        [analysis.title, *analysis.languages],
        *filter(None, [analysis.link, repr(analysis.similar) if analysis.similar else ""]),
    ]
    message = json.dumps(parts, sort_keys=True, default=dict)  # parameters may be any mapping
    return hmac.digest(analysis.salt.encode(), message.encode(), "sha256").hex()


def _text(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)


def device_uid(analysis: Analysis) -> str:
    """Device UID and Device Observer UID: one per algorithm, version and weights, the same on every node.

    It names no instance, so there is nothing in foreseeing it; archives group results of several nodes by it.
    """
    algorithm = analysis.algorithm
    return derive_uid("device", algorithm.name, algorithm.version, algorithm.weights_sha256)
