"""The version of a pipeline that an acceptance test is about, and whether one allows it to send results."""

from __future__ import annotations

import hashlib
import json

from sqlalchemy import Connection

from node.config import PipelineTable
from node.inference.pipeline_description import PipelineDescription
from node.inference.plugins import installed
from node.ledger.acceptances import PipelineVersion, accepted_with, is_accepted
from node.reasons import Reason, ReasonCode, reason


def options_digest(name: str, table: PipelineTable) -> str:
    """SHA-256 of factory, options and `after`: what the configuration has to do with results, whatever the name."""
    factory = table.factory or installed().get(name, name)
    after = {"after": table.after} if table.after else {}
    document = json.dumps({"factory": factory, "options": table.options, **after}, sort_keys=True, default=str)
    return hashlib.sha256(document.encode()).hexdigest()


def version_of(name: str, table: PipelineTable, description: PipelineDescription) -> PipelineVersion:
    """Return the version of a pipeline that was loaded."""
    return PipelineVersion(
        version=description.version, weights=description.weights_sha256, options=options_digest(name, table)
    )


def acceptance_refusal(
    connection: Connection, name: str, table: PipelineTable, description: PipelineDescription | None
) -> Reason | None:
    """Why what a pipeline made must not be sent; ``None``: it may.

    ``description`` is ``None`` after a failure: the report of it needs an accepted version with these options.
    """
    if not table.require_acceptance:
        return None
    if description is None:
        if accepted_with(connection, options_digest(name, table)):
            return None
        return reason(ReasonCode.NO_VERSION_ACCEPTED, pipeline=name)
    if is_accepted(connection, version_of(name, table, description)):
        return None
    weights = (description.weights_sha256 or "none")[:12]
    return reason(ReasonCode.VERSION_NOT_ACCEPTED, pipeline=name, version=description.version, weights=weights)
