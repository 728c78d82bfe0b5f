"""``config.toml`` as frozen values. Read once; unknown keys, wrong types and impossible values are errors."""

from node.config.network import Ae, Caller
from node.config.reading import load, parse
from node.config.routing import DEFAULT_OBJECTS, NUMBER_OR_RANGE, NUMERIC_VRS, Destination, Rule
from node.config.storage import Retention, Storage
from node.config.table import suggest
from node.config.whole import Config
from node.config.work import Devices, JobsTable, PipelineTable, SeriesTable

__all__ = [
    "DEFAULT_OBJECTS",
    "NUMBER_OR_RANGE",
    "NUMERIC_VRS",
    "Ae",
    "Caller",
    "Config",
    "Destination",
    "Devices",
    "JobsTable",
    "PipelineTable",
    "Retention",
    "Rule",
    "SeriesTable",
    "Storage",
    "load",
    "parse",
    "suggest",
]
