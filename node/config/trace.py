"""``[trace]``: export of traces."""

from __future__ import annotations

from urllib.parse import urlsplit

from pydantic import field_validator

from node.config.table import Table


class Trace(Table):
    """OpenTelemetry: one trace for each study, sent when a job has ended."""

    endpoint: str = ""
    """Collector that receives OTLP over HTTP; empty: no traces are sent."""

    @field_validator("endpoint")
    @classmethod
    def _endpoint(cls, value: str) -> str:
        if value and urlsplit(value).scheme not in ("http", "https"):
            raise ValueError("give the collector's address for traces, such as http://host:4318/v1/traces")
        return value
