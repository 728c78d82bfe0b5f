"""``[trace]``: where traces of the stages go."""

from __future__ import annotations

from urllib.parse import urlsplit

from pydantic import field_validator

from node.config.table import Table


class Trace(Table):
    """OpenTelemetry: one trace for each study, told when a job has ended."""

    endpoint: str = ""
    """Collector that takes OTLP over HTTP; empty: no traces are sent."""

    @field_validator("endpoint")
    @classmethod
    def _endpoint(cls, value: str) -> str:
        if value and urlsplit(value).scheme not in ("http", "https"):
            raise ValueError("give the address for traces of the collector, http://host:4318/v1/traces")
        return value
